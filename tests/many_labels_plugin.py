"""Tasks with as many labels as WIPO-Alpha has subclasses, for the tests."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from evalsuite import Example, Options, Splits, Task

LABELS = tuple(
    f"{section}{number:02d}{letter}" for section, number, letter in product("ABCDEFGH", range(1, 8), "BCDFGHJKL")
)[:451]
SIZES = {"train": 6, "validation": 4, "test": 4}


def load(options: Options, cache: Path, multilabel: bool) -> Splits:
    """A few documents that name their codes, and labels of which most occur nowhere."""

    def document(split: str, row: int) -> Example:
        gold = [(97 * row) % len(LABELS), (31 * row + 7) % len(LABELS)][: 2 if multilabel else 1]
        words = " ".join(f"an apparatus of the kind {LABELS[label]}" for label in gold)
        return Example(f"{split}-{row}", f"{words}, {split} {row}", tuple(sorted(set(gold))))

    splits = {split: [document(split, row) for row in range(size)] for split, size in SIZES.items()}
    return Splits(LABELS, **splits, multilabel=multilabel)


def evalsuite_register_tasks() -> Iterable[Task]:
    return [
        Task(
            "many", functools.partial(load, multilabel=True), Options, multilabel=True, description="any of 451 labels"
        ),
        Task("one_of_many", functools.partial(load, multilabel=False), Options, description="one of 451 labels"),
    ]
