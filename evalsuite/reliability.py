"""How far probabilities could be trusted before calibration, and how far after. Shapes: n documents, k labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from evalsuite.calibration import AnyFloats, Array, measures, reliability_bins
from evalsuite.contracts import Bools, Scores
from evalsuite.decision import Decision

NAMES = ("ece", "brier", "nll", "bins")


def confidence(probabilities: AnyFloats, multilabel: bool) -> Array:
    """How sure each document's labels are, [n], from probabilities [n, k]; NaN for a row of NaN.

    Single label: the highest probability. Multi-label: that of the least certain yes or no, the lowest of max(p, 1 - p)
    over labels, whatever the thresholds are.
    """
    chances = np.asarray(probabilities, np.float64)
    sure: Array = np.maximum(chances, 1 - chances).min(axis=1) if multilabel else chances.max(axis=1)
    return sure


def reliability(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> dict[str, Any]:
    """``ece``, ``brier``, ``nll`` and 15 reliability ``bins`` of one or more documents, [n, k] each."""
    return {
        **measures(probabilities, gold, multilabel),
        "bins": reliability_bins(probabilities, gold, multilabel),
    }


def calibration_report(scores: Scores, gold: Bools, decision: Decision, multilabel: bool) -> dict[str, Any]:
    """``before`` and ``after`` calibration: ``ece``, ``brier``, ``nll`` and 15 reliability ``bins``, and a ``reason``.

    Of answered documents alone, as in the metrics, whose values equal those of ``after``. Where nothing can be said all
    values are None and ``reason`` says why; it is None otherwise.

    Raises:
        ModelError: logits that are not finite.
    """
    ok = np.asarray(scores.status) == "ok"
    found: list[dict[str, Any]] = [dict.fromkeys(NAMES)] * 2
    reason = None
    if scores.logits is None:
        reason = "the method gives no probabilities"
    elif not ok.any():
        reason = "no document has a valid answer"
    else:
        found = []
        for state in (Decision(multilabel), decision):
            probabilities = state.probabilities(scores)
            assert probabilities is not None  # there are logits
            found.append(reliability(probabilities[ok], gold[ok], multilabel))
    before, after = found
    return {"before": before, "after": after, "reason": reason}
