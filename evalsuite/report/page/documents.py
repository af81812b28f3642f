"""Which documents the best systems get wrong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsuite.reliability import confidence
from evalsuite.report.page.collect import Field
from evalsuite.report.page.content import Cell, Part, number, short, table
from evalsuite.samples import read_texts

LISTED = 15
LONGEST_TEXT = 400


@dataclass(frozen=True)
class Miss:
    """A document that systems get wrong: how many of them, and how sure these are of their wrong answer on average."""

    row: int
    wrong: int
    sure: float
    said: str


def worst(field: Field) -> list[Miss]:
    """The documents that at least half of the best systems get wrong, most of them first, then the surest."""
    systems = field.best
    n = field.documents
    wrong, sure, tries = np.zeros((3, n))
    said: list[dict[tuple[int, ...], int]] = [{} for _ in range(n)]
    for system in systems:
        share = np.zeros(n)
        for samples in system.samples:
            answered = np.asarray(samples.status, dtype=np.str_) == "ok"
            missed = answered & (samples.gold != samples.predicted).any(axis=1)
            share += missed / len(system.samples)
            if samples.probabilities is not None and missed.any():
                sure[missed] += confidence(samples.probabilities[missed], field.multilabel)
                tries += missed
            for row in np.flatnonzero(missed):
                labels = tuple(np.flatnonzero(samples.predicted[row]).tolist())
                said[row][labels] = said[row].get(labels, 0) + 1
        wrong += share >= 0.5
    mean = sure / np.maximum(tries, 1)
    order = np.lexsort((-mean, -wrong))[:LISTED]
    needed = max(1, (len(systems) + 1) // 2)
    return [
        Miss(int(row), int(wrong[row]), float(mean[row]), _names(field, _commonest(said[row])))
        for row in order
        if wrong[row] >= needed
    ]


def _commonest(said: dict[tuple[int, ...], int]) -> tuple[int, ...]:
    return max(sorted(said), key=said.__getitem__, default=())


def _names(field: Field, labels: Sequence[int]) -> str:
    return ", ".join(short(field.labels[label], 30) for label in labels) or "none"


def documents(field: Field) -> Part:
    """The worst documents, with their text where the runs hold it and the task is not private."""
    title = "Worst documents"
    found = worst(field)
    if not found:
        return Part("documents", title)
    private = any(results["data"]["private"] for results in field.results)
    first = field.systems[0]
    samples = first.samples[0]
    hashes = [samples.hashes[miss.row] for miss in found]
    texts = {} if private else read_texts(first.group.runs[0].directory, hashes)
    rows: list[list[Any]] = []
    for miss, key in zip(found, hashes, strict=True):
        text = Cell(short(texts[key], LONGEST_TEXT), kind="text") if key in texts else None
        due = _names(field, np.flatnonzero(samples.gold[miss.row]).tolist())
        agreed = Cell(f"{miss.wrong} of {len(field.best)}", key=miss.wrong)
        head = [Cell(short(key, 12), kind="code"), due, miss.said, agreed, number(miss.sure or None, "{:.2f}".format)]
        rows.append([*head, text] if texts else head)
    columns = ["document", "gold", "mostly predicted", "systems wrong", "how sure", *(["text"] if texts else [])]
    told = (
        f"Wrong in at least half of the best {len(field.best)} systems, the surest mistakes first; a system is wrong "
        "where half of its seeds are. What all good systems are surely wrong about is often mislabelled: start there."
    )
    why = ("The task is private: its documents are named by their hash alone.",) if private else ()
    listed = table(title, columns, rows, heads=3, sortable=True, words=frozenset({"text"}))
    return Part("documents", title, (told, *why), (listed,))
