"""From scores to labels."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from pydantic import ValidationError

from evalsuite.calibration import negative_log_likelihood
from evalsuite.contracts import Example, Scores
from evalsuite.decision import Decision, DecisionOptions, fit_decision, split_validation
from evalsuite.errors import ModelError

DEFAULTS = DecisionOptions()


def overconfident(n: int, k: int, multilabel: bool, factor: float = 4.0) -> tuple[Scores, np.ndarray]:
    """Logits ``factor`` times too large for the labels drawn from them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1 if multilabel else 0, 1.5, (n, k))
    if multilabel:
        gold = rng.random((n, k)) < 1 / (1 + np.exp(-logits))
    else:
        gold = np.eye(k, dtype=bool)[(logits + rng.gumbel(size=(n, k))).argmax(axis=1)]
    return Scores(logits=(factor * logits).astype(np.float32)), gold


def examples(n: int, prefix: str = "doc") -> list[Example]:
    return [Example(f"{prefix}{row}", "same text", (0,)) for row in range(n)]


@pytest.mark.parametrize("multilabel", [False, True])
def test_overconfident_logits_get_the_temperature_they_need(multilabel: bool) -> None:
    scores, gold = overconfident(2_000, 4, multilabel)
    decision = fit_decision(scores, gold, multilabel=multilabel, options=DEFAULTS)
    assert decision.temperature == pytest.approx(4.0, rel=0.1)
    plain = Decision(multilabel).probabilities(scores)
    calibrated = decision.probabilities(scores)
    assert plain is not None
    assert calibrated is not None
    losses = [negative_log_likelihood(p, gold, multilabel).mean() for p in (plain, calibrated)]
    assert losses[1] < losses[0] - 0.05


@pytest.mark.parametrize("temperature", [0.01, 0.5, 7.0, 100.0])
def test_temperature_changes_no_argmax(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 30, (500, 6)).astype(np.float32)
    scores = Scores(logits=logits)
    decided = Decision(False, temperature).decide(scores)
    np.testing.assert_array_equal(decided, Decision(False).decide(scores))
    np.testing.assert_array_equal(decided.argmax(axis=1), logits.argmax(axis=1))
    assert (decided.sum(axis=1) == 1).all()


def test_labels_too_sure_to_differ_in_probability_are_still_told_apart() -> None:
    scores = Scores(logits=np.array([[-5000.0, 0.0, 1e-4]], np.float32))
    assert Decision(False, 100.0).decide(scores).tolist() == [[False, False, True]]
    huge = Scores(logits=np.array([[3000.0, 3000.5]], np.float32))
    assert Decision(False, 0.01).decide(huge).tolist() == [[False, True]]


def test_one_tuned_threshold_beats_one_half_on_rare_labels() -> None:
    scores, gold = overconfident(1_000, 5, True)
    shifted = Scores(logits=scores.logits - 8)  # every label now looks unlikely
    tuned = fit_decision(shifted, gold, multilabel=True, options=DEFAULTS)
    fixed = fit_decision(shifted, gold, multilabel=True, options=DecisionOptions(threshold="fixed"))
    assert len(tuned.thresholds) == 1
    assert fixed.thresholds == (0.5,)
    hits = [(decision.decide(shifted) & gold).sum() for decision in (tuned, fixed)]
    assert hits[0] > 2 * hits[1]


def test_own_thresholds_need_support_else_the_shared_one_is_taken() -> None:
    scores, gold = overconfident(400, 4, True)
    gold = gold.copy()
    gold[:, 3] = False
    gold[:3, 3] = True
    options = DecisionOptions(threshold="per_label")
    decision = fit_decision(scores, gold, multilabel=True, options=options)
    shared = fit_decision(scores, gold, multilabel=True, options=DEFAULTS).thresholds[0]
    assert len(decision.thresholds) == 4
    assert decision.thresholds[3] == shared
    assert len(set(decision.thresholds[:3])) > 1
    assert "1 of 4 labels have fewer than 10 documents" in decision.notes[0]


def test_a_metric_that_no_threshold_can_serve_is_replaced_and_named() -> None:
    scores, gold = overconfident(300, 3, True)
    by_brier = fit_decision(scores, gold, multilabel=True, options=DEFAULTS, metric="brier")
    assert by_brier.thresholds == fit_decision(scores, gold, multilabel=True, options=DEFAULTS).thresholds
    assert by_brier.notes == ("the threshold maximises f1_macro: brier cannot be tuned for",)


def test_without_logits_the_methods_own_labels_stand() -> None:
    predicted = np.eye(3, dtype=bool)
    scores = Scores(predicted=predicted)
    decision = fit_decision(scores, predicted, multilabel=False, options=DEFAULTS)
    assert decision.probabilities(scores) is None
    np.testing.assert_array_equal(decision.decide(scores), predicted)
    assert decision.temperature == 1.0
    assert "no logits" in decision.notes[0]


