"""From scores to labels: calibration and thresholds, fitted on the calibration part of validation and nowhere else.

Shapes: n documents, k labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from evalsuite.calibration import MIN_DOCUMENTS, fit_temperature, probabilities_of
from evalsuite.contracts import Bools, Example, Scores
from evalsuite.errors import OptionError
from evalsuite.metrics import one_hot_of, require_finite
from evalsuite.options import Options, option
from evalsuite.thresholds import TUNABLE, best_threshold, best_thresholds, likeliest, score_counts
from evalsuite.vector_scaling import fit_vector

Array = npt.NDArray[np.float64]

CROSS_FIT_BELOW = 500
HOUSE = "house default"


class DecisionOptions(Options):
    """How scores become probabilities and labels."""

    calibration: Literal["none", "temperature", "vector"] = option(
        "temperature",
        "leave the logits as they are, divide them by one fitted number, or give each label a fitted scale and bias",
        source="Guo et al. 2017, arXiv 1706.04599",
    )
    threshold: Literal["fixed", "tuned", "per_label", "top_k"] = option(
        "tuned",
        "multi-label: labels are those with probability 0.5, above one tuned threshold, above one a label, or the "
        "likeliest top_k",
        source=HOUSE,
    )
    threshold_min_support: int = option(
        10,
        "per_label: labels with fewer gold documents take the shared threshold",
        unit="documents",
        ge=1,
        source=HOUSE,
    )
    top_k: Annotated[int, Field(ge=1)] | Literal["auto"] = option(
        "auto",
        "threshold=top_k: labels a document gets; auto: the number that maximises the metric on validation",
        unit="labels",
        source=HOUSE,
    )


def check_options(options: DecisionOptions, multilabel: bool, k: int) -> None:
    """Refuse, before any training, options that do not fit a task with ``k`` labels.

    Raises:
        OptionError: top_k where a document has exactly one label, without threshold=top_k, or above k.
    """
    if options.threshold == "top_k" and not multilabel:
        raise OptionError(
            "threshold 'top_k' is for tasks where a document may have many labels; here each has exactly one, the "
            "likeliest: leave threshold out"
        )
    if options.top_k == "auto":
        return
    if options.threshold != "top_k":
        raise OptionError(
            f"top_k {options.top_k} has no effect with threshold {options.threshold!r}; add --set threshold=top_k"
        )
    if options.top_k > k:
        raise OptionError(f"top_k {options.top_k} must be at most {k}, the number of labels, or auto")


class ValidationParts(NamedTuple):
    """The two uses of validation. ``halves`` [n of calibration] marks one half where both uses share every document."""

    stopping: Sequence[Example]
    calibration: Sequence[Example]
    halves: Bools | None


def split_validation(examples: Sequence[Example]) -> ValidationParts:
    """Cut validation in two by a hash of the document id: one half stops training, the other fits the decision.

    Below 500 documents a half is too small for either, so both get all of it and the decision is cross-fitted: fitted
    on each half and averaged (temperatures and scales by geometric mean, biases and thresholds by mean; top_k is what
    the halves' mean score prefers).
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
    """What was fitted. Calibrated logits are ``scale * logits / temperature + bias``.

    ``scale`` and ``bias`` hold k numbers after vector scaling, whose temperature is 1, and are empty otherwise.
    ``thresholds`` holds one number for all labels or k of them; it is empty for single label and where ``top_k`` says
    how many labels each document gets. ``own_labels``: the method gives no logits, and what it says stands. ``notes``
    say what could not be fitted, and why.
    """

    multilabel: bool
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()
    top_k: int | None = None
    own_labels: bool = False

    @property
    def rule(self) -> Literal["own", "argmax", "threshold", "thresholds", "top_k"]:
        """How scores become labels."""
        if self.own_labels:
            return "own"
        if not self.multilabel:
            return "argmax"
        if self.top_k is not None:
            return "top_k"
        return "thresholds" if len(self.thresholds) > 1 else "threshold"

    @property
    def calibration(self) -> Literal["none", "temperature", "vector"]:
        """How logits become those that are believed."""
        if self.scale:
            return "vector"
        return "none" if self.temperature == 1 else "temperature"

    def calibrated(self, scores: Scores) -> Array | None:
        """Calibrated logits [n, k], None without logits; 0 for an invalid or failed document.

        Raises:
            ModelError: logits that are not finite.
        """
        if scores.logits is None:
            return None
        require_finite(scores)
        # Rows without a valid answer may hold anything; they must not warn, and nobody reads them.
        ok = (np.asarray(scores.status) == "ok")[:, None]
        logits = np.where(ok, scores.logits, 0).astype(np.float64) / self.temperature
        return logits * self.scale + self.bias if self.scale else logits

    def probabilities(self, scores: Scores) -> Array | None:
        """Calibrated probabilities [n, k], None without logits.

        Raises:
            ModelError: logits that are not finite.
        """
        logits = self.calibrated(scores)
        return None if logits is None else probabilities_of(logits, self.multilabel)

    def decide(self, scores: Scores) -> Bools:
        """The labels of each document, bool [n, k]; none for an invalid or failed one.

        Raises:
            ModelError: logits that are not finite.
        """
        logits = self.calibrated(scores)
        if logits is None:
            assert scores.predicted is not None  # Scores has one of the two
            decided = scores.predicted
        # By logits: probabilities of a sure model are equal to the last digit where its logits still differ.
        elif self.rule == "argmax":
            decided = one_hot_of(logits)
        elif self.top_k is not None:
            decided = likeliest(logits, self.top_k)
        else:
            decided = probabilities_of(logits, True) >= np.array(self.thresholds or (0.5,))
        valid: Bools = np.logical_and(decided, (np.asarray(scores.status) == "ok")[:, None])
        return valid

    def to_json(self) -> dict[str, Any]:
        """Plain values that :meth:`from_json` reads back, with the names of what was done."""
        return {"calibration": self.calibration, "rule": self.rule, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decision:
        """The decision that :meth:`to_json` wrote."""
        return cls(
            multilabel=bool(data["multilabel"]),
            temperature=float(data["temperature"]),
            thresholds=tuple(data["thresholds"]),
            notes=tuple(data["notes"]),
            scale=tuple(data["scale"]),
            bias=tuple(data["bias"]),
            top_k=data["top_k"],
            own_labels=bool(data["own_labels"]),
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
    """Fit calibration and thresholds on validation scores and their gold labels [n, k].

    ``metric`` is what shared thresholds and top_k maximise; ``halves`` [n] asks for cross-fitting (see
    :func:`split_validation`).

    Raises:
        ModelError: logits that are not finite.
    """
    if scores.logits is None:
        note = "the method gives no logits: its own labels are used; probabilities, calibration and thresholds are null"
        return Decision(multilabel, notes=(note,), own_labels=True)
    require_finite(scores)
    ok = np.asarray(scores.status) == "ok"
    parts = [ok] if halves is None else [ok & halves, ok & ~halves]
    decision = _calibration(scores.logits, gold, parts, multilabel, options)
    logits = decision.calibrated(scores)
    if not multilabel or logits is None:
        return decision
    return _with_rule(decision, logits, gold, parts, options, metric)


def unfitted(multilabel: bool, options: DecisionOptions, note: str) -> Decision:
    """The decision where there is nothing to fit on: plain probabilities, and 0.5 or the likeliest label or labels."""
    count = 1 if options.top_k == "auto" else options.top_k
    return Decision(multilabel, notes=(note,), top_k=count if options.threshold == "top_k" else None)


def _calibration(
    logits: npt.NDArray[np.float32], gold: Bools, parts: list[Bools], multilabel: bool, options: DecisionOptions
) -> Decision:
    if options.calibration == "none":
        return Decision(multilabel)
    fitted, reasons = zip(*(fit_temperature(logits[part], gold[part], multilabel) for part in parts), strict=True)
    if failures := list(dict.fromkeys(filter(None, reasons))):
        what = "temperature kept at 1" if options.calibration == "temperature" else "no vector scaling, nor temperature"
        return Decision(multilabel, notes=(f"{what}: " + "; ".join(failures),))
    temperature = float(np.exp(np.mean(np.log(fitted))))
    if options.calibration == "temperature":
        return Decision(multilabel, temperature)
    scale, bias = fit_vector(logits, gold, parts, multilabel, temperature)
    support = np.array([gold[part].sum(axis=0) for part in parts])
    sizes = np.array([part.sum() for part in parts])[:, None]
    one_sided = ((support == 0) | (support == sizes)).any(axis=0)
    notes: tuple[str, ...] = ()
    if one_sided.any():
        notes = (
            f"{int(one_sided.sum())} of {len(one_sided)} labels never or always occur in the documents that fit the "
            "vector scaling: the prior keeps theirs near the temperature's",
        )
    return Decision(multilabel, notes=notes, scale=tuple(scale.tolist()), bias=tuple(bias.tolist()))


def _with_rule(
    decision: Decision, logits: Array, gold: Bools, parts: list[Bools], options: DecisionOptions, metric: str
) -> Decision:
    """``decision`` with its thresholds or top_k, for multi-label, fitted to calibrated ``logits`` [n, k]."""
    if options.threshold == "top_k" and options.top_k != "auto":
        return replace(decision, top_k=options.top_k)
    if options.threshold == "fixed":
        return replace(decision, thresholds=(0.5,))
    smallest = min(int(part.sum()) for part in parts)
    if smallest < MIN_DOCUMENTS:
        few = f"{smallest} documents are too few to tune it (at least {MIN_DOCUMENTS})"
        if options.threshold == "top_k":
            return replace(decision, top_k=1, notes=(*decision.notes, f"top_k kept at 1: {few}"))
        return replace(decision, thresholds=(0.5,), notes=(*decision.notes, f"threshold kept at 0.5: {few}"))
    notes = decision.notes
    if metric not in TUNABLE:
        what = "top_k" if options.threshold == "top_k" else "the threshold"
        notes = (*notes, f"{what} maximises f1_macro: {metric} cannot be tuned for")
        metric = "f1_macro"
    if options.threshold == "top_k":
        mean_scores = np.mean([score_counts(logits[part], gold[part], metric) for part in parts], axis=0)
        return replace(decision, top_k=int(mean_scores.argmax()) + 1, notes=notes)
    thresholds, more = _thresholds(probabilities_of(logits, True), gold, parts, options, metric)
    return replace(decision, thresholds=thresholds, notes=(*notes, *more))


def _thresholds(
    probabilities: Array, gold: Bools, parts: list[Bools], options: DecisionOptions, metric: str
) -> tuple[tuple[float, ...], list[str]]:
    shared = float(np.mean([best_threshold(probabilities[part], gold[part], metric) for part in parts]))
    if options.threshold == "tuned":
        return (shared,), []
    notes = []
    support = np.min([gold[part].sum(axis=0) for part in parts], axis=0)
    enough = support >= options.threshold_min_support
    own = np.mean([best_thresholds(probabilities[part], gold[part]) for part in parts], axis=0)
    if not enough.all():
        notes.append(
            f"{int((~enough).sum())} of {len(enough)} labels have fewer than {options.threshold_min_support} documents "
            f"to tune on and take the shared threshold {shared:.3g}"
        )
    return tuple(float(value) for value in np.where(enough, own, shared)), notes
