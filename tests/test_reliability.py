"""Calibration before and after: one definition, the metrics' own numbers, and null where nothing can be said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from evalsuite.calibration import BINS, probabilities_of, reliability_bins
from evalsuite.contracts import Scores
from evalsuite.decision import Decision
from evalsuite.metrics import Bootstrap, evaluate
from evalsuite.reliability import calibration_report, confidence

COOLED = {False: Decision(False, 3.0), True: Decision(True, 3.0, (0.4,))}
VECTOR = {
    multilabel: Decision(multilabel, scale=(0.3, 0.4, 0.2, 0.3), bias=(0.1, -0.5, 0.0, 0.4))
    for multilabel in (False, True)
}


def scored(n: int, multilabel: bool) -> tuple[Scores, np.ndarray]:
    """Logits three times too large, and gold."""
    rng = np.random.default_rng(1)
    true = rng.normal(-0.5, 1.5, (n, 4))
    if multilabel:
        gold = rng.random((n, 4)) < probabilities_of(true, True)
    else:
        gold = np.eye(4, dtype=bool)[(true + rng.gumbel(size=(n, 4))).argmax(axis=1)]
    return Scores(logits=(3 * true).astype(np.float32)), gold


def loop_bins(confidences: np.ndarray, outcomes: np.ndarray) -> list[dict[str, Any]]:
    """Bin by bin: open below, closed above, the first one closed at 0 too."""
    found = []
    for number in range(15):
        inside = [
            i for i, c in enumerate(confidences) if number / 15 < c <= (number + 1) / 15 or (c == 0 and number == 0)
        ]
        found.append(
            {
                "count": len(inside),
                "confidence": np.mean(confidences[inside]) if inside else None,
                "accuracy": np.mean(outcomes[inside]) if inside else None,
            }
        )
    return found


def assert_same(bins: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [entry["count"] for entry in bins] == [entry["count"] for entry in expected]
    for entry, plain in zip(bins, expected, strict=True):
        assert entry == pytest.approx(plain)


def test_bins_of_single_label_equal_the_plain_loop_of_the_likeliest_label() -> None:
    scores, gold = scored(300, False)
    probabilities = Decision(False).probabilities(scores)
    assert probabilities is not None
    bins = reliability_bins(probabilities, gold, False)
    right = gold[np.arange(300), probabilities.argmax(axis=1)].astype(float)
    assert_same(bins, loop_bins(probabilities.max(axis=1), right))
    assert sum(entry["count"] for entry in bins) == 300
    assert bins[0] == {"count": 0, "confidence": None, "accuracy": None}  # of four labels one has a quarter at least


def test_bins_of_multilabel_are_pooled_over_labels() -> None:
    scores, gold = scored(300, True)
    probabilities = Decision(True).probabilities(scores)
    assert probabilities is not None
    bins = reliability_bins(probabilities, gold, True)
    assert_same(bins, loop_bins(probabilities.ravel(), gold.ravel().astype(float)))
    assert sum(entry["count"] for entry in bins) == 4 * 300


def test_certain_probabilities_have_a_bin() -> None:
    bins = reliability_bins(np.array([[0.0], [1.0]]), np.array([[False], [True]]), True)
    assert len(bins) == BINS
    assert bins[0] == {"count": 1, "confidence": 0.0, "accuracy": 0.0}
    assert bins[-1] == {"count": 1, "confidence": 1.0, "accuracy": 1.0}


@pytest.mark.parametrize("fitted", [COOLED, VECTOR], ids=["temperature", "vector"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_after_is_what_the_metrics_say_and_before_is_what_they_would_have_said(
    multilabel: bool, fitted: dict[bool, Decision]
) -> None:
    scores, gold = scored(400, multilabel)
    report = calibration_report(scores, gold, fitted[multilabel], multilabel)
    for state, decision in (("before", Decision(multilabel)), ("after", fitted[multilabel])):
        values = evaluate(
            gold,
            decision.decide(scores),
            decision.probabilities(scores),
            scores.status,
            multilabel=multilabel,
            bootstrap=Bootstrap(0),
        ).values
        assert {name: report[state][name] for name in ("ece", "brier", "nll")} == {
            name: values[name] for name in ("ece", "brier", "nll")
        }
    assert report["reason"] is None
    assert report["after"]["nll"] < report["before"]["nll"]
    assert report["after"]["ece"] < report["before"]["ece"]
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("state", ["before", "after"])
def test_the_bins_of_single_label_add_up_to_its_ece(state: str) -> None:
    scores, gold = scored(400, False)
    found = calibration_report(scores, gold, COOLED[False], False)[state]
    filled = [entry for entry in found["bins"] if entry["count"]]
    gaps = [entry["count"] / 400 * abs(entry["accuracy"] - entry["confidence"]) for entry in filled]
    assert sum(gaps) == pytest.approx(found["ece"])


def test_only_answered_documents_count() -> None:
    scores, gold = scored(90, False)
    assert scores.logits is not None
    logits = scores.logits.copy()
    logits[::3] = np.nan
    status = [("failed" if row % 2 else "invalid") if row % 3 == 0 else "ok" for row in range(90)]
    kept = np.arange(90) % 3 != 0
    whole = calibration_report(Scores(logits=logits, status=status), gold, COOLED[False], False)
    part = calibration_report(Scores(logits=logits[kept]), gold[kept], COOLED[False], False)
    assert whole == part
    assert sum(entry["count"] for entry in whole["after"]["bins"]) == 60


def test_without_logits_everything_is_null_with_a_reason() -> None:
    gold = np.eye(3, dtype=bool)
    report = calibration_report(Scores(predicted=gold), gold, Decision(False, own_labels=True), False)
    nothing = {"ece": None, "brier": None, "nll": None, "bins": None}
    assert report == {"before": nothing, "after": nothing, "reason": "the method gives no probabilities"}
    unanswered = Scores(logits=np.zeros((3, 3), np.float32), status=["failed"] * 3)
    report = calibration_report(unanswered, gold, Decision(False), False)
    assert report == {"before": nothing, "after": nothing, "reason": "no document has a valid answer"}


def test_confidence_of_a_single_label_is_the_highest_probability() -> None:
    assert confidence(np.array([[0.2, 0.7, 0.1], [1.0, 0.0, 0.0]]), False).tolist() == [0.7, 1.0]


def test_confidence_of_multilabel_is_that_of_the_least_certain_label() -> None:
    """0.45 is less certain than 0.9 and 0.1 are, on whichever side of a threshold it lies."""
    assert confidence(np.array([[0.9, 0.45, 0.1], [0.01, 0.02, 0.03]]), True) == pytest.approx([0.55, 0.97])


@pytest.mark.parametrize("multilabel", [False, True])
def test_confidence_of_nothing(multilabel: bool) -> None:
    """A document without an answer has no confidence, and no documents have none."""
    assert np.isnan(confidence(np.full((1, 3), np.nan), multilabel)).all()
    assert confidence(np.zeros((0, 3)), multilabel).shape == (0,)
