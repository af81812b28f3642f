"""Collapse: one answer for everything, or no better than reading nothing; and where nobody can tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score

from evalsuite.collapse import MIN_DOCUMENTS, detect_collapse, majority_decisions
from evalsuite.contracts import Bools


def single(labels: Any, k: int = 3) -> Bools:
    return np.asarray(np.arange(k) == np.asarray(labels)[:, None])


GOLD = single(np.arange(300) % 3)
MAJORITY = single(np.zeros(300, int))
OK = ["ok"] * 300


def mostly(share: float) -> Bools:
    """Right answers but for the first ``share`` of the documents, which get the second label."""
    labels = np.arange(300) % 3
    labels[: round(300 * share)] = 1
    return single(labels)


def test_a_method_that_has_learnt_has_not_collapsed() -> None:
    found = detect_collapse(GOLD, mostly(0.2), MAJORITY, OK)
    assert (found.collapsed, found.reasons, found.documents) == (False, (), 300)
    assert found.f1_macro == pytest.approx(f1_score(GOLD.argmax(1), mostly(0.2).argmax(1), average="macro"))
    assert found.interval is not None
    assert found.interval[0] < found.f1_macro < found.interval[1]


@pytest.mark.parametrize(("share", "collapsed"), [(1.0, True), (0.99, True), (0.98, False)])
def test_one_answer_for_99_percent_is_a_collapse_even_where_that_answer_is_often_right(
    share: float, collapsed: bool
) -> None:
    """The labels are so uneven that macro-F1 alone cannot tell."""
    gold = single([0] * 280 + [1] * 10 + [2] * 10)
    predicted = gold.copy()
    constant = round(300 * share)
    predicted[:constant] = [True, False, False]
    found = detect_collapse(gold, predicted, single([2] * 300), OK)
    assert found.collapsed is collapsed
    assert found.share == pytest.approx(share)
    assert [reason.startswith("one answer is given to") for reason in found.reasons] == [True] * collapsed


def test_no_better_than_majority_by_the_interval_is_a_collapse_however_the_answers_are_spread() -> None:
    guesses = single(np.random.default_rng(0).integers(0, 3, 300))
    weak = single(np.arange(300) >= 288)
    assert detect_collapse(GOLD, guesses, single(np.arange(300) // 100), OK).collapsed
    found = detect_collapse(GOLD, weak, MAJORITY, OK)
    assert found.collapsed
    assert found.share is not None
    assert found.share < 0.99
    [reason] = found.reasons
    assert "not above the 0.167 of always giving the most frequent answer" in reason
    assert found.majority_f1_macro == pytest.approx(0.5 / 3)


def test_worse_than_majority_is_a_collapse_too() -> None:
    assert detect_collapse(GOLD, np.roll(GOLD, 1, axis=1), MAJORITY, OK).collapsed


def test_too_few_documents_tell_nothing() -> None:
    few = MIN_DOCUMENTS - 1
    found = detect_collapse(GOLD[:few], MAJORITY[:few], MAJORITY[:few], OK[:few])
    assert (found.collapsed, found.f1_macro, found.documents) == (None, None, few)
    assert found.reasons == ("19 validation documents are too few to tell (at least 20)",)
    assert detect_collapse(GOLD[:20], MAJORITY[:20], MAJORITY[:20], OK[:20]).collapsed


def test_failed_documents_are_left_out_and_invalid_ones_are_wrong() -> None:
    failed = ["failed"] * 270 + ["ok"] * 30
    assert detect_collapse(GOLD, MAJORITY, MAJORITY, failed).documents == 30
    assert detect_collapse(GOLD, GOLD, MAJORITY, ["failed"] * 285 + ["ok"] * 15).collapsed is None
    invalid = detect_collapse(GOLD, np.zeros_like(GOLD), MAJORITY, ["invalid"] * 300)
    assert (invalid.collapsed, invalid.f1_macro, invalid.share) == (True, 0, 0)


def test_majority_is_the_most_frequent_label_of_train_as_in_scikit_learn() -> None:
    train = np.random.default_rng(1).integers(0, 3, 50)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((50, 1)), train)
    expected = single(dummy.predict(np.zeros((300, 1))))
    np.testing.assert_array_equal(majority_decisions(single(train), GOLD, False), expected)


def test_majority_of_a_multi_label_task_is_cut_where_it_scores_best() -> None:
    train = np.array([[1, 1, 0]] * 6 + [[1, 0, 1]] * 3 + [[0, 0, 0]], bool)
    gold = np.array([[1, 1, 0]] * 30 + [[1, 0, 0]] * 10, bool)
    decided = majority_decisions(train, gold, True)
    sets = {
        number: f1_score(gold, np.tile(np.arange(3) < number, (40, 1)), average="macro", zero_division=0, labels=[0, 1])
        for number in (1, 2)
    }
    assert sets[2] > sets[1]
    np.testing.assert_array_equal(decided, np.tile([True, True, False], (40, 1)))


@pytest.mark.parametrize("answer", [[True, False, False], [True, True, False], [False, False, False]], ids=str)
def test_one_label_set_for_all_is_a_collapse_of_a_multi_label_method(answer: list[bool]) -> None:
    gold = np.random.default_rng(2).random((200, 3)) < 0.4
    majority = majority_decisions(gold, gold, True)
    assert detect_collapse(gold, np.tile(answer, (200, 1)), majority, ["ok"] * 200).collapsed
    good = gold ^ (np.random.default_rng(3).random(gold.shape) < 0.05)
    assert detect_collapse(gold, good, majority, ["ok"] * 200).collapsed is False


def test_where_no_label_occurs_nobody_can_tell() -> None:
    nothing = np.zeros((50, 3), bool)
    found = detect_collapse(nothing, nothing, nothing, ["ok"] * 50)
    assert (found.collapsed, found.interval) == (None, None)
    assert "no label occurs" in found.reasons[0]


def test_the_verdict_is_the_same_every_time_and_plain() -> None:
    first, second = (detect_collapse(GOLD, mostly(0.5), MAJORITY, OK) for _ in range(2))
    assert first == second
    assert set(first.to_json()) == {
        "collapsed",
        "reasons",
        "documents",
        "share",
        "f1_macro",
        "interval",
        "majority_f1_macro",
    }
