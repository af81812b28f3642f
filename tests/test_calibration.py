"""Probabilities, their errors and the temperature, against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from evalsuite.calibration import (
    brier,
    calibrated_error,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities_of,
)


def dirichlet(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, k] and gold bool [n, k] drawn from them: calibrated by construction."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(k, 0.5), n)
    return probabilities, np.eye(k, dtype=bool)[[rng.choice(k, p=row) for row in probabilities]]


def loop_ece(confidences: np.ndarray, outcomes: np.ndarray) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for lower, upper in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = [i for i, c in enumerate(confidences) if lower < c <= upper or (c == 0 and lower == 0)]
        if inside:
            gap = abs(np.mean(outcomes[inside]) - np.mean(confidences[inside]))
            total += len(inside) / len(confidences) * gap
    return total


def test_ece_of_the_top_label_equals_the_plain_loop() -> None:
    probabilities, gold = dirichlet(300, 4)
    right = gold[np.arange(300), probabilities.argmax(axis=1)]
    assert calibration_error(probabilities, gold, False) == pytest.approx(loop_ece(probabilities.max(axis=1), right))


def test_ece_of_multilabel_is_the_mean_over_labels_of_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    probabilities, gold = rng.random((120, 5)), rng.random((120, 5)) < 0.4
    expected = np.mean([loop_ece(probabilities[:, label], gold[:, label]) for label in range(5)])
    assert calibration_error(probabilities, gold, True) == pytest.approx(expected)


def test_ece_at_the_edges_of_bins() -> None:
    confidences = np.linspace(0, 1, 16)[:, None]
    gold = np.zeros((16, 1), bool)
    assert calibration_error(confidences, gold, True) == pytest.approx(loop_ece(confidences[:, 0], gold[:, 0]))


def test_ece_of_a_calibrated_model_is_read_against_the_value_expected_of_one() -> None:
    """ECE is biased upward: calibrated probabilities of 500 documents read about 0.04, not 0."""
    readings = [calibration_error(*dirichlet(500, 4, seed), False) for seed in range(20)]
    expected = calibrated_error(dirichlet(500, 4)[0], False, seed=0)
    assert 0.02 < expected < 0.06
    assert expected == pytest.approx(np.mean(readings), rel=0.15)
    sharpened = dirichlet(500, 4)[0] ** 3
    sharpened /= sharpened.sum(axis=1, keepdims=True)
    assert calibration_error(sharpened, dirichlet(500, 4)[1], False) > 3 * expected


def test_expected_ece_shrinks_with_documents_and_repeats_by_seed() -> None:
    small, large = (np.random.default_rng(0).random((n, 6)) for n in (100, 10_000))
    assert calibrated_error(small, True, 0) > 5 * calibrated_error(large, True, 0)
    assert calibrated_error(small, True, 0) == calibrated_error(small, True, 0) != calibrated_error(small, True, 1)


def test_brier_and_likelihood_equal_scikit_learn() -> None:
    probabilities, gold = dirichlet(200, 4)
    classes = gold.argmax(axis=1)
    assert brier(probabilities, gold, False).mean() == pytest.approx(
        brier_score_loss(classes, probabilities, scale_by_half=False, labels=range(4))
    )
    assert negative_log_likelihood(probabilities, gold, False).mean() == pytest.approx(log_loss(classes, probabilities))


def test_multilabel_brier_and_likelihood_are_means_over_labels_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probabilities, gold = rng.random((80, 3)), rng.random((80, 3)) < 0.4
    columns = list(zip(gold.T, probabilities.T, strict=True))
    assert brier(probabilities, gold, True).mean() == pytest.approx(np.mean([brier_score_loss(*c) for c in columns]))
    expected = np.mean([log_loss(*column) for column in columns])
    assert negative_log_likelihood(probabilities, gold, True).mean() == pytest.approx(expected)


def test_one_sure_and_wrong_answer_costs_a_finite_amount() -> None:
    loss = negative_log_likelihood(np.array([[0.0, 1.0]]), np.array([[True, False]]), False)
    assert loss == pytest.approx(34.54, abs=0.01)


def test_probabilities_of_huge_logits_neither_warn_nor_overflow() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, -1e4]], np.float32)
    np.testing.assert_allclose(probabilities_of(logits, False), [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(probabilities_of(logits, True), [[1, 0], [0, 0]], atol=1e-300)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_of_single_label_is_found(true: float) -> None:
    probabilities, gold = dirichlet(4_000, 4)
    logits = np.log(probabilities + 1e-12) * true  # sharper than true where > 1: overconfident
    temperature, reason = fit_temperature(logits, gold, False)
    assert reason is None
    assert temperature == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_of_multilabel_is_found_and_lowers_cross_entropy(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (2_000, 5))
    gold = rng.random(logits.shape) < probabilities_of(logits, True)
    temperature, reason = fit_temperature(logits * true, gold, True)
    assert reason is None
    assert temperature == pytest.approx(true, rel=0.1)
    before = negative_log_likelihood(probabilities_of(logits * true, True), gold, True).mean()
    after = negative_log_likelihood(probabilities_of(logits * true, True, temperature), gold, True).mean()
    assert after <= before
    assert (after < before - 0.01) == (true != 1.0)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_calibrated_likelihood_is_never_worse_on_the_fitting_data(multilabel: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.uniform(0.1, 20), (50, 3))
    gold = np.eye(3, dtype=bool)[rng.integers(0, 3, 50)]
    temperature, _ = fit_temperature(logits, gold, multilabel)
    before, after = (
        negative_log_likelihood(probabilities_of(logits, multilabel, t), gold, multilabel).mean()
        for t in (1.0, temperature)
    )
    assert after <= before + 1e-9


def test_temperature_is_kept_where_it_runs_to_a_bound() -> None:
    gold = np.eye(3, dtype=bool)[np.arange(60) % 3]
    separated = np.where(gold, 1.0, -1.0)
    assert fit_temperature(separated, gold, False) == (1.0, "the temperature ran to 0.01, the bound of the search")
    temperature, reason = fit_temperature(-separated, gold, False)
    assert temperature == 1.0
    assert reason is not None
    assert "ran to" in reason


def test_temperature_is_kept_where_there_are_few_documents_or_nothing_to_gain() -> None:
    gold = np.eye(3, dtype=bool)[np.arange(60) % 3]
    temperature, reason = fit_temperature(np.zeros((19, 3)), gold[:19], False)
    assert temperature == 1.0
    assert reason is not None
    assert "19 documents are too few" in reason
    assert fit_temperature(np.zeros((60, 3)), gold, False) == (1.0, None)
