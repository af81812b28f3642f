"""Whether training has taught a method anything that can be told from always giving the most frequent answer.

Shapes: n documents, m training documents, k labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evalsuite.contracts import Bools
from evalsuite.counts import bootstrap_sums, label_statistics, percentile_interval, summaries
from evalsuite.metrics import Bootstrap
from evalsuite.thresholds import best_threshold

SHARE = 0.99
"""Share of the documents with one and the same answer from which on a method has collapsed."""

MIN_DOCUMENTS = 20
"""Fewer documents tell nothing: the interval of their macro-F1 includes nearly everything."""

QUICK = Bootstrap(resamples=1_999)
"""Enough for a yes or no."""


@dataclass(frozen=True)
class Collapse:
    """The verdict on one trained method, and what it rests on.

    collapsed: None where it cannot be told. reasons: why it collapsed, or why nobody can tell; empty where it did not.
    documents: those of validation that were answered. share: of them, those with the most frequent answer. interval:
    95% bootstrap of ``f1_macro``. majority_f1_macro: what always giving the most frequent answer of train scores.
    """

    collapsed: bool | None
    reasons: tuple[str, ...] = ()
    documents: int = 0
    share: float | None = None
    f1_macro: float | None = None
    interval: tuple[float, float] | None = None
    majority_f1_macro: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def detect_collapse(
    gold: Bools,
    predicted: Bools,
    majority: Bools,
    status: Sequence[str],
    bootstrap: Bootstrap = QUICK,
) -> Collapse:
    """Judge decisions [n, k] on documents that were not trained on.

    A method has collapsed where it gives one answer to 99% of the documents, or where its macro-F1 is not above that of
    ``majority`` (see :func:`majority_decisions`) by its own interval. Failed documents are left out, invalid ones
    are wrong.
    """
    states = np.asarray(status, dtype=np.str_)
    answered, invalid, ok = states != "failed", states == "invalid", states == "ok"
    n = int(answered.sum())
    if n < MIN_DOCUMENTS:
        return Collapse(None, (f"{n} validation documents are too few to tell (at least {MIN_DOCUMENTS})",), n)
    statistics = label_statistics(gold[answered], predicted[answered], invalid[answered])
    drawn = summaries(bootstrap_sums(statistics, bootstrap.resamples, bootstrap.seed), n)["f1_macro"]
    own, floor = _f1_macro(statistics), _f1_macro(label_statistics(gold[answered], majority[answered]))
    interval = percentile_interval(drawn)
    if interval is None:
        return Collapse(None, ("no label occurs in the validation documents or in what was predicted",), n)
    share = _largest_group(predicted[ok]) / n
    reasons = []
    if share >= SHARE:
        reasons.append(f"one answer is given to {share:.1%} of {n} validation documents")
    if not interval[0] > floor:
        reasons.append(
            f"macro-F1 on {n} validation documents is {own:.3f} (95% interval {interval[0]:.3f} to {interval[1]:.3f}), "
            f"not above the {floor:.3f} of always giving the most frequent answer"
        )
    return Collapse(bool(reasons), tuple(reasons), n, share, own, interval, floor)


def majority_decisions(train: Bools, gold: Bools, multilabel: bool) -> Bools:
    """What a method that reads no text decides, [n, k], from the gold labels of train [m, k].

    Single label: the most frequent one. Multi-label: every label as often as in train, at the one threshold that suits
    ``gold`` [n, k] best.
    """
    frequencies = train.mean(axis=0)
    if not multilabel:
        return np.tile(np.arange(train.shape[1]) == frequencies.argmax(), (len(gold), 1))
    chances = np.tile(frequencies, (len(gold), 1))
    return np.asarray(chances >= best_threshold(chances, gold, "f1_macro"))


def _f1_macro(statistics: Bools) -> float:
    return float(summaries(statistics.sum(axis=0), len(statistics))["f1_macro"])


def _largest_group(rows: Bools) -> int:
    """How often the most frequent row occurs."""
    if not len(rows):
        return 0
    return int(np.unique(np.packbits(rows, axis=1), axis=0, return_counts=True)[1].max())
