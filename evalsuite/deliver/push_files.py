"""What of a run, or of an exported folder, is published: the model, its card and its results, and nothing else.

Documents, logs, states of training and what is said of this machine stay; see ``LEFT_OUT``. Files that name folders of
this machine are rewritten for the upload; on disk nothing is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from evalsuite import bundled
from evalsuite.config import read_yaml
from evalsuite.deliver.export import PROVENANCE
from evalsuite.deliver.push_card import licence_of, split_card
from evalsuite.deliver.push_paths import is_local, last_part, local_paths, paths_in_code, replace_known, without_paths
from evalsuite.errors import StoreError
from evalsuite.opening import CONFIG
from evalsuite.report.card import PRIVATE
from evalsuite.results import BUNDLED
from evalsuite.store import MARKER, RESULTS, open_run

CARD = "README.md"
ADAPTER = "adapter_config.json"
BASE = "base_model_name_or_path"
# Patterns of names, or of folders, and why what has them is not published.
LEFT_OUT: Mapping[str, str] = {
    "samples_*": "documents",
    "predictions*": "documents",
    "*.csv": "documents",
    "*.tsv": "documents",
    "*.jsonl": "documents",
    "*.parquet": "documents",
    "*.arrow": "documents",
    "log.txt": "log",
    "*.log": "log",
    "tensorboard": "log",
    "wandb": "log",
    "mlruns": "log",
    "checkpoints": "state of training",
    "checkpoint-*": "state of training",
    "optimizer*": "state of training",
    "scheduler*": "state of training",
    "rng_state*": "state of training",
    "trainer_state.json": "state of training",
    "training_args.bin": "state of training",
    "environment.json": "about this machine",
    MARKER: "of the run directory",
    "__pycache__": "hidden",
    ".*": "hidden",
}
# Keys of a config.yaml that say where and how a run was done here, and are of no use elsewhere.
OF_THIS_MACHINE = ("origins", "output_path", "overwrite", "device")
VOCABULARIES = {"tokenizer.json", "vocab.json", "vocabulary.json"}
LARGEST_JSON = 1_000_000


@dataclass(frozen=True)
class Upload:
    """One file: its path in the repository, and its content, as on disk or rewritten."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Parcel:
    """What is to be published.

    card: the model card's text. files: everything else, by name. left_out: file -> reason. private: the task's text is.
    base: the base model's hub id, None where there is none. licence: of a base model that is a folder here, as its card
    says. warnings: what the person should know.
    """

    card: str
    files: tuple[Upload, ...]
    left_out: Mapping[str, str]
    private: bool
    base: str | None
    licence: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes, the card included."""
        return len(self.card.encode()) + sum(file.size for file in self.files)


def pack(directory: Path, base_model: str | None = None) -> Parcel:
    """Collect the files of a complete run, or of a folder that ``evalsuite export`` made.

    ``base_model``: hub id to name in place of a base model that is a folder of this machine.

    Raises:
        StoreError: neither of the two, or a run that was changed since it was written.
    """
    results = _results(directory)
    config = read_yaml(directory / CONFIG) if (directory / CONFIG).is_file() else {}
    kept, left_out = _sort_out(directory)
    text = (directory / CARD).read_text(encoding="utf-8")
    declared, _ = split_card(text)
    adapted = _bases_of_adapters(directory, kept)
    stated = declared.get("base_model")
    models = [model for model in (stated, results.get("model"), *adapted) if isinstance(model, str)]
    options = {key: value for key, value in config.items() if key not in OF_THIS_MACHINE}
    places = [*paths_in_code(text), results.get("data", {}).get("source"), str(directory.resolve())]
    known = local_paths(options, results.get("options"), models, places)
    if len(Path.home().parts) > 1:
        known[str(Path.home())] = "~"
    if url := options.get("method_options", {}).get("base_url"):
        known[url] = "an endpoint"  # its address may be nobody's business either
    if base_model is not None:
        known |= {model: base_model for model in models if is_local(model)}
    warnings = []
    whole = any(PurePosixPath(name).name == "config.json" for name in kept)
    if base_model is None and not whole and (homeless := [model for model in models if _is_here(model)]):
        warnings.append(
            f"the base model is a folder of this machine, {last_part(homeless[0])}, which nobody else has:"
            " name its hub id with --base_model ID"
        )
    if results.get("reload_failed"):
        warnings.append("the saved model does not repeat the trained one's answers: see reload_check in results.json")
    return Parcel(
        card=replace_known(text, known),
        files=tuple(Upload(name, _published(directory / name, known)) for name in kept if name != CARD),
        left_out=left_out,
        private=bool(results["data"]["private"]) if results else PRIVATE in text,
        base=base_model or (stated if isinstance(stated, str) and not _is_here(stated) else None),
        licence=next(filter(None, map(_licence, models)), {}),
        warnings=tuple(warnings),
    )


def _results(directory: Path) -> Mapping[str, Any]:
    """The results of a run, checked against its hashes; none of an exported folder."""
    return {} if _is_export(directory) else open_run(directory, verify=True).results


def _is_export(directory: Path) -> bool:
    return (directory / PROVENANCE).is_file() and (directory / CARD).is_file()


def _sort_out(directory: Path) -> tuple[list[str], dict[str, str]]:
    """(names of files to publish, file -> reason of those that stay); a link to elsewhere is never followed."""
    own = None if _is_export(directory) else json.loads((directory / MARKER).read_text(encoding="utf-8"))
    kept, left_out = [], {}
    for path in sorted(path for path in directory.rglob("*") if path.is_symlink() or path.is_file()):
        name = path.relative_to(directory).as_posix()
        reason = "a link" if path.is_symlink() else _why_not(name)
        if reason is None and own is not None and name not in own:
            reason = "came after the run"
        if reason is None:
            kept.append(name)
        else:
            left_out[name] = reason
    return kept, left_out


def _why_not(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    return next((why for mark, why in LEFT_OUT.items() if any(fnmatch(part, mark) for part in parts)), None)


def _is_here(model: str) -> bool:
    return model == BUNDLED or is_local(model)


def _licence(model: str) -> dict[str, str]:
    card = (bundled.path() if model == BUNDLED else Path(model)) / CARD
    return licence_of(split_card(card.read_text(encoding="utf-8"))[0]) if _is_here(model) and card.is_file() else {}


def _bases_of_adapters(directory: Path, kept: list[str]) -> list[str]:
    adapters = [directory / name for name in kept if PurePosixPath(name).name == ADAPTER]
    bases = [json.loads(path.read_text(encoding="utf-8")).get(BASE) for path in adapters]
    return [base for base in bases if base]


def _published(path: Path, known: Mapping[str, str]) -> Path | bytes:
    """A file as it is, or its content without the folders of this machine."""
    if path.name == CONFIG:
        data = {key: value for key, value in read_yaml(path).items() if key not in OF_THIS_MACHINE}
        return yaml.safe_dump(without_paths(data, known), sort_keys=False, allow_unicode=True).encode()
    if path.suffix != ".json" or path.name in VOCABULARIES or path.stat().st_size > LARGEST_JSON:
        return path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is no JSON and cannot be checked for private paths: {error}") from None
    clean = without_paths(data, known, sentences=path.name in (RESULTS, PROVENANCE))
    if path.name == RESULTS:
        clean.pop("origins", None)
    return path if clean == data else (json.dumps(clean, indent=2, ensure_ascii=False) + "\n").encode()
