"""The probe against scikit-learn on plain features, and the cases that scikit-learn refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from evalsuite.calibration import probabilities_of
from evalsuite.errors import TrainingError
from evalsuite.llm.reading import probe as module
from evalsuite.llm.reading.probe import FALLBACK_C, GRID, Scaling, fit_probe

H = 24


def features(n: int, seed: int = 0, mean: float = 3.0) -> Any:
    """Features as language models make them: far from the origin, of very unlike scales."""
    random = np.random.default_rng(seed)
    far, scale = np.random.default_rng(99).normal(size=(2, H))
    return ((random.normal(size=(n, H)) + mean * far) * np.exp(2 * scale)).astype(np.float32)


def labelled(n: int, k: int, multilabel: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Features [n, h] and labels [n, k] that follow from them, with noise."""
    found = features(n, seed)
    plain = (found - features(2000).mean(axis=0)) / features(2000).std(axis=0)
    margins = plain @ np.random.default_rng(7).normal(size=(H, k)) * 0.7
    noisy = margins + np.random.default_rng(seed + 1).gumbel(size=(n, k))
    return found, noisy > 1.5 if multilabel else np.arange(k) == noisy.argmax(axis=1)[:, None]


def accuracy(probe: Any, found: Any, gold: Any) -> float:
    return float((probe.logits(found).argmax(axis=1) == gold.argmax(axis=1)).mean())


@pytest.mark.parametrize("k", [2, 5])
def test_single_label_logits_are_those_of_scikit_learn(k: int) -> None:
    found, gold = labelled(300, k)
    probe = fit_probe(found, gold, multilabel=False, seed=0, intercept=True, c=0.1)
    scaler = StandardScaler().fit(found)
    reference = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(scaler.transform(found), gold.argmax(axis=1))
    ours = probabilities_of(probe.logits(found), False)
    np.testing.assert_allclose(ours, reference.predict_proba(scaler.transform(found)), atol=2e-3)
    if k > 2:
        np.testing.assert_allclose(probe.logits(found), reference.decision_function(scaler.transform(found)), atol=1e-2)
    else:
        difference = np.diff(probe.logits(found), axis=1)[:, 0]
        np.testing.assert_allclose(difference, reference.decision_function(scaler.transform(found)), atol=1e-2)


def test_multilabel_is_one_regression_a_label() -> None:
    found, gold = labelled(300, 3, multilabel=True)
    probe = fit_probe(found, gold, multilabel=True, seed=0, intercept=True, c=0.1)
    scaled = StandardScaler().fit_transform(found)
    for label in range(3):
        reference = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(scaled, gold[:, label])
        np.testing.assert_allclose(probe.logits(found)[:, label], reference.decision_function(scaled), atol=1e-2)


@pytest.mark.parametrize("multilabel", [False, True])
def test_without_intercept_the_solution_is_that_of_the_scaled_features(multilabel: bool) -> None:
    found, gold = labelled(300, 4, multilabel)
    probe = fit_probe(found, gold, multilabel=multilabel, seed=0, intercept=False, c=0.1)
    assert probe.bias is None
    scaled = Scaling.of(found, intercept=False).apply(found)
    if multilabel:
        machines = [LogisticRegression(C=0.1, fit_intercept=False, tol=1e-8).fit(scaled, column) for column in gold.T]
        expected = np.stack([machine.decision_function(scaled) for machine in machines], axis=1)
    else:
        machine = LogisticRegression(C=0.1, fit_intercept=False, tol=1e-8).fit(scaled, gold.argmax(axis=1))
        expected = machine.decision_function(scaled)
    np.testing.assert_allclose(found @ probe.weight.T, expected, atol=1e-2)


