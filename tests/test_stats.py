"""Tests of differences against statsmodels, scipy and published tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from evalsuite.stats import bootstrap_p, friedman, holm, mcnemar, mcnemar_p, t_interval


@pytest.mark.parametrize("seed", range(20))
def test_exact_mcnemar_equals_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 300)) < rng.random((2, 1))
    table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    found = mcnemar(first, second)
    assert (found.first_only, found.second_only) == (table[0][1], table[1][0])
    assert found.exact == pytest.approx(reference_mcnemar(table, exact=True).pvalue, abs=1e-12)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 0), (0, 9), (7, 7), (5000, 5000), (3, 4000), (18, 19)])
def test_mcnemar_of_adversarial_counts(one: int, other: int) -> None:
    """No discordant document, one side empty, a draw, counts whose factorials overflow."""
    exact, mid_p = mcnemar_p(one, other)
    n, fewer = one + other, min(one, other)
    assert exact == pytest.approx(reference.binomtest(fewer, n).pvalue if n else 1.0, abs=1e-12)
    half = reference.binom.cdf(fewer, n, 0.5) - reference.binom.pmf(fewer, n, 0.5) / 2
    assert mid_p == pytest.approx(min(1.0, 2 * half) if n else 1.0, abs=1e-10)
    assert 0 <= mid_p <= exact <= 1


def test_mid_p_of_the_literature() -> None:
    """Fagerland, Lydersen and Laake 2013, table 1: airway hyper-responsiveness, 1 against 7 discordant pairs."""
    exact, mid_p = mcnemar_p(1, 7)
    assert exact == pytest.approx(0.0703, abs=5e-5)
    assert mid_p == pytest.approx(0.0391, abs=5e-5)


@pytest.mark.parametrize("seed", range(10))
def test_holm_equals_statsmodels(seed: int) -> None:
    p_values = np.random.default_rng(seed).random(1 + 3 * seed) ** 3
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-12)


def test_holm_of_ties_of_one_and_of_none() -> None:
    np.testing.assert_allclose(holm([0.02, 0.02, 0.9]), [0.06, 0.06, 0.9])
    np.testing.assert_allclose(holm([0.03]), [0.03])
    assert holm([]).size == 0


def test_the_interval_over_seeds_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.8, 0.02, (2, 5))
    low, high = reference.ttest_rel(first, second).confidence_interval(0.95)
    assert t_interval((first - second).tolist()) == pytest.approx((low, high))
    assert t_interval([0.3]) is None


def test_a_bootstrap_p_counts_what_lies_as_far_from_the_difference_as_that_from_zero() -> None:
    drawn = np.array([0.0, 0.01, 0.02, 0.03, 0.05])
    assert bootstrap_p(drawn, 0.02) == pytest.approx((1 + 2) / 6)  # 0.0 and 0.05; the difference itself is 0.02
    assert bootstrap_p(-drawn, -0.02) == bootstrap_p(drawn, 0.02)


def test_a_bootstrap_p_is_never_zero_and_one_without_a_difference() -> None:
    assert bootstrap_p(np.full(99, 0.5), 0.5) == pytest.approx(1 / 100)
    assert bootstrap_p(np.zeros(99), 0.0) == 1.0


def test_a_bootstrap_p_takes_rounding_for_equal_and_what_has_no_value_for_far() -> None:
    third = 0.1 + 0.2 - 0.3  # not 0 in floating point
    assert bootstrap_p(np.array([third, third]), 0.3 - 0.1 - 0.2) == 1.0
    assert bootstrap_p(np.array([np.nan, 0.5]), 0.5) == pytest.approx(2 / 3)


def test_a_bootstrap_p_agrees_with_the_z_test_of_many_documents() -> None:
    rng = np.random.default_rng(0)
    gap = rng.choice([-1, 0, 1], size=2_000, p=[0.10, 0.77, 0.13])
    drawn = np.array([gap[rng.integers(0, 2_000, 2_000)].mean() for _ in range(4_000)])
    z = gap.mean() / (gap.std() / np.sqrt(2_000))
    assert bootstrap_p(drawn, gap.mean()) == pytest.approx(2 * reference.norm.sf(abs(z)), rel=0.3, abs=0.002)


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_equals_scipy(ties: bool) -> None:
    scores = np.random.default_rng(1).normal(size=(12, 5)) + np.arange(5) / 3
    scores = np.round(scores) if ties else scores
    found = friedman(scores)
    expected = reference.friedmanchisquare(*scores.T)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.ranks == pytest.approx(reference.rankdata(-scores, axis=1).mean(axis=0))


def test_friedman_of_systems_that_are_all_alike() -> None:
    found = friedman(np.ones((6, 3)))
    assert (found.ranks, found.statistic, found.p) == ((2.0, 2.0, 2.0), 0.0, 1.0)


@pytest.mark.parametrize(("systems", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_literature(systems: int, q: float) -> None:
    """q at 5% from table 5 of Demsar 2006; for 4 systems on 14 data sets the paper gives 1.25."""
    found = friedman(np.random.default_rng(0).random((14, systems)))
    assert found.critical_difference == pytest.approx(q * np.sqrt(systems * (systems + 1) / (6 * 14)), rel=1e-3)
    if systems == 4:
        assert found.critical_difference == pytest.approx(1.25, abs=0.005)
