"""A scale and a bias for each label: against scikit-learn, against a plain search, and where labels are missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from evalsuite.calibration import fit_temperature, negative_log_likelihood, probabilities_of
from evalsuite.vector_scaling import fit_vector

AMPLIFIED = np.array([4.0, 1.0, 0.5])
MOVED = np.array([-6.0, 0.0, 3.0])


def distorted(n: int, multilabel: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of 3 labels, each too large by its own factor and moved by its own constant; and gold."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1 if multilabel else 0, 2, (n, 3))
    if multilabel:
        gold = rng.random((n, 3)) < probabilities_of(true, True)
    else:
        gold = np.eye(3, dtype=bool)[(true + rng.gumbel(size=(n, 3))).argmax(axis=1)]
    return true * AMPLIFIED + MOVED, gold


def all_of(gold: np.ndarray) -> list[np.ndarray]:
    return [np.ones(len(gold), bool)]


def loss(logits: np.ndarray, gold: np.ndarray, multilabel: bool) -> float:
    return float(negative_log_likelihood(probabilities_of(logits, multilabel), gold, multilabel).mean())


@pytest.mark.parametrize("multilabel", [False, True])
def test_known_scales_and_biases_are_found(multilabel: bool) -> None:
    logits, gold = distorted(20_000, multilabel)
    scale, bias = fit_vector(logits, gold, all_of(gold), multilabel, 1.0)
    np.testing.assert_allclose(scale, 1 / AMPLIFIED, rtol=0.05)
    expected = -MOVED / AMPLIFIED
    if not multilabel:  # a constant for all labels changes no softmax
        bias, expected = bias - bias.mean(), expected - expected.mean()
    np.testing.assert_allclose(bias, expected, atol=0.1)


def test_multilabel_is_the_logistic_regression_of_each_label_on_its_own_logit() -> None:
    logits, gold = distorted(20_000, True)
    scale, bias = fit_vector(logits, gold, all_of(gold), True, 2.0)
    for label in range(3):
        plain = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, [label]], gold[:, label])
        assert scale[label] == pytest.approx(plain.coef_[0, 0], rel=2e-3)
        assert bias[label] == pytest.approx(plain.intercept_[0], abs=5e-3)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_optimum_is_what_a_search_without_gradients_finds(multilabel: bool, temperature: float) -> None:
    """The likelihood of all documents, and a unit normal prior on what differs from the temperature."""
    logits, gold = distorted(80, multilabel)
    cooled = logits / temperature
    centre = cooled.mean(axis=0)

    def plain(parameters: np.ndarray) -> float:
        scaled = np.exp(parameters[:3]) * (cooled - centre) + centre + parameters[3:]
        documents = negative_log_likelihood(probabilities_of(scaled, multilabel), gold, multilabel)
        return float(documents.sum() * (3 if multilabel else 1) + (parameters**2).sum() / 2)

    found = minimize(plain, np.zeros(6), method="Powell", options={"xtol": 1e-8, "ftol": 1e-14, "maxfev": 50_000}).x
    scale, bias = fit_vector(logits, gold, all_of(gold), multilabel, temperature)
    np.testing.assert_allclose(scale, np.exp(found[:3]) / temperature, rtol=1e-3)
    np.testing.assert_allclose(bias, centre * (1 - np.exp(found[:3])) + found[3:], atol=2e-3)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_new_documents_gain_over_the_temperature_where_labels_differ(multilabel: bool, seed: int) -> None:
    logits, gold = distorted(200, multilabel, seed)
    unseen, truth = distorted(4_000, multilabel, seed + 100)
    temperature, _ = fit_temperature(logits, gold, multilabel)
    scale, bias = fit_vector(logits, gold, all_of(gold), multilabel, temperature)
    assert loss(unseen * scale + bias, truth, multilabel) < loss(unseen / temperature, truth, multilabel) - 0.05


@pytest.mark.parametrize("multilabel", [False, True])
def test_labels_that_never_or_always_occur_stay_finite_and_near_the_temperature(multilabel: bool) -> None:
    logits, gold = distorted(200, multilabel)
    gold = gold.copy()
    gold[:, 2] = False
    if multilabel:
        gold[:, 1] = True
    else:
        gold[~gold.any(axis=1), 1] = True
    temperature, _ = fit_temperature(logits, gold, multilabel)
    scale, bias = fit_vector(logits, gold, all_of(gold), multilabel, temperature)
    moved = (logits * scale + bias - logits / temperature).mean(axis=0)
    assert np.isfinite([*scale, *bias]).all()
    assert abs(moved[2]) < 6
    assert 0.1 < scale[2] * temperature < 10
    assert loss(logits * scale + bias, gold, multilabel) <= loss(logits / temperature, gold, multilabel)


def test_perfect_separation_does_not_run_away() -> None:
    gold = np.arange(60)[:, None] % 2 == np.array([0, 1, 0])
    scale, _ = fit_vector(np.where(gold, 1.0, -1.0), gold, all_of(gold), True, 1.0)
    assert (scale > 1).all()
    assert (scale < 10).all()


def test_a_scale_never_turns_a_label_around() -> None:
    logits, gold = distorted(300, True)
    against, _ = fit_vector(-logits, gold, all_of(gold), True, 1.0)
    assert (against > 0).all()
    assert (against < 0.5).all()


def test_halves_are_averaged_where_the_data_are() -> None:
    """Far from logit 0, a mean of the halves' biases would miss: a scale off by 10% moves logits of 500 by 50."""
    logits, gold = distorted(300, False)
    halves = np.arange(300) % 2 == 0
    near, far = (fit_vector(logits + offset, gold, [halves, ~halves], False, 1.0) for offset in (0.0, 500.0))
    np.testing.assert_allclose(near[0], far[0], rtol=2e-3)
    moved = logits * near[0] + near[1], (logits + 500) * far[0] + far[1]
    np.testing.assert_allclose(*(probabilities_of(values, False) for values in moved), atol=0.01)
    assert loss(moved[1], gold, False) < loss(logits, gold, False) - 0.05


def test_scales_of_halves_are_averaged_by_geometric_mean() -> None:
    logits, gold = distorted(300, True)
    halves = np.arange(300) % 2 == 0
    scale, _ = fit_vector(logits, gold, [halves, ~halves], True, 1.0)
    first, second = (fit_vector(logits, gold, [part], True, 1.0)[0] for part in (halves, ~halves))
    np.testing.assert_allclose(scale, np.sqrt(first * second), rtol=0.05)
    assert not np.allclose(first, second, rtol=0.05)


def test_many_labels_and_few_documents() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (60, 451))
    gold = np.eye(451, dtype=bool)[rng.integers(0, 451, 60)]
    scale, bias = fit_vector(logits, gold, all_of(gold), False, 3.0)
    assert scale.shape == bias.shape == (451,)
    assert loss(logits * scale + bias, gold, False) < loss(logits / 3.0, gold, False)
