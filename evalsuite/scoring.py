"""A method's answers, decided and measured: one way for a run's own method and for whatever it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from evalsuite.contracts import Bools, Method, Scores
from evalsuite.data.splits import text_hash
from evalsuite.decision import Decision, DecisionOptions, ValidationParts, fit_decision, unfitted
from evalsuite.metrics import Report, evaluate, one_hot
from evalsuite.preparation import Prepared
from evalsuite.samples import Samples

TRIAL = 20  # documents whose answers tell whether a method gives logits


@dataclass(frozen=True)
class Calibrated:
    """A decision, and what it was fitted on: gold [n, k] and scores of n documents, None where there were none."""

    decision: Decision
    gold: Bools
    scores: Scores | None


def calibrate(prepared: Prepared, validation: ValidationParts, method: Method) -> Calibrated:
    """Calibration and thresholds from the calibration part of validation; the test split is not looked at."""
    multilabel = prepared.splits.multilabel
    gold = one_hot(validation.calibration, len(prepared.splits.labels))
    options = DecisionOptions.model_validate(prepared.spec.decision_options)
    if not validation.calibration:
        note = "there are no validation documents: nothing was calibrated"
        return Calibrated(unfitted(multilabel, options, note), gold, None)
    texts = [example.text for example in validation.calibration]
    # Without training, answers are all that a run pays for: where they come without logits, nothing can be fitted.
    scores = None if prepared.method.trained else method.predict(texts[:TRIAL])
    if scores is None or scores.logits is not None:
        scores = method.predict(texts)
    gold = gold[: len(scores)]
    decision = fit_decision(
        scores,
        gold,
        multilabel=multilabel,
        options=options,
        metric=prepared.task.primary_metric,
        halves=validation.halves,
    )
    return Calibrated(decision, gold, scores)


def decide(prepared: Prepared, decision: Decision, scores: Scores) -> Samples:
    """The table of the scored split from its scores."""
    splits = prepared.splits
    return Samples(
        ids=tuple(example.id for example in splits.test),
        hashes=tuple(text_hash(example.text) for example in splits.test),
        gold=one_hot(splits.test, len(splits.labels)),
        predicted=decision.decide(scores),
        probabilities=decision.probabilities(scores),
        status=tuple(scores.status),
        labels=tuple(splits.labels),
        split=prepared.spec.split,
    )


def measure(prepared: Prepared, samples: Samples) -> Report:
    """Every metric of a scored table, the plugins' too."""
    return evaluate(
        samples.gold,
        samples.predicted,
        samples.probabilities,
        samples.status,
        tuple(prepared.registry.metrics.values()),
        multilabel=prepared.splits.multilabel,
    )
