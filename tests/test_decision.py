"""From scores to labels."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from pydantic import ValidationError

from evalsuite.calibration import negative_log_likelihood
from evalsuite.contracts import Example, Scores
from evalsuite.decision import Decision, DecisionOptions, check_options, fit_decision, split_validation, unfitted
from evalsuite.errors import ModelError, OptionError

DEFAULTS = DecisionOptions()
VECTOR = DecisionOptions(calibration="vector")


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
    assert (decision.temperature, decision.rule) == (1.0, "own")
    assert "no logits" in decision.notes[0]
    assert fit_decision(scores, predicted, multilabel=False, options=VECTOR) == decision


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


@pytest.mark.parametrize(
    "options",
    [
        DecisionOptions(threshold="per_label"),
        DecisionOptions(threshold="top_k", calibration="vector"),
        DecisionOptions(calibration="vector"),
        DecisionOptions(calibration="none", threshold="fixed"),
    ],
    ids=lambda options: f"{options.calibration}-{options.threshold}",
)
def test_json_gives_the_decision_back_to_the_last_digit(options: DecisionOptions) -> None:
    scores, gold = overconfident(300, 4, True)
    decision = fit_decision(scores, gold, multilabel=True, options=options)
    written = json.loads(json.dumps(decision.to_json()))
    again = Decision.from_json(written)
    assert again == decision
    assert written["calibration"] == options.calibration
    np.testing.assert_array_equal(again.decide(scores), decision.decide(scores))
    np.testing.assert_array_equal(again.probabilities(scores), decision.probabilities(scores))


def test_the_decision_says_which_rule_it_is() -> None:
    scores, gold = overconfident(300, 4, True)
    rules = {"fixed": "threshold", "tuned": "threshold", "per_label": "thresholds", "top_k": "top_k"}
    for threshold, rule in rules.items():
        options = DecisionOptions.model_validate({"threshold": threshold})
        assert fit_decision(scores, gold, multilabel=True, options=options).to_json()["rule"] == rule
    assert Decision(False).to_json()["rule"] == "argmax"


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


def one_label_shouts(n: int = 400) -> tuple[Scores, np.ndarray]:
    """Single label: the first label's logit is 5 too large, so that plain argmax takes it far too often."""
    scores, gold = overconfident(n, 3, False, factor=1.0)
    assert scores.logits is not None
    return Scores(logits=scores.logits + np.array([5, 0, 0], np.float32)), gold


