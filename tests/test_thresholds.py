"""Thresholds against a search that calls scikit-learn at every candidate."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from evalsuite.thresholds import CANDIDATES, TUNABLE, best_threshold, best_thresholds, likeliest, score_counts


def rare_labels(n: int = 150, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gold = rng.random((n, k)) < np.linspace(0.1, 0.4, k)
    return 1 / (1 + np.exp(-(gold * 2.0 - 3 + rng.normal(0, 1, (n, k))))), gold


def test_candidates_hold_the_middle_exactly() -> None:
    assert 0.5 in CANDIDATES
    assert CANDIDATES[[0, -1]] == pytest.approx([0.00091, 0.99909], abs=1e-5)


@pytest.mark.parametrize("metric", TUNABLE)
def test_shared_threshold_is_as_good_as_any_candidate(metric: str) -> None:
    probabilities, gold = rare_labels()

    def score(threshold: float) -> float:
        predicted = probabilities >= threshold
        if metric == "accuracy":
            return float(accuracy_score(gold, predicted))
        return float(f1_score(gold, predicted, average=metric.removeprefix("f1_"), zero_division=0))

    best = max(score(candidate) for candidate in CANDIDATES)
    assert score(best_threshold(probabilities, gold, metric)) == pytest.approx(best)
    assert best > score(0.5)


def test_own_thresholds_are_as_good_as_any_candidate() -> None:
    probabilities, gold = rare_labels()
    for label, threshold in enumerate(best_thresholds(probabilities, gold)):
        column, truth = probabilities[:, label], gold[:, label]
        best = max(f1_score(truth, column >= candidate, zero_division=0) for candidate in CANDIDATES)
        assert f1_score(truth, column >= threshold) == pytest.approx(best)


def test_where_nothing_decides_the_threshold_stays_at_half() -> None:
    probabilities, nothing = np.zeros((30, 2)), np.zeros((30, 2), bool)
    assert best_threshold(probabilities, nothing, "f1_macro") == 0.5
    assert best_thresholds(probabilities, nothing).tolist() == [0.5, 0.5]


def test_the_likeliest_labels_by_hand() -> None:
    logits = np.array([[3.0, 1.0, 2.0], [-9.0, -7.0, -8.0], [1.0, 1.0, 1.0]])
    assert likeliest(logits, 1).astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert likeliest(logits, 2).astype(int).tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 0]]
    assert likeliest(logits, 3).all()


@pytest.mark.parametrize("metric", TUNABLE)
def test_the_score_of_every_number_of_labels_is_scikit_learns(metric: str) -> None:
    probabilities, gold = rare_labels(k=6)
    gold[:40] = likeliest(probabilities[:40], 2)
    expected = []
    for count in range(1, 7):
        predicted = likeliest(probabilities, count)
        if metric == "accuracy":
            expected.append(accuracy_score(gold, predicted))
        else:
            expected.append(f1_score(gold, predicted, average=metric.removeprefix("f1_"), zero_division=0))
    found = score_counts(probabilities, gold, metric)
    np.testing.assert_allclose(found, expected)
    assert found.max() > 0


def test_number_of_labels_by_hand() -> None:
    gold = np.array([[1, 1, 0], [0, 1, 1]], bool)
    logits = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert score_counts(logits, gold, "accuracy").tolist() == [0, 1, 0]
    assert score_counts(logits, gold, "f1_micro") == pytest.approx([2 * 2 / 6, 1, 2 * 4 / 10])


def test_without_gold_labels_no_number_of_them_is_better() -> None:
    assert score_counts(np.zeros((4, 3)), np.zeros((4, 3), bool), "f1_weighted").tolist() == [0, 0, 0]
