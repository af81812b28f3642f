"""From scores to labels: temperature and thresholds, fitted on the calibration part of validation and nowhere else.

Shapes: n documents, k labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from evalsuite.calibration import MIN_DOCUMENTS, fit_temperature, probabilities_of
from evalsuite.contracts import Bools, Example, Scores
from evalsuite.metrics import one_hot_of, require_finite
from evalsuite.options import Options, option
from evalsuite.thresholds import TUNABLE, best_threshold, best_thresholds

CROSS_FIT_BELOW = 500
HOUSE = "house default"


class DecisionOptions(Options):
    """How scores become probabilities and labels."""

    calibration: Literal["temperature", "none"] = option(
        "temperature", "divide the logits by one fitted number", source="Guo et al. 2017, arXiv 1706.04599"
    )
    threshold: Literal["tuned", "per_label", "fixed"] = option(
        "tuned",
        "multi-label: where a probability becomes a label; one for all labels, one a label, or 0.5",
        source=HOUSE,
    )
    threshold_min_support: int = option(
        10,
        "per_label: labels with fewer gold documents take the shared threshold",
        unit="documents",
        ge=1,
        source=HOUSE,
    )


class ValidationParts(NamedTuple):
    """The two uses of validation. ``halves`` [n of calibration] marks one half where both uses share every document."""

    stopping: Sequence[Example]
    calibration: Sequence[Example]
    halves: Bools | None


def split_validation(examples: Sequence[Example]) -> ValidationParts:
    """Cut validation in two by a hash of the document id: one half stops training, the other fits the decision.

    Below 500 documents a half is too small for either, so both get all of it and the decision is cross-fitted: fitted
    on each half and averaged (temperatures by geometric mean, thresholds by mean).
    """
    first = np.array(
        [blake2b(example.id.encode(), digest_size=1).digest()[0] % 2 == 0 for example in examples], np.bool_
    )
    if len(examples) < CROSS_FIT_BELOW:
        return ValidationParts(examples, examples, first)
    stopping = [example for example, chosen in zip(examples, first, strict=True) if chosen]
    calibration = [example for example, chosen in zip(examples, first, strict=True) if not chosen]
    return ValidationParts(stopping, calibration, None)


@dataclass(frozen=True)
class Decision:
    """What was fitted. ``thresholds`` holds one number for all labels or k of them; it is empty for single label.

    ``notes`` say what could not be fitted, and why.
    """

    multilabel: bool
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    def probabilities(self, scores: Scores) -> npt.NDArray[np.float64] | None:
        """Calibrated probabilities [n, k], None without logits.

        Raises:
            ModelError: logits that are not finite.
        """
        if scores.logits is None:
            return None
        require_finite(scores)
        # Rows without a valid answer may hold anything; they must not warn, and nobody reads them.
        logits = np.where((np.asarray(scores.status) == "ok")[:, None], scores.logits, 0)
        return probabilities_of(logits, self.multilabel, self.temperature)

    def decide(self, scores: Scores) -> Bools:
        """The labels of each document, bool [n, k]; none for an invalid or failed one.

        Raises:
            ModelError: logits that are not finite.
        """
        ok = (np.asarray(scores.status) == "ok")[:, None]
        probabilities = self.probabilities(scores)
        if probabilities is None or scores.logits is None:
            assert scores.predicted is not None  # Scores has one of the two
            decided = scores.predicted
        elif self.multilabel:
            decided = probabilities >= np.array(self.thresholds or (0.5,))
        else:
            # By logits: probabilities of a sure model are equal to the last digit where its logits still differ.
            decided = one_hot_of(scores.logits)
        valid: Bools = np.logical_and(decided, ok)
        return valid

    def to_json(self) -> dict[str, Any]:
        """Plain values that :meth:`from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decision:
        """The decision that :meth:`to_json` wrote."""
        return cls(
            multilabel=bool(data["multilabel"]),
            temperature=float(data["temperature"]),
            thresholds=tuple(data["thresholds"]),
            notes=tuple(data["notes"]),
        )


def fit_decision(
    scores: Scores,
    gold: Bools,
    *,
    multilabel: bool,
    options: DecisionOptions,
    metric: str = "f1_macro",
    halves: Bools | None = None,
) -> Decision:
    """Fit temperature and thresholds on validation scores and their gold labels [n, k].

    ``metric`` is what shared thresholds maximise; ``halves`` [n] asks for cross-fitting (see :func:`split_validation`).

    Raises:
        ModelError: logits that are not finite.
    """
    if scores.logits is None:
        note = "the method gives no logits: its own labels are used; probabilities, calibration and thresholds are null"
        return Decision(multilabel, notes=(note,))
    require_finite(scores)
    ok = np.asarray(scores.status) == "ok"
    parts = [ok] if halves is None else [ok & halves, ok & ~halves]
    temperature, notes = _temperature(scores.logits, gold, parts, multilabel, options)
    thresholds: tuple[float, ...] = ()
    if multilabel:
        probabilities = probabilities_of(np.where(ok[:, None], scores.logits, 0), True, temperature)
        thresholds, more = _thresholds(probabilities, gold, parts, options, metric)
        notes += more
    return Decision(multilabel, temperature, thresholds, tuple(notes))


def _temperature(
    logits: npt.NDArray[np.float32], gold: Bools, parts: list[Bools], multilabel: bool, options: DecisionOptions
) -> tuple[float, list[str]]:
    if options.calibration == "none":
        return 1.0, []
    fitted, reasons = zip(*(fit_temperature(logits[part], gold[part], multilabel) for part in parts), strict=True)
    if failures := list(dict.fromkeys(filter(None, reasons))):
        return 1.0, ["temperature kept at 1: " + "; ".join(failures)]
    return float(np.exp(np.mean(np.log(fitted)))), []


def _thresholds(
    probabilities: npt.NDArray[np.float64], gold: Bools, parts: list[Bools], options: DecisionOptions, metric: str
) -> tuple[tuple[float, ...], list[str]]:
    if options.threshold == "fixed":
        return (0.5,), []
    smallest = min(int(part.sum()) for part in parts)
    if smallest < MIN_DOCUMENTS:
        return (0.5,), [
            f"threshold kept at 0.5: {smallest} documents are too few to tune it (at least {MIN_DOCUMENTS})"
        ]
    notes = []
    if metric not in TUNABLE:
        notes.append(f"the threshold maximises f1_macro: {metric} cannot be tuned for")
        metric = "f1_macro"
    shared = float(np.mean([best_threshold(probabilities[part], gold[part], metric) for part in parts]))
    if options.threshold == "tuned":
        return (shared,), notes
    support = np.min([gold[part].sum(axis=0) for part in parts], axis=0)
    enough = support >= options.threshold_min_support
    own = np.mean([best_thresholds(probabilities[part], gold[part]) for part in parts], axis=0)
    if not enough.all():
        notes.append(
            f"{int((~enough).sum())} of {len(enough)} labels have fewer than {options.threshold_min_support} documents "
            f"to tune on and take the shared threshold {shared:.3g}"
        )
    return tuple(float(value) for value in np.where(enough, own, shared)), notes
