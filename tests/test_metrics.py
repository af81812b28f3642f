"""The report of a scored split, on random and on adversarial tables."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, log_loss, precision_recall_fscore_support

from evalsuite.contracts import Metric, Scores
from evalsuite.errors import ModelError, PluginError, UnknownNameError, UsageError
from evalsuite.metrics import BUILTIN, WITH_INTERVAL, Bootstrap, Report, evaluate, score_metric

QUICK = Bootstrap(resamples=200)


def one_hot(labels: list[int] | np.ndarray, k: int = 3) -> np.ndarray:
    return np.eye(k, dtype=bool)[labels]


def report(gold: np.ndarray, predicted: np.ndarray, status: list[str] | None = None, **kwargs: object) -> Report:
    options: dict[str, object] = {"multilabel": False, "bootstrap": QUICK, "probabilities": None, **kwargs}
    return evaluate(gold, predicted, status=status or ["ok"] * len(gold), **options)  # type: ignore[arg-type]


def test_every_metric_has_a_value_or_a_reason() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = one_hot(rng.integers(0, 3, 50)), one_hot(rng.integers(0, 3, 50))
    with_probabilities = report(gold, predicted, probabilities=rng.dirichlet(np.ones(3), 50))
    assert list(with_probabilities.values) == list(BUILTIN)
    assert with_probabilities.reasons == {}
    assert set(with_probabilities.intervals) == set(WITH_INTERVAL)
    without = report(gold, predicted)
    assert {name for name, value in without.values.items() if value is None} == set(without.reasons)
    assert without.reasons["ece"] == "the method gives no probabilities"
    assert json.loads(json.dumps(without.to_json()))["values"]["brier"] is None


def test_values_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    probabilities = rng.dirichlet(np.ones(4), 200)
    found = report(one_hot(gold, 4), one_hot(predicted, 4), probabilities=probabilities)
    assert found.values["f1_macro"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert found.values["nll"] == pytest.approx(log_loss(gold, probabilities))
    assert found.values["brier"] == pytest.approx(brier_score_loss(gold, probabilities, scale_by_half=False))
    columns = np.array([[label.precision, label.recall, label.f1, label.support] for label in found.labels])
    np.testing.assert_allclose(columns.T, precision_recall_fscore_support(gold, predicted))


@pytest.mark.parametrize("name", WITH_INTERVAL)
def test_intervals_hold_the_value_and_narrow_with_documents(name: str) -> None:
    def width(n: int) -> float:
        rng = np.random.default_rng(0)
        probabilities = rng.dirichlet(np.ones(3), n)
        gold = one_hot([rng.choice(3, p=row) for row in probabilities])
        found = report(gold, one_hot(probabilities.argmax(axis=1)), probabilities=probabilities)
        low, high = found.intervals[name]
        value = found.values[name]
        assert value is not None
        assert low < value < high
        return high - low

    assert width(1_600) < 0.35 * width(100)


def test_ece_has_no_bootstrap_interval() -> None:
    """It would be biased up: a calibrated model at 0.028 had 0.027 to 0.063. ``ece_expected`` is there instead."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 200)
    gold = one_hot([rng.choice(3, p=row) for row in probabilities])
    found = report(gold, one_hot(probabilities.argmax(axis=1)), probabilities=probabilities)
    assert "ece" not in found.intervals
    assert found.values["ece_expected"] is not None


def test_interval_of_accuracy_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        right = rng.random(150) < 0.7
        gold = one_hot(rng.integers(0, 2, 150), 2)
        low, high = report(gold, gold ^ ~right[:, None], bootstrap=Bootstrap(400, trial)).intervals["accuracy"]
        hits += low <= 0.7 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_an_absent_class_is_not_hidden() -> None:
    """A perfect answer where one of three classes never occurs: 1.00 over two labels, and it says so; 0.67 over all."""
    found = report(one_hot([0, 1, 0, 1]), one_hot([0, 1, 0, 1]))
    assert found.values["f1_macro"] == 1.0
    assert found.values["f1_macro_all_labels"] == pytest.approx(2 / 3)
    assert found.counts["labels"] == 3
    assert found.counts["labels_with_support"] == 2
    assert found.labels[2].f1 is None
    assert found.labels[2].support == 0


def test_a_class_that_is_never_predicted_counts_zero() -> None:
    found = report(
        one_hot([0, 1, 2]), one_hot([0, 1, 2]) & np.array([[True], [True], [False]]), ["ok", "ok", "invalid"]
    )
    assert found.values["f1_macro"] == pytest.approx(2 / 3)
    assert found.labels[2].f1 == 0.0


def test_invalid_answers_are_wrong_and_failed_ones_are_left_out() -> None:
    gold = one_hot([0, 1, 2, 0])
    found = report(gold, gold, ["ok", "invalid", "failed", "ok"])
    assert found.values["accuracy"] == pytest.approx(2 / 3)
    assert found.values["invalid_rate"] == pytest.approx(1 / 3)
    assert found.values["failed_rate"] == 0.25
    assert found.counts == {"documents": 4, "failed": 1, "invalid": 1, "labels": 3, "labels_with_support": 2}
    assert [label.support for label in found.labels] == [2, 1, 0]
    assert found.labels[1].predicted == 0


