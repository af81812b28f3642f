"""Where multi-label scores become labels, chosen to maximise a metric: thresholds, or a number of labels a document.

Shapes: n documents, k labels, g candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools
from evalsuite.counts import label_statistics, summaries

Array = npt.NDArray[np.float64]

# Steps of a tenth in log-odds, 0.0009 to 0.9991: as fine near 0, where the thresholds of rare labels lie, as near 1.
CANDIDATES: Array = 1 / (1 + np.exp(-np.arange(-70, 71) / 10))
TUNABLE = ("accuracy", "f1_micro", "f1_macro", "f1_weighted")


def best_threshold(probabilities: npt.NDArray[np.floating[Any]], gold: Bools, metric: str) -> float:
    """The one threshold for all labels that maximises ``metric`` (one of TUNABLE); of equals, the nearest to 0.5."""
    sums = [label_statistics(gold, probabilities >= candidate).sum(axis=0) for candidate in CANDIDATES]
    return _pick(summaries(sums, len(gold))[metric])


def best_thresholds(probabilities: npt.NDArray[np.floating[Any]], gold: Bools) -> Array:
    """The threshold [k] of each label that maximises its own F1; of equals, the nearest to 0.5."""
    hits, either = np.zeros((2, len(CANDIDATES), gold.shape[1]), np.int64)
    for row, candidate in enumerate(CANDIDATES):  # one table [n, k] at a time
        predicted = probabilities >= candidate
        hits[row], either[row] = (predicted & gold).sum(axis=0), predicted.sum(axis=0)
    return np.array([_pick(column) for column in (2 * hits / np.maximum(either + gold.sum(axis=0), 1)).T])


def likeliest(logits: npt.NDArray[np.floating[Any]], count: int) -> Bools:
    """The ``count`` labels with the largest logits of each document, bool [n, k]; the first of equals."""
    chosen = np.zeros(logits.shape, np.bool_)
    np.put_along_axis(chosen, _ranked(logits)[:, :count], True, axis=1)
    return chosen


def score_counts(logits: npt.NDArray[np.floating[Any]], gold: Bools, metric: str) -> Array:
    """``metric`` (one of TUNABLE) where every document gets its 1, 2, ... k likeliest labels, [k]; 0 if undefined."""
    n, k = gold.shape
    order = _ranked(logits)
    right = np.take_along_axis(gold, order, axis=1)
    # Row c of both: how often each label is the c-th likeliest, and how often rightly; added up from the top down.
    places = (np.arange(k) * k + order).ravel()
    predicted = np.bincount(places, minlength=k * k).reshape(k, k).cumsum(axis=0)
    hits = np.bincount(places, weights=right.ravel(), minlength=k * k).reshape(k, k).cumsum(axis=0)
    counts = np.arange(1, k + 1)
    exact = ((right.cumsum(axis=1) == counts) & (gold.sum(axis=1)[:, None] == counts)).sum(axis=0)
    support = np.broadcast_to(gold.sum(axis=0), (k, k))
    return np.nan_to_num(summaries(np.hstack([hits, predicted, support, exact[:, None]]), n)[metric])


def _ranked(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.intp]:
    """Labels of each document from the likeliest down, [n, k]."""
    return np.argsort(-logits, axis=1, kind="stable")


def _pick(values: Array) -> float:
    usable = np.where(np.isnan(values), -np.inf, values)
    tied = CANDIDATES[usable == usable.max()]
    return float(tied[np.abs(tied - 0.5).argmin()])
