"""How far probabilities could be trusted before calibration, and how far after. Shapes: n documents, k labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from evalsuite.calibration import measures, reliability_bins
from evalsuite.contracts import Bools, Scores
from evalsuite.decision import Decision

NAMES = ("ece", "brier", "nll", "bins")


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
            seen = probabilities[ok], gold[ok], multilabel
            found.append({**measures(*seen), "bins": reliability_bins(*seen)})
    before, after = found
    return {"before": before, "after": after, "reason": reason}