def test_few_documents_keep_the_defaults_and_say_so() -> None:
    scores, gold = overconfident(19, 3, True)
    decision = fit_decision(scores, gold, multilabel=True, options=DEFAULTS)
    assert (decision.temperature, decision.thresholds) == (1.0, (0.5,))
    assert decision.notes[0].startswith("temperature kept at 1: 19 documents are too few")
    assert decision.notes[1].startswith("threshold kept at 0.5: 19 documents are too few")


def test_nothing_to_fit_on_is_no_crash() -> None:
    empty = Scores(logits=np.zeros((0, 3), np.float32))
    decision = fit_decision(empty, np.zeros((0, 3), bool), multilabel=True, options=DEFAULTS)
    assert (decision.temperature, decision.thresholds) == (1.0, (0.5,))
    assert decision.notes[1].startswith("threshold kept at 0.5: 0 documents are too few")


@pytest.mark.parametrize("multilabel", [False, True])
def test_cross_fitting_averages_what_each_half_says(multilabel: bool) -> None:
    scores, gold = overconfident(400, 3, multilabel)
    assert scores.logits is not None
    halves = np.arange(400) % 2 == 0
    both = fit_decision(scores, gold, multilabel=multilabel, options=DEFAULTS, halves=halves)
    parts = [
        fit_decision(Scores(logits=scores.logits[half]), gold[half], multilabel=multilabel, options=DEFAULTS)
        for half in (halves, ~halves)
    ]
    assert parts[0].temperature != parts[1].temperature
    assert both.temperature == pytest.approx(np.sqrt(parts[0].temperature * parts[1].temperature))
    if multilabel:
        assert 0.01 < both.thresholds[0] < 0.99


def test_unanswered_documents_take_no_part() -> None:
    scores, gold = overconfident(300, 3, True)
    assert scores.logits is not None
    logits = scores.logits.copy()
    logits[::3] = np.nan
    status = ["failed" if row % 3 == 0 else "ok" for row in range(300)]
    holed = Scores(logits=logits, status=status)
    kept = np.arange(300) % 3 != 0
    decision = fit_decision(holed, gold, multilabel=True, options=DEFAULTS)
    part = fit_decision(Scores(logits=logits[kept]), gold[kept], multilabel=True, options=DEFAULTS)
    assert decision == part
    assert not decision.decide(holed)[::3].any()
    np.testing.assert_array_equal(decision.decide(holed)[kept], part.decide(Scores(logits=logits[kept])))


def test_logits_that_are_not_finite_are_an_error_not_a_label() -> None:
    scores = Scores(logits=np.array([[0, np.inf], [0, 1]], np.float32))
    with pytest.raises(ModelError, match="1 of 2 documents are not finite"):
        Decision(False).decide(scores)
    with pytest.raises(ModelError, match="not finite"):
        fit_decision(scores, np.eye(2, dtype=bool), multilabel=False, options=DEFAULTS)


def test_json_gives_the_decision_back_to_the_last_digit() -> None:
    scores, gold = overconfident(300, 4, True)
    decision = fit_decision(scores, gold, multilabel=True, options=DecisionOptions(threshold="per_label"))
    again = Decision.from_json(json.loads(json.dumps(decision.to_json())))
    assert again == decision
    np.testing.assert_array_equal(again.decide(scores), decision.decide(scores))


def test_test_scores_have_no_way_into_a_decision() -> None:
    """A decision is frozen once fitted, and deciding gets scores alone: thresholds never look at test."""
    scores, gold = overconfident(300, 4, True)
    decision = fit_decision(scores, gold, multilabel=True, options=DEFAULTS)
    before = decision.to_json()
    decision.decide(Scores(logits=np.random.default_rng(9).normal(size=(50, 4)).astype(np.float32)))
    assert decision.to_json() == before
    for method in (Decision.decide, Decision.probabilities):
        assert list(inspect.signature(method).parameters) == ["self", "scores"]


def test_options_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        DecisionOptions(calibration="magic")  # type: ignore[arg-type]


def test_validation_is_cut_in_two_by_the_document_id() -> None:
    whole = examples(1_000)
    parts = split_validation(whole)
    assert parts.halves is None
    assert {e.id for e in parts.stopping} | {e.id for e in parts.calibration} == {e.id for e in whole}
    assert not {e.id for e in parts.stopping} & {e.id for e in parts.calibration}
    assert 430 < len(parts.stopping) < 570


def test_adding_documents_moves_nobody_to_the_other_half() -> None:
    before, after = split_validation(examples(600)), split_validation(examples(50, "new") + examples(600))
    assert {e.id for e in before.stopping} <= {e.id for e in after.stopping}
    assert {e.id for e in before.calibration} <= {e.id for e in after.calibration}


def test_below_500_documents_both_uses_share_all_and_cross_fit() -> None:
    whole = examples(499)
    stopping, calibration, halves = split_validation(whole)
    assert stopping == calibration == whole
    assert halves is not None
    assert 200 < halves.sum() < 300
    assert split_validation([]).halves is not None


def test_calibration_none_leaves_the_logits_alone() -> None:
    scores, gold = overconfident(300, 3, False)
    decision = fit_decision(scores, gold, multilabel=False, options=DecisionOptions(calibration="none"))
    assert decision == Decision(False)
