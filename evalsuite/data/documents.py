"""What every reader produces: documents whose labels are still names, and a list-like view of them as examples."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

from evalsuite.contracts import Example, Splits
from evalsuite.data.splits import Labels, SplitRule, assign, text_hash
from evalsuite.errors import DataError

Findings = dict[str, list[str]]
"""What a reader repaired, skipped or noticed, by a stable name -> the ids of the rows it concerns."""

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The spellings of a split that readers know."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its source has it. ``split`` is "" where the source has none; ``date`` is ISO 8601 or ""."""

    id: str
    text: str
    labels: tuple[str, ...]
    split: str = ""
    date: str = ""


@dataclass
class Corpus:
    """Documents by column, in the order of their source. ``texts`` may live on disk; the other columns are in memory.

    ``hashes`` are the hashes of the normalised texts (see ``evalsuite.data.splits.text_hash``).
    """

    ids: list[str]
    texts: Sequence[str]
    labels: list[tuple[str, ...]]
    splits: list[str]
    dates: list[str]
    hashes: list[str]
    findings: Findings = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def collect(cls, documents: Iterable[Document], findings: Findings) -> Corpus:
        """Holds ``documents`` in memory. ``findings`` may still grow while they are read."""
        rows = list(documents)
        return cls(
            ids=[row.id for row in rows],
            texts=[row.text for row in rows],
            labels=[row.labels for row in rows],
            splits=[row.split for row in rows],
            dates=[row.date for row in rows],
            hashes=[text_hash(row.text) for row in rows],
            findings=findings,
        )


class Examples(Sequence[Example]):
    """Some documents as examples, made on access, so that texts on disk stay there.

    rows: which documents, in order; gold: the label indices of each of these rows. Nothing else of a corpus is kept.
    """

    def __init__(
        self, ids: Sequence[str], texts: Sequence[str], rows: Sequence[int], gold: Sequence[tuple[int, ...]]
    ) -> None:
        self._ids, self._texts, self._rows, self._gold = ids, texts, rows, gold

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self._ids, self._texts, self._rows[index], self._gold[index])
        row = self._rows[index]
        return Example(self._ids[row], self._texts[row], self._gold[index])

    def __iter__(self) -> Iterator[Example]:
        for row, gold in zip(self._rows, self._gold, strict=True):
            yield Example(self._ids[row], self._texts[row], gold)


class UniqueIds:
    """Makes document ids unique within a split: the second "a" becomes "a#2", and the findings say so."""

    def __init__(self, findings: Findings) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._findings = findings

    def __call__(self, identifier: str, split: str) -> str:
        unique, copies = identifier, 1
        while (split, unique) in self._seen:
            copies += 1
            unique = f"{identifier}#{copies}"
        if copies > 1:
            note(self._findings, "duplicate id", unique)
        self._seen.add((split, unique))
        return unique


def note(findings: Findings, name: str, row: str) -> None:
    """Adds ``row`` to the finding ``name``."""
    findings.setdefault(name, []).append(row)


def build_splits(
    corpus: Corpus,
    labels: Sequence[str],
    gold: Sequence[Labels | None],
    *,
    multilabel: bool,
    validation: SplitRule = "hash",
    descriptions: Mapping[str, str] | None = None,
    synthetic: bool = False,
) -> Splits:
    """The splits of a corpus whose documents have the label indices ``gold`` (None: left out, and said in findings).

    Raises:
        DataError: no document to train on or none to test on, or anything that ``Splits`` refuses.
    """
    rows = assign(corpus.splits, corpus.hashes, gold, corpus.dates, validation)
    for name in ("train", "test"):
        if not rows[name]:
            raise DataError(
                f"no usable document for the {name} split (read {len(corpus)}; "
                f"{_summary(corpus) or 'nothing was left out'}); name files for both splits, or give more rows"
            )
    shared: dict[Labels, Labels] = {(): ()}  # documents with the same labels hold one tuple

    def examples(chosen: Sequence[int]) -> Examples:
        own = [shared.setdefault(labels, labels) for labels in (gold[row] or () for row in chosen)]
        return Examples(corpus.ids, corpus.texts, array("q", chosen), own)

    train, held_out, test = (examples(rows[name]) for name in rows)
    return Splits(
        labels=tuple(labels),
        train=train,
        validation=held_out,
        test=test,
        multilabel=multilabel,
        descriptions={name: text for name, text in (descriptions or {}).items() if name in set(labels)},
        findings=corpus.findings,
        synthetic=synthetic,
    )


def _summary(corpus: Corpus) -> str:
    return ", ".join(f"{name}: {len(ids)}" for name, ids in corpus.findings.items())
