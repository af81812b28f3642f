"""Thresholds on multi-label probabilities, chosen to maximise a metric. Shapes: n documents, k labels, g candidates."""

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
    predicted = [probabilities >= candidate for candidate in CANDIDATES]
    hits = np.array([(cut & gold).sum(axis=0) for cut in predicted])
    either = np.array([cut.sum(axis=0) for cut in predicted]) + gold.sum(axis=0)
    return np.array([_pick(column) for column in (2 * hits / np.maximum(either, 1)).T])


def _pick(values: Array) -> float:
    usable = np.where(np.isnan(values), -np.inf, values)
    tied = CANDIDATES[usable == usable.max()]
    return float(tied[np.abs(tied - 0.5).argmin()])
