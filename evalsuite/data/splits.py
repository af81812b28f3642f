"""Text hashes, and the splits that follow from them.

A document's hash, and nothing else, says where it goes, so copies of a text stay together and new rows move nobody.
The one exception is written at ``hold_out``.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

from evalsuite.contracts import Example, Splits
from evalsuite.errors import DataError

SHARE = 0.1
"""Share of the documents that a missing validation split takes from train, and a missing test split likewise."""

MINIMUM = 5
"""Validation documents that every class is topped up to, where it has at least twice as many."""

Labels = tuple[int, ...]
SplitRule = Literal["hash", "latest"]


def normalise(text: str) -> str:
    """NFKC, case folded, runs of white space as one space: what two copies of a text have in common."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> str:
    """BLAKE2b-128 of the normalised text, in hexadecimal: equal for copies, and the same on every machine."""
    return hashlib.blake2b(normalise(text).encode(), digest_size=16).hexdigest()


def document_hash(example: Example) -> str:
    """BLAKE2b-128 of an example's id, exact text and gold labels, in hexadecimal."""
    parts = (example.id, example.text, ",".join(map(str, example.labels)))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def fingerprint(splits: Splits) -> str:
    """BLAKE2b-128 over label names, their order, and the id, text, gold labels and split of every document."""
    digest = hashlib.blake2b(repr((splits.labels, splits.multilabel)).encode(), digest_size=16)
    for name, examples in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        digest.update(f"{name} {len(examples)}\n".encode())
        for example in examples:
            digest.update(document_hash(example).encode())
    return digest.hexdigest()


def hash_fraction(digest: str) -> float:
    """A hexadecimal hash as a number in [0, 1)."""
    return int(digest[:13], 16) / 16**13  # 52 bits: exact in a double


def hold_out(
    hashes: Sequence[str],
    gold: Sequence[Labels],
    order: Sequence[tuple[float, ...]],
    taken: Collection[int],
    minimum: int = MINIMUM,
) -> set[int]:
    """The rows of a validation split: ``taken``, all copies of these, and more of each class that has too few.

    A class with fewer than ``minimum`` distinct texts among them is topped up with its next ones by ``order`` (n keys
    that sort), rarest class first, and never with more than half of its texts. So a new row moves another document
    only where it takes the place of a topped-up one of its own class.
    """
    chosen = {hashes[row] for row in taken}
    by_label: dict[int, dict[str, None]] = defaultdict(dict)
    for row in sorted(range(len(hashes)), key=lambda row: (order[row], hashes[row])):
        for label in gold[row]:
            by_label[label][hashes[row]] = None
    for _, texts in sorted(by_label.items(), key=lambda item: (len(item[1]), item[0])):
        wanted = min(minimum, len(texts) // 2) - sum(text in chosen for text in texts)
        spare = [text for text in texts if text not in chosen]
        chosen.update(spare[: max(0, wanted)])
    for texts in by_label.values():
        if all(text in chosen for text in texts):
            chosen.discard(list(texts)[-1])  # no class loses its last training text
    return {row for row, text in enumerate(hashes) if text in chosen}


def assign(
    sources: Sequence[str],
    hashes: Sequence[str],
    gold: Sequence[Labels | None],
    dates: Sequence[str] = (),
    validation: SplitRule = "hash",
) -> dict[str, list[int]]:
    """Rows of each split, in the order of the source. Rows whose ``gold`` is None are in none.

    sources: the split that the source puts each row in, "" where it does not say; dates: ISO 8601, for "latest".

    A source without a test split gives 10% of its documents to one by hash; without a validation split, 10% by hash
    or, with "latest", the 10% of train that are latest by date, in both cases topped up (see ``hold_out``). The test
    split is never topped up: it has to keep the natural frequencies.

    Raises:
        DataError: "latest", and a training document has no date.
    """
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for row, labels in enumerate(gold):
        if labels is not None:
            rows[sources[row] or "train"].append(row)
    if not rows["test"]:
        rows["test"] = [row for row in rows["train"] if SHARE <= hash_fraction(hashes[row]) < 2 * SHARE]
        rows["train"] = _without(rows["train"], rows["test"])
    if not rows["validation"]:
        train = rows["train"]
        order = _order(validation, [hashes[row] for row in train], [dates[row] for row in train] if dates else [])
        if validation == "latest":
            taken = sorted(range(len(train)), key=order.__getitem__)[: round(len(train) * SHARE)]
        else:
            taken = [position for position, (fraction,) in enumerate(order) if fraction < SHARE]
        held_out = hold_out([hashes[row] for row in train], [gold[row] or () for row in train], order, taken)
        rows["validation"] = [train[position] for position in sorted(held_out)]
        rows["train"] = _without(train, rows["validation"])
    return rows


def _order(validation: SplitRule, hashes: Sequence[str], dates: Sequence[str]) -> list[tuple[float, ...]]:
    """Sort keys: who goes to validation first."""
    fractions = [hash_fraction(digest) for digest in hashes]
    if validation == "hash":
        return [(fraction,) for fraction in fractions]
    if len(dates) < len(hashes) or not all(dates):
        raise DataError("validation=latest needs a date for every training document; use validation=hash")
    return [(-float(date.replace("-", "")), fraction) for date, fraction in zip(dates, fractions, strict=True)]


def _without(rows: list[int], removed: list[int]) -> list[int]:
    gone = set(removed)
    return [row for row in rows if row not in gone]
