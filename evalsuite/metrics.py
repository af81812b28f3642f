"""How good decisions and probabilities are. Pure arrays in, a dataclass of plain numbers out.

Shapes: n documents, k labels. Of n documents, ``failed`` ones had no answer: they are left out of every metric and
counted. ``invalid`` ones answered outside the label set: they count as wrong, and have no part in the metrics of
probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite import calibration
from evalsuite.contracts import Bools, Example, Metric, Scores
from evalsuite.counts import bootstrap_blocks, bootstrap_sums, label_statistics, percentile_interval, summaries
from evalsuite.errors import ModelError, PluginError, UnknownNameError, UsageError
from evalsuite.thresholds import TUNABLE, best_threshold

Probabilities = npt.NDArray[np.floating[Any]]

BUILTIN: Mapping[str, str] = {
    "accuracy": "share of documents whose labels are all right (subset accuracy for multi-label)",
    "f1_micro": "F1 of the hits and misses summed over labels",
    "f1_macro": "mean F1 of the labels that occur in gold or prediction",
    "f1_weighted": "mean F1 weighted by the documents of each label",
    "f1_macro_all_labels": "mean F1 of all labels, one that occurs nowhere counting 0",
    "precision_micro": "share of the predicted labels that are right",
    "precision_macro": "mean precision of the labels that occur in gold or prediction",
    "recall_micro": "share of the gold labels that are predicted",
    "recall_macro": "mean recall of the labels that occur in gold or prediction",
    "ece": "expected calibration error, 15 equal-width bins; multi-label: mean over labels",
    "ece_expected": "the ECE that perfectly calibrated probabilities would show on as many documents",
    "brier": "squared error of the probabilities, summed over labels; multi-label: mean over labels",
    "nll": "negative log-likelihood in nats; multi-label: mean binary cross-entropy",
    "invalid_rate": "share of the answered documents whose answer is outside the label set; they count as wrong",
    "failed_rate": "share of all documents without an answer; they count nowhere else",
}
LOWER_IS_BETTER = frozenset({"ece", "ece_expected", "brier", "nll", "invalid_rate", "failed_rate"})
WITH_INTERVAL = ("accuracy", "f1_micro", "f1_macro", "f1_weighted", "brier")

_OF_PROBABILITIES = ("ece", "ece_expected", "brier", "nll")
_STATES = {"ok", "invalid", "failed"}


@dataclass(frozen=True)
class Bootstrap:
    """How intervals, and the ECE to expect of calibrated probabilities, are drawn; 0 resamples: neither is."""

    resamples: int = 9_999
    seed: int = 0


@dataclass(frozen=True)
class LabelReport:
    """One label. ``support`` counts gold documents, ``predicted`` predicted ones.

    Where both are 0 the rates are None; where one is 0, the rate that divides by it is 0, as in scikit-learn.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True)