@pytest.mark.parametrize("intercept", [False, True])
def test_scaling_folds_into_the_weights(intercept: bool) -> None:
    found = features(200)
    found[:, 3] = 41.5  # a feature that never changes
    scaling = Scaling.of(found, intercept)
    scaled = scaling.apply(found)
    random = np.random.default_rng(0)
    coefficients = random.normal(size=(5, H)).astype(np.float32)
    intercepts = random.normal(size=5).astype(np.float32) if intercept else np.zeros(5, np.float32)
    weight, bias = scaling.fold(coefficients, intercepts)
    np.testing.assert_allclose(found @ weight.T + bias, scaled @ coefficients.T + intercepts, atol=2e-3)
    changing = np.delete(np.arange(H), 3)
    if intercept:
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(scaled.std(axis=0)[changing], 1, atol=1e-3)
    else:
        assert not bias.any()
        assert np.linalg.norm(scaled.mean(axis=0)) == pytest.approx(module.MEAN_SIZE, rel=1e-3)


def test_without_intercept_unbalanced_labels_far_from_the_origin_are_learned() -> None:
    """`score` has no bias: the mean of the features must do its work."""
    found, gold = labelled(1000, 4)
    keep = (gold.argmax(axis=1) == 0) | (np.arange(1000) % 8 == 0)
    test, expected = labelled(1000, 4, seed=5)
    rare = (expected.argmax(axis=1) == 0) | (np.arange(1000) % 8 == 0)
    found_accuracy = [
        accuracy(
            fit_probe(found[keep], gold[keep], multilabel=False, seed=0, intercept=intercept),
            test[rare],
            expected[rare],
        )
        for intercept in (False, True)
    ]
    assert found_accuracy[0] > found_accuracy[1] - 0.01
    assert found_accuracy[1] > 0.6


@pytest.mark.parametrize("multilabel", [False, True])
def test_c_is_chosen_inside_these_documents(multilabel: bool) -> None:
    found, gold = labelled(400, 3, multilabel)
    probe = fit_probe(found, gold, multilabel=multilabel, seed=0, intercept=True)
    assert probe.c == min(probe.cv_scores, key=probe.cv_scores.__getitem__)
    assert list(probe.cv_scores) == list(GRID[: len(probe.cv_scores)])
    assert GRID[0] < probe.c < GRID[-1]
    assert probe.facts()["probe_chosen_by"] == "cross-validation"
    again = fit_probe(found, gold, multilabel=multilabel, seed=0, intercept=True, c=probe.c)
    np.testing.assert_allclose(again.weight, probe.weight, rtol=1e-5, atol=1e-6)
    assert again.facts()["probe_chosen_by"] == "option"
    noise = np.random.default_rng(3).permutation(gold)
    assert fit_probe(found, noise, multilabel=multilabel, seed=0, intercept=True).c < probe.c


def test_held_out_losses_are_those_of_scikit_learn() -> None:
    found, gold = labelled(200, 3)
    probe = fit_probe(found, gold, multilabel=False, seed=4, intercept=True)
    rows = np.random.default_rng(4).permutation(200)
    scaled, classes = StandardScaler().fit_transform(found), gold.argmax(axis=1)
    order = rows[np.argsort(classes[rows], kind="stable")]
    losses = []
    for number in range(module.FOLDS):
        out = np.isin(np.arange(200), order[number :: module.FOLDS])
        machine = LogisticRegression(C=probe.c, tol=1e-8, max_iter=5000).fit(scaled[~out], classes[~out])
        losses.append(-machine.predict_log_proba(scaled[out])[np.arange(out.sum()), classes[out]].mean())
    assert probe.cv_scores[probe.c] == pytest.approx(np.mean(losses), abs=2e-3)


