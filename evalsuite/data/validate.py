"""Checks of a dataset before anything is trained on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from evalsuite.contracts import Example, SplitName, Splits
from evalsuite.data.near import near_copies
from evalsuite.data.splits import text_hash

NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, and what to do about it.

    split: "train", "validation", "test", or "source" for what the reader itself noted. rows: ids of the documents,
    or names of the labels for "class missing". severity: "error" where results on this data could not be believed.
    """

    name: str
    split: str
    rows: tuple[str, ...]
    severity: Literal["error", "warning"] = "warning"
    advice: str = ""
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", len(self.rows))


def validate(splits: Splits, *, max_chars: int = 50_000, near_threshold: float | None = 0.8) -> list[Finding]:
    """Everything that is suspicious about a dataset, errors first; an empty list where nothing is.

    max_chars: a document with more characters is over-long. near_threshold: see ``evalsuite.data.near``; None skips
    the search for near copies, which takes about a minute for 120,000 documents.
    """
    findings = [
        *(Finding(name, "source", tuple(rows), advice=_READER_ADVICE) for name, rows in splits.findings.items()),
        *chain.from_iterable(_check_split(splits, name, max_chars) for name in NAMES),
        *_check_leakage(splits, near_threshold),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "error")


_READER_ADVICE = "what the reader repaired or left out; look at the named rows in the source"

# U+FFFD, NUL, C1 controls, and UTF-8 that was read as a one-byte encoding ("Ã©", "â€œ", "Â°").
_MISREAD = re.compile("\ufffd|\x00|[\x80-\x9f]|Ã[\x80-\xbf‘’“”•–—˜™š›œžŸ€‚ƒ„…†‡ˆ‰Š‹ŒŽ]|Â[\xa0-\xbf]|â€")


def _check_split(splits: Splits, name: SplitName, max_chars: int) -> Iterator[Finding]:
    examples = splits.split(name)
    if not len(examples):
        yield Finding("empty split", name, (name,), "error", "give this split documents, or a source that can be split")
        return
    checks: list[tuple[str, Callable[[str], bool], str]] = [
        (
            "empty text",
            lambda text: not text.strip(),
            "a method still answers, without a reason; check text and fields",
        ),
        ("wrong encoding", lambda text: _MISREAD.search(text) is not None, "name the file's encoding"),
        (f"longer than {max_chars} characters", lambda text: len(text) > max_chars, "it will be cut to max_length"),
    ]
    rows: dict[str, list[str]] = {check: [] for check, _, _ in checks}
    rows.update({"text is None or NaN": [], "duplicate text": []})
    seen: set[str] = set()
    present: set[int] = set()
    for example in examples:
        present.update(example.labels)
        if not isinstance(example.text, str):
            rows["text is None or NaN"].append(example.id)
            continue
        for check, holds, _ in checks:
            if holds(example.text):
                rows[check].append(example.id)
        digest = text_hash(example.text)
        if digest in seen and example.text.strip():
            rows["duplicate text"].append(example.id)
        seen.add(digest)
    advice = {check: text for check, _, text in checks}
    advice["duplicate text"] = "copies count several times; remove them unless they are meant"
    for check, ids in rows.items():
        if ids:
            severity: Literal["error", "warning"] = "error" if "NaN" in check else "warning"
            yield Finding(check, name, tuple(ids), severity, advice.get(check, "leave these rows out of the source"))
    if missing := tuple(label for index, label in enumerate(splits.labels) if index not in present):
        yield Finding("class missing", name, missing, advice="merge rare classes, or give more documents")


def _check_leakage(splits: Splits, near_threshold: float | None) -> Iterator[Finding]:
    """Documents of validation and test that are in train too; of test, also those that are in validation."""
    train = _hashes(splits.train)
    validation = _hashes(splits.validation)
    if rows := tuple(example.id for example in _texts(splits.validation) if text_hash(example.text) in train):
        yield Finding(
            "copy in train", "validation", rows, advice="early stopping sees trained-on text; remove the copies"
        )
    test, known = list(_texts(splits.test)), train | validation
    copies = [text_hash(example.text) in known for example in test]
    if rows := tuple(example.id for example, copy in zip(test, copies, strict=True) if copy):
        yield Finding(
            "copy in train or validation", "test", rows, "error", "remove the copies: scores on them are recall"
        )
    if near_threshold is None:
        return
    others = [example for example, copy in zip(test, copies, strict=True) if not copy]
    references = (example.text for example in chain(_texts(splits.train), _texts(splits.validation)))
    near = near_copies([example.text for example in others], references, near_threshold)
    if near:
        rows = tuple(others[position].id for position in near)
        advice = f"three-word shingles overlap by {near_threshold} (Jaccard) or more; remove what is the same document"
        yield Finding("near copy in train or validation", "test", rows, advice=advice)


def _texts(examples: Iterable[Example]) -> Iterator[Example]:
    """The examples that have a text to compare."""
    for example in examples:
        if isinstance(example.text, str) and example.text.strip():
            yield example


def _hashes(examples: Iterable[Example]) -> set[str]:
    return {text_hash(example.text) for example in _texts(examples)}