class Report:
    """The metrics of one scored split.

    values: metric name -> number, or None with the reason in ``reasons``. intervals: 95% percentile bootstrap over
    documents. labels: in label order. counts: documents, failed, invalid, labels, labels_with_support (those that
    ``f1_macro`` averages over).
    """

    values: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    labels: list[LabelReport]
    counts: dict[str, int]
    reasons: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Metric name -> value, 95% interval, and the reason where the value is null."""
        return {
            name: {"value": value, "interval": self.intervals.get(name), "reason": self.reasons.get(name)}
            for name, value in self.values.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return asdict(self)


def evaluate(
    gold: Bools,
    predicted: Bools,
    probabilities: Probabilities | None,
    status: Sequence[str],
    extra: Sequence[Metric] = (),
    *,
    multilabel: bool,
    bootstrap: Bootstrap = Bootstrap(),
) -> Report:
    """Score decisions [n, k] and, where there are any, probabilities [n, k] against gold [n, k].

    ``extra`` metrics see the answered documents, with nothing predicted for an invalid one.

    Raises:
        ValueError: shapes that differ, or a state other than "ok", "invalid" and "failed".
        PluginError: an extra metric with a built-in one's name.
    """
    _check(gold, predicted, probabilities, status, extra)
    states = np.asarray(status, dtype=np.str_)
    answered, invalid, ok = states != "failed", states == "invalid", states == "ok"
    gold_seen, predicted_seen = gold[answered], (predicted & ~invalid[:, None])[answered]
    statistics = label_statistics(gold_seen, predicted_seen, invalid[answered])
    n, labels = len(statistics), _label_reports(statistics.sum(axis=0))

    values = dict.fromkeys([*BUILTIN, *(metric.name for metric in extra)], np.nan)
    values |= {name: float(value) for name, value in summaries(statistics.sum(axis=0), n).items()}
    intervals = _count_intervals(statistics, bootstrap)
    if probabilities is not None and ok.any():
        values |= _probability_metrics(probabilities[ok], gold[ok], multilabel, bootstrap)
        intervals |= _brier_interval(probabilities[ok], gold[ok], multilabel, bootstrap)
    if len(states):
        values["failed_rate"] = (len(states) - n) / len(states)
    if n:
        values["invalid_rate"] = float(invalid.sum() / n)
        chances = None if probabilities is None else probabilities[answered]
        values |= {metric.name: _number(metric.compute(gold_seen, predicted_seen, chances)) for metric in extra}

    missing = [name for name, value in values.items() if np.isnan(value)]
    counts = {
        "documents": len(states),
        "failed": len(states) - n,
        "invalid": int(invalid.sum()),
        "labels": gold.shape[1],
        "labels_with_support": sum(label.f1 is not None for label in labels),
    }
    reasons = {name: _reason(name, probabilities is not None, counts) for name in missing}
    return Report({**values, **dict.fromkeys(missing)}, intervals, labels, counts, reasons)


def _check(
    gold: Bools, predicted: Bools, probabilities: Probabilities | None, status: Sequence[str], extra: Sequence[Metric]
) -> None:
    shapes = {gold.shape, predicted.shape, gold.shape if probabilities is None else probabilities.shape}
    if len(shapes) > 1 or len(status) != len(gold):
        raise ValueError(f"gold, predictions and probabilities must have one shape, got {shapes}, {len(status)} states")
    if unknown := set(status) - _STATES:
        raise ValueError(f"unknown states {sorted(unknown)}, expected {sorted(_STATES)}")
    if taken := [metric.name for metric in extra if metric.name in BUILTIN]:
        raise PluginError(f"metric {taken[0]!r} is built in; the plugin's must have another name")


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _reason(name: str, has_probabilities: bool, counts: Mapping[str, int]) -> str:
    """Why a metric is null."""
    if counts["documents"] == counts["failed"]:
        return "no document was answered"
    if name in _OF_PROBABILITIES:
        return "not computed for these documents" if has_probabilities else "the method gives no probabilities"
    return "no label occurs in gold or prediction" if name in BUILTIN else "the metric gave no number"


def _count_intervals(statistics: Bools, bootstrap: Bootstrap) -> dict[str, tuple[float, float]]:
    if not len(statistics):
        return {}
    # By blocks: the sums of all resamples at once would be 120 MB with 500 labels.
    drawn = [
        summaries(sums, len(statistics)) for sums in bootstrap_blocks(statistics, bootstrap.resamples, bootstrap.seed)
    ]
    known = [name for name in WITH_INTERVAL if drawn and name in drawn[0]]
    found = {name: percentile_interval(np.concatenate([block[name] for block in drawn])) for name in known}
    return {name: interval for name, interval in found.items() if interval}


def _brier_interval(
    probabilities: Probabilities, gold: Bools, multilabel: bool, bootstrap: Bootstrap
) -> dict[str, tuple[float, float]]:
    scores = calibration.brier(probabilities, gold, multilabel)
    drawn = bootstrap_sums(scores[:, None], bootstrap.resamples, bootstrap.seed)[:, 0] / len(scores)
    interval = percentile_interval(drawn)
    return {"brier": interval} if interval else {}


def _probability_metrics(
    probabilities: Probabilities, gold: Bools, multilabel: bool, bootstrap: Bootstrap
) -> dict[str, float]:
    expected = (
        calibration.calibrated_error(probabilities, multilabel, bootstrap.seed) if bootstrap.resamples else np.nan
    )
    return {**calibration.measures(probabilities, gold, multilabel), "ece_expected": expected}


def _label_reports(sums: npt.NDArray[np.int_]) -> list[LabelReport]:
    k = len(sums) // 3
    reports = []
    for hits, predicted, gold in zip(*(sums[:-1].reshape(3, k).tolist()), strict=True):
        if predicted + gold:
            rates = hits / max(predicted, 1), hits / max(gold, 1), 2 * hits / (predicted + gold)
            reports.append(LabelReport(*rates, gold, predicted))
        else:
            reports.append(LabelReport(None, None, None, 0, 0))
    return reports


def score_metric(name: str, scores: Scores, gold: Bools, multilabel: bool, extra: Sequence[Metric] = ()) -> float:
    """One number to compare states of one method by, higher is better: for early stopping, never to be reported.

    Single label: decided by argmax. Multi-label: at the one threshold that suits ``scores`` best, as the threshold is
    tuned after training anyway, and a rare label's probabilities seldom pass 0.5 early on. Metrics where lower is
    better come negated. What is undefined (F1 where no label occurs) counts as 0.

    Raises:
        UnknownNameError: a metric that is neither built in nor in ``extra``.
        UsageError: a metric of probabilities for a method without logits.
        ModelError: logits that are not finite.
    """
    others = {metric.name: metric for metric in extra}
    if name not in BUILTIN and name not in others:
        raise UnknownNameError("metric", name, [*BUILTIN, *others])
    if name in _OF_PROBABILITIES and scores.logits is None:
        raise UsageError(f"metric {name!r} needs probabilities, which this method does not give; choose f1_macro")
    probabilities, predicted = _plain_decisions(name, scores, gold, multilabel)
    quick = Bootstrap(resamples=0)
    report = evaluate(gold, predicted, probabilities, scores.status, extra, multilabel=multilabel, bootstrap=quick)
    lower = name in LOWER_IS_BETTER or (name in others and not others[name].higher_is_better)
    return (report.values[name] or 0.0) * (-1 if lower else 1)


def _plain_decisions(name: str, scores: Scores, gold: Bools, multilabel: bool) -> tuple[Probabilities | None, Bools]:
    if scores.logits is None:
        assert scores.predicted is not None  # Scores has one of the two
        return None, scores.predicted
    require_finite(scores)
    ok = np.asarray(scores.status) == "ok"
    probabilities = calibration.probabilities_of(np.where(ok[:, None], scores.logits, 0), multilabel)
    if not multilabel:
        return probabilities, one_hot_of(scores.logits)
    threshold = best_threshold(probabilities[ok], gold[ok], name if name in TUNABLE else "f1_macro")
    return probabilities, probabilities >= threshold


def one_hot(examples: Sequence[Example], k: int) -> Bools:
    """Gold labels as bool [n, k]."""
    gold = np.zeros((len(examples), k), dtype=bool)
    for row, example in enumerate(examples):
        gold[row, list(example.labels)] = True
    return gold


def one_hot_of(logits: Probabilities) -> Bools:
    """The likeliest label of each document as bool [n, k]; the first of equals."""
    return np.asarray(np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None])


def require_finite(scores: Scores) -> None:
    """Refuse logits that are NaN or infinite for a document that was answered.

    Raises:
        ModelError: it says how many documents, and the first row.
    """
    if scores.logits is None:
        return
    broken = ~np.isfinite(scores.logits).all(axis=1) & (np.asarray(scores.status) == "ok")
    if broken.any():
        row = int(broken.argmax())
        raise ModelError(
            f"the logits of {int(broken.sum())} of {len(scores)} documents are not finite (first: row {row}), expected "
            "numbers; the model diverged or its precision is too low: lower the learning rate or --set dtype=float32"
        )
