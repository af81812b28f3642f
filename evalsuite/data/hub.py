"""Datasets on the hub. ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` are honoured by the library beneath."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.data.documents import SPLIT_NAMES, Findings, note
from evalsuite.data.readers import SUFFIXES, check_columns
from evalsuite.errors import DataError


@dataclass(frozen=True)
class HubDataset:
    """rows: (split, row number from 1, cells). label_names: of a label column that stores class indices, else empty."""

    rows: Iterator[tuple[str, int, Any]]
    label_names: list[str]


def is_hub_id(data: str) -> bool:
    """Whether ``data`` names a hub dataset: it looks like ``owner/name[@revision]`` and no such file is at hand."""
    looks = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?", data) is not None
    return looks and not data.lower().endswith(SUFFIXES) and not Path(data).expanduser().exists()


def read_hub(data: str, subset: str, columns: Sequence[str], label: str, findings: Findings) -> HubDataset:
    """Opens ``owner/name[@revision]``. Splits that are none of train, validation, test are noted and not read.

    Raises:
        DataError: the dataset is absent or gated, the hub cannot be reached, or a column is missing.
    """
    name, _, revision = data.partition("@")
    dataset = load_dataset_dict(name, subset or None, revision or None)
    splits = {}
    for split, part in dataset.items():
        if known := SPLIT_NAMES.get(str(split)):
            splits[known] = part
        else:
            note(findings, "split not used", str(split))
    if "train" not in splits:
        raise DataError(f"hub dataset {name!r} has no train split, only {', '.join(map(str, dataset))}")
    for split, part in splits.items():
        check_columns(columns, part.column_names, f"hub dataset {name!r} ({split})")
    feature = splits["train"].features[label]
    feature = getattr(feature, "feature", feature)  # the member type of a list column
    if len(splits) == 1:
        splits = {"": splits["train"]}  # no split of its own: 80/10/10
    wanted = list(dict.fromkeys(columns))
    rows = (
        (split, number, row)
        for split, part in splits.items()
        for number, row in enumerate(part.select_columns(wanted), 1)
    )
    return HubDataset(rows, list(getattr(feature, "names", None) or []))


def load_dataset_dict(name: str, subset: str | None, revision: str | None, **more: Any) -> Any:
    """``datasets.load_dataset``, with every way it fails turned into one line that says what to do."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, subset, revision=revision, **more)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"cannot load the hub dataset {name!r}{f' at {revision}' if revision else ''}: {reason}. See "
            f"https://huggingface.co/datasets/{name}; if it is gated, accept its terms there and run `hf auth login`; "
            "without a network, name a local copy (there is no file or folder of that name here)"
        ) from error