def test_failed_documents_change_no_metric() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = one_hot(rng.integers(0, 3, 30)), one_hot(rng.integers(0, 3, 30))
    failed = np.arange(30) % 3 == 0
    whole = report(gold, predicted, ["failed" if row else "ok" for row in failed])
    part = report(gold[~failed], predicted[~failed])
    assert replace(whole, counts={}).values | {"failed_rate": 0.0} == part.values
    assert whole.intervals == part.intervals


def test_an_invalid_answer_to_a_document_without_labels_is_wrong() -> None:
    nothing = np.zeros((2, 3), bool)
    found = report(nothing, nothing, ["ok", "invalid"], multilabel=True)
    assert found.values["accuracy"] == 0.5
    assert found.reasons["f1_macro"] == "no label occurs in gold or prediction"


def test_probabilities_of_invalid_and_failed_rows_are_not_read() -> None:
    gold = one_hot([0, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [np.nan] * 3, [np.nan] * 3])
    found = report(gold, gold, ["ok", "invalid", "failed"], probabilities=probabilities)
    assert found.values["brier"] == pytest.approx(0.06)
    assert found.values["nll"] == pytest.approx(-np.log(0.8))


@pytest.mark.parametrize("status", [[], ["failed", "failed"]])
def test_nothing_answered_is_null_everywhere(status: list[str]) -> None:
    gold = one_hot([0, 1])[: len(status)]
    found = evaluate(gold, gold, None, status, multilabel=False)
    assert found.values["accuracy"] is None
    assert found.values["failed_rate"] == (1.0 if status else None)
    assert found.reasons["accuracy"] == "no document was answered"
    assert found.intervals == {}


def test_all_wrong_and_one_document() -> None:
    wrong = report(one_hot([0, 1, 2]), one_hot([1, 2, 0]))
    assert (wrong.values["accuracy"], wrong.values["f1_macro"]) == (0, 0)
    assert wrong.intervals["f1_macro"] == (0, 0)
    one = report(one_hot([1]), one_hot([1]), probabilities=np.array([[0.0, 1.0, 0.0]]))
    assert one.values["f1_macro"] == 1
    assert one.values["ece"] == 0
    assert one.intervals["accuracy"] == (1, 1)


def test_extra_metrics_are_reported_beside_the_built_in_ones() -> None:
    gold = one_hot([0, 1, 2])
    right = Metric("right", lambda g, p, _: float((g & p).sum()))
    never = Metric("never", lambda g, p, _: None)
    found = report(gold, gold, ["ok", "ok", "invalid"], extra=[right, never])
    assert found.values["right"] == 2.0
    assert found.reasons["never"] == "the metric gave no number"
    with pytest.raises(PluginError, match="'accuracy' is built in"):
        report(gold, gold, extra=[replace(right, name="accuracy")])


def test_tables_that_do_not_fit_are_refused() -> None:
    gold = one_hot([0, 1])
    with pytest.raises(ValueError, match="one shape"):
        report(gold, gold[:1])
    with pytest.raises(ValueError, match="one shape"):
        report(gold, gold, ["ok"])
    with pytest.raises(ValueError, match="unknown states"):
        report(gold, gold, ["ok", "lost"])


def test_score_metric_is_higher_for_the_better_state() -> None:
    gold = one_hot([0, 1, 2, 0])
    good = Scores(logits=np.where(gold, 2, 0).astype(np.float32))
    bad = Scores(logits=np.where(gold, 0, 2).astype(np.float32))
    for name in ("accuracy", "f1_macro", "nll", "brier"):
        assert score_metric(name, good, gold, False) > score_metric(name, bad, gold, False)
    assert score_metric("nll", good, gold, False) < 0
    assert score_metric("f1_micro", Scores(predicted=gold), gold, False) == 1


def test_score_metric_sees_ranking_below_one_half() -> None:
    """Rare labels seldom pass 0.5 early on; a state that ranks them rightly must not score like one that does not."""
    gold = np.eye(4, dtype=bool)
    ranked = Scores(logits=np.where(gold, -3, -5).astype(np.float32))
    flat = Scores(logits=np.full((4, 4), -5, np.float32))
    assert score_metric("f1_macro", ranked, gold, True) == 1
    assert score_metric("f1_macro", flat, gold, True) < 0.5


def test_score_metric_takes_extra_metrics_with_their_direction() -> None:
    gold = one_hot([0, 1])
    errors = Metric("errors", lambda g, p, _: float((g != p).sum()), higher_is_better=False)
    assert score_metric("errors", Scores(predicted=one_hot([0, 2])), gold, False, [errors]) == -2


def test_score_metric_names_what_it_cannot_do() -> None:
    gold = one_hot([0, 1])
    with pytest.raises(UnknownNameError, match="did you mean f1_macro"):
        score_metric("f1_makro", Scores(predicted=gold), gold, False)
    with pytest.raises(UsageError, match="'nll' needs probabilities"):
        score_metric("nll", Scores(predicted=gold), gold, False)
    logits = np.array([[0, np.nan, 0], [0, 1, 0]], np.float32)
    with pytest.raises(ModelError, match=r"1 of 2 documents are not finite \(first: row 0\)"):
        score_metric("accuracy", Scores(logits=logits), gold, False)
    assert score_metric("accuracy", Scores(logits=logits, status=["failed", "ok"]), gold, False) == 1
