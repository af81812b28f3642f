"""How a sentence-embedding model makes one vector of a text: read from its ``modules.json``, without its package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from evalsuite.errors import ModelError
from evalsuite.llm.loading.source import resolve_model
from evalsuite.llm.options import ModelOptions

# One name a pooling has there, and ours
NAMES = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "max": "max", "max_tokens": "max"}
NAMES |= {"lasttoken": "last"}


class SentencePooling(NamedTuple):
    """The pooling, and whether vectors are brought to length 1."""

    pooling: str
    normalize: bool


def sentence_pooling(options: ModelOptions) -> SentencePooling | None:
    """What a sentence-embedding model's files say; None for a model that has no ``modules.json``.

    Raises:
        ModelError: the files cannot be read, or ask for something that is not done here.
    """
    found = _file(options, "modules.json")
    if found is None:
        return None
    try:
        modules = {entry["type"].rpartition(".")[2]: entry["path"] for entry in json.loads(found.read_text("utf-8"))}
        settings = _file(options, f"{modules['Pooling']}/config.json") if "Pooling" in modules else None
        pooling = json.loads(settings.read_text("utf-8")) if settings else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read how {options.model} makes embeddings: {error}; name pooling") from error
    modes = [name.removeprefix("pooling_mode_") for name, on in pooling.items() if on is True and "_mode_" in name]
    modes += [pooling["pooling_mode"]] if isinstance(pooling.get("pooling_mode"), str) else []
    others = [name for name in modules if name not in ("Transformer", "Pooling", "Normalize")]
    if others or len(modes) != 1 or modes[0] not in NAMES:
        raise ModelError(
            f"{options.model} makes embeddings by {', '.join([*modules, *modes])}; of these only one pooling of"
            " cls, mean, max or last and a normalisation are done here; name pooling to have the plain model"
        )
    return SentencePooling(NAMES[modes[0]], "Normalize" in modules)


def _file(options: ModelOptions, name: str) -> Path | None:
    from transformers.utils import cached_file

    source, revision = resolve_model(options.model)
    found: Any = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)