@pytest.mark.parametrize("intercept", [False, True])
def test_labels_that_no_document_has_stay_unlikely(intercept: bool) -> None:
    found, gold = labelled(200, 3)
    gold = np.insert(gold, [1, 3], False, axis=1)
    probe = fit_probe(found, gold, multilabel=False, seed=0, intercept=intercept)
    chances = probabilities_of(probe.logits(found), False)
    assert 0.001 < chances[:, [1, 4]].sum(axis=1).mean() < 0.02  # about as one document in 200
    assert not np.isin(chances.argmax(axis=1), [1, 4]).any()
    without = fit_probe(found, gold[:, [0, 2, 3]], multilabel=False, seed=0, intercept=intercept)
    assert accuracy(probe, found, gold) == pytest.approx(accuracy(without, found, gold[:, [0, 2, 3]]), abs=0.03)


@pytest.mark.parametrize("intercept", [False, True])
def test_multilabel_labels_that_none_or_all_have(intercept: bool) -> None:
    found, gold = labelled(200, 4, multilabel=True)
    gold[:, 1], gold[:, 3] = False, True
    chances = probabilities_of(fit_probe(found, gold, multilabel=True, seed=0, intercept=intercept).logits(found), True)
    assert chances[:, 1].max() < 0.2
    assert chances[:, 3].min() > 0.8


@pytest.mark.parametrize("multilabel", [False, True])
def test_fewer_documents_than_folds(multilabel: bool) -> None:
    found, gold = labelled(3, 4, multilabel)
    probe = fit_probe(found, gold, multilabel=multilabel, seed=0, intercept=False)
    assert (probe.c, probe.cv_scores) == (FALLBACK_C, {})
    assert probe.facts()["probe_chosen_by"].startswith("fallback")
    assert np.isfinite(probe.logits(found)).all()


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_few_documents_and_many_labels(n: int, multilabel: bool) -> None:
    found, gold = labelled(n, 30, multilabel)
    probe = fit_probe(found, gold, multilabel=multilabel, seed=0, intercept=True)
    assert probe.weight.shape == (30, H)
    assert np.isfinite(probe.logits(features(50))).all()


def test_documents_without_any_label() -> None:
    found, gold = features(40), np.zeros((40, 30), bool)
    chances = probabilities_of(fit_probe(found, gold, multilabel=True, seed=0, intercept=False).logits(found), True)
    assert chances.max() < 0.5


def test_running_out_of_iterations_is_reported_and_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITERATIONS", 2)
    found, gold = labelled(100, 3)
    probe = fit_probe(found, gold, multilabel=False, seed=0, intercept=True, c=10.0)
    assert not probe.converged


def test_the_seed_repeats_itself_and_large_data_is_searched_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_DOCUMENTS", 60)
    monkeypatch.setattr(module, "SEARCH_LABELS", 2)
    found, gold = labelled(300, 5, multilabel=True)
    one, two, other = (fit_probe(found, gold, multilabel=True, seed=s, intercept=False) for s in (1, 1, 2))
    assert np.array_equal(one.weight, two.weight)
    assert one.cv_scores == two.cv_scores
    assert one.cv_scores != other.cv_scores


def test_counts_labels() -> None:
    seen: list[int] = []
    found, gold = labelled(50, 4, multilabel=True)
    fit_probe(found, gold, multilabel=True, seed=0, intercept=True, count=seen.append)
    assert seen == [1, 1, 1, 1]


def test_features_that_are_not_finite() -> None:
    found, gold = labelled(50, 4)
    found[3, 5] = np.nan
    with pytest.raises(TrainingError, match=r"finite features .* 1 values that are not finite"):
        fit_probe(found, gold, multilabel=False, seed=0, intercept=True)


def test_rare_and_absent_labels_do_not_slow_a_strong_penalty_down() -> None:
    """Intercepts start at the labels' shares: from 0, the first C of the grid takes hundreds of iterations."""
    found, gold = labelled(400, 60)
    gold[gold[:, :30].any(axis=1)] = np.arange(60) == 59
    gold[:5] = np.arange(60) == np.arange(5)[:, None]
    machines = module._Machines(Scaling.of(found, True).apply(found), gold, False, True)
    machines.fit(GRID[0])
    assert int(machines.solvers[0].n_iter_.max()) < 20