def test_vector_scaling_mends_a_label_that_is_always_preferred() -> None:
    scores, gold = one_label_shouts()
    vector = fit_decision(scores, gold, multilabel=False, options=VECTOR)
    cooled = fit_decision(scores, gold, multilabel=False, options=DEFAULTS)
    assert (vector.calibration, vector.temperature, len(vector.scale), len(vector.bias)) == ("vector", 1.0, 3, 3)
    right = [(decision.decide(scores) & gold).sum() for decision in (vector, cooled)]
    assert right[0] > 1.2 * right[1]
    probabilities = vector.probabilities(scores)
    assert probabilities is not None
    np.testing.assert_array_equal(vector.decide(scores).argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(probabilities.mean(axis=0), gold.mean(axis=0), atol=0.02)


@pytest.mark.parametrize("multilabel", [False, True])
def test_vector_scaling_is_cross_fitted(multilabel: bool) -> None:
    scores, gold = overconfident(400, 3, multilabel)
    halves = np.arange(400) % 2 == 0
    both = fit_decision(scores, gold, multilabel=multilabel, options=VECTOR, halves=halves)
    whole = fit_decision(scores, gold, multilabel=multilabel, options=VECTOR)
    assert both.scale != whole.scale
    assert both.scale == pytest.approx(whole.scale, rel=0.2)
    assert both.notes == whole.notes == ()


def test_vector_scaling_falls_back_and_says_so() -> None:
    scores, gold = overconfident(19, 3, False)
    few = fit_decision(scores, gold, multilabel=False, options=VECTOR)
    assert few.calibration == "none"
    assert few.notes[0].startswith("no vector scaling, nor temperature: 19 documents are too few")
    labels = np.eye(3, dtype=bool)[np.arange(60) % 3]
    sure = Scores(logits=np.where(labels, 1, -1).astype(np.float32))
    separated = fit_decision(sure, labels, multilabel=False, options=VECTOR)
    assert separated.calibration == "none"
    assert "ran to 0.01" in separated.notes[0]


def test_labels_without_documents_are_counted_in_a_note() -> None:
    scores, gold = overconfident(300, 4, True)
    gold = gold.copy()
    gold[:, 3] = False
    decision = fit_decision(scores, gold, multilabel=True, options=VECTOR)
    assert np.isfinite(decision.scale + decision.bias).all()
    assert decision.notes[0].startswith("1 of 4 labels never or always occur")


def test_vector_scaling_of_unanswered_documents_takes_the_others() -> None:
    scores, gold = overconfident(300, 3, False)
    assert scores.logits is not None
    logits = scores.logits.copy()
    logits[::3] = np.nan
    holed = Scores(logits=logits, status=["invalid" if row % 3 == 0 else "ok" for row in range(300)])
    kept = np.arange(300) % 3 != 0
    decision = fit_decision(holed, gold, multilabel=False, options=VECTOR)
    assert decision == fit_decision(Scores(logits=logits[kept]), gold[kept], multilabel=False, options=VECTOR)
    assert (decision.decide(holed).sum(axis=1) == kept).all()


def always_two(n: int = 200, k: int = 5) -> tuple[Scores, np.ndarray]:
    """Every document has two labels, and its own level of logits, so that no threshold finds them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (n, k))
    gold = np.zeros((n, k), bool)
    np.put_along_axis(gold, np.argsort(-logits, axis=1)[:, :2], True, axis=1)
    return Scores(logits=(logits + rng.normal(0, 10, (n, 1))).astype(np.float32)), gold


@pytest.mark.parametrize("halves", [None, np.arange(200) % 2 == 0])
@pytest.mark.parametrize("metric", ["f1_macro", "f1_micro", "accuracy", "brier"])
def test_top_k_finds_how_many_labels_documents_have(metric: str, halves: np.ndarray | None) -> None:
    scores, gold = always_two()
    options = DecisionOptions(threshold="top_k")
    decision = fit_decision(scores, gold, multilabel=True, options=options, metric=metric, halves=halves)
    assert (decision.rule, decision.top_k, decision.thresholds) == ("top_k", 2, ())
    np.testing.assert_array_equal(decision.decide(scores), gold)
    assert any("top_k maximises f1_macro: brier" in note for note in decision.notes) == (metric == "brier")


def test_top_k_of_halves_is_what_both_prefer_on_average() -> None:
    """The first half has two labels a document, the second three, and more at stake: mean scores decide."""
    logits = np.tile([5.0, 4.0, 3.0, -5.0], (100, 1)).astype(np.float32)
    gold = np.ones((100, 4), bool)
    gold[:50, 2:] = False
    gold[50:, 3] = False
    scores, halves = Scores(logits=logits), np.arange(100) < 50
    options = DecisionOptions(threshold="top_k", calibration="none")
    decision = fit_decision(scores, gold, multilabel=True, options=options, metric="f1_micro", halves=halves)
    micro = {2: (1 + 4 / 5) / 2, 3: (4 / 5 + 1) / 2, 4: (2 * 2 / 6 + 2 * 3 / 7) / 2, 1: (2 / 3 + 1 / 2) / 2}
    assert decision.top_k == 2  # of equals the smallest
    assert max(micro.values()) == micro[2] == micro[3]


@pytest.mark.parametrize("count", [1, 3])
def test_top_k_as_asked_needs_nothing_to_fit_on(count: int) -> None:
    scores, gold = always_two()
    options = DecisionOptions(threshold="top_k", top_k=count)
    fitted = fit_decision(scores, gold, multilabel=True, options=options)
    few = fit_decision(Scores(logits=np.zeros((3, 5), np.float32)), gold[:3], multilabel=True, options=options)
    nothing = unfitted(True, options, "no validation documents")
    for decision in (fitted, few, nothing):
        assert decision.top_k == count
        assert (decision.decide(scores).sum(axis=1) == count).all()
    assert nothing.notes == ("no validation documents",)


def test_top_k_of_too_few_documents_is_one_and_says_so() -> None:
    scores, gold = always_two(19)
    decision = fit_decision(scores, gold, multilabel=True, options=DecisionOptions(threshold="top_k"))
    assert decision.top_k == 1
    assert decision.notes[1].startswith("top_k kept at 1: 19 documents are too few")
    assert unfitted(True, DecisionOptions(threshold="top_k"), "none").top_k == 1


def test_top_k_is_taken_of_the_calibrated_logits() -> None:
    scores = Scores(logits=np.array([[2.0, 1.0, 0.0]], np.float32))
    plain = Decision(True, top_k=1)
    moved = Decision(True, top_k=1, scale=(1.0, 1.0, 1.0), bias=(0.0, 0.0, 3.0))
    assert plain.decide(scores).tolist() == [[True, False, False]]
    assert moved.decide(scores).tolist() == [[False, False, True]]
    failed = Scores(logits=scores.logits, status=["failed"])
    assert not moved.decide(failed).any()


def test_vector_scaled_thresholds_are_fitted_to_the_scaled_probabilities() -> None:
    scores, gold = overconfident(600, 4, True)
    shifted = Scores(logits=scores.logits - np.array([8, 0, -8, 4], np.float32))
    vector, cooled = (
        fit_decision(shifted, gold, multilabel=True, options=options, metric="f1_micro")
        for options in (VECTOR, DEFAULTS)
    )
    hits = [2 * (d.decide(shifted) & gold).sum() / (d.decide(shifted).sum() + gold.sum()) for d in (vector, cooled)]
    assert hits[0] > hits[1] + 0.05
    assert 0.2 < vector.thresholds[0] < 0.6


@pytest.mark.parametrize(
    ("options", "multilabel", "words"),
    [
        ({"threshold": "top_k"}, False, "threshold 'top_k' is for tasks where a document may have many labels"),
        ({"threshold": "top_k", "top_k": 4}, True, "top_k 4 must be at most 3, the number of labels, or auto"),
        ({"top_k": 2}, True, "top_k 2 has no effect with threshold 'tuned'; add --set threshold=top_k"),
        ({"top_k": 2}, False, "top_k 2 has no effect"),
    ],
)
def test_options_that_do_not_fit_the_labels_are_refused(
    options: dict[str, object], multilabel: bool, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        check_options(DecisionOptions.model_validate(options), multilabel, 3)


def test_options_that_fit() -> None:
    for options in ({}, {"threshold": "top_k"}, {"threshold": "top_k", "top_k": "3"}, {"calibration": "vector"}):
        check_options(DecisionOptions.model_validate(options), True, 3)
    check_options(VECTOR, False, 3)
    with pytest.raises(ValidationError):
        DecisionOptions(top_k=0)
