"""Tests of a difference and their corrections: arrays in, plain numbers out. Shapes: n documents, b resamples, p tests.

scipy is imported where it is used: what needs no test starts without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools

Array = npt.NDArray[np.float64]

# Sums of the same counts in another order differ by rounding; this is far below one document of a billion.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class McNemar:
    """A test of two systems on the same documents, by those that one of them alone has right.

    first_only, second_only: such documents. exact: two-sided binomial p, never above its nominal level. mid_p: the same
    with half the probability of what was seen; closer to its level, and the one to read where both are given.
    """

    first_only: int
    second_only: int
    exact: float
    mid_p: float


def mcnemar(first_right: Bools, second_right: Bools) -> McNemar:
    """McNemar's test of two systems that have documents right or wrong, [n] each; p is 1 where no document tells.

    Source: McNemar, Psychometrika 12, 1947; mid-p: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13,
    2013, who find that it hardly ever exceeds its level and that the exact test wastes power.
    """
    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    exact, mid_p = (float(p) for p in mcnemar_p(first_only, second_only))
    return McNemar(first_only, second_only, exact, mid_p)


def mcnemar_p(first_only: npt.ArrayLike, second_only: npt.ArrayLike) -> tuple[Array, Array]:
    """Exact and mid-p values of any number of McNemar tests from their discordant counts, arrays of one shape."""
    from scipy.special import bdtr, gammaln

    one, other = np.asarray(first_only, np.float64), np.asarray(second_only, np.float64)
    n, fewer = one + other, np.minimum(one, other)
    seen = np.exp(gammaln(n + 1) - gammaln(fewer + 1) - gammaln(n - fewer + 1) - n * np.log(2))
    tail = 2 * bdtr(fewer, n.astype(np.int64), 0.5)
    return np.minimum(tail, 1.0), np.where(n == 0, 1.0, np.minimum(tail - seen, 1.0))


def holm(p_values: npt.ArrayLike) -> Array:
    """Holm's adjusted p-values [p], in the order given: with them, one false alarm in a family is as rare as asked.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    adjusted = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    result = np.empty_like(given)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def bootstrap_p(drawn: Array, observed: float) -> float:
    """Two-sided p of a difference from its bootstrap ``drawn`` [b]: (c + 1) / (b + 1).

    c counts the resamples that lie at least as far from the observed difference d as d lies from zero: |d* - d| >= |d|.
    The resamples scatter around d as d would scatter around no difference, so that d* - d stands for what chance alone
    gives. Adding one counts what was observed as one of its own draws: p is never 0 and never below its level. A
    resample without a value counts as far.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.4; Hall and Wilson, Biometrics
    47, 1991, for centring at the observed value.
    """
    near = np.abs(drawn - observed) < abs(observed) - _ROUNDING
    return float((~near).sum() + 1) / (len(drawn) + 1)


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean of ``values``, None for fewer than two; of differences, the paired t-interval."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / np.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return float(mean - reach), float(mean + reach)


@dataclass(frozen=True)
class Friedman:
    """Whether several systems rank differently over several tasks.

    ranks: each system's mean rank, 1 for the best. statistic, p: of Friedman's test. critical_difference: mean ranks
    that lie further apart than this differ by Nemenyi's test.
    """

    ranks: tuple[float, ...]
    statistic: float
    p: float
    critical_difference: float


def friedman(scores: npt.ArrayLike, alpha: float = 0.05) -> Friedman:
    """Friedman's test, corrected for ties, and Nemenyi's critical difference of ``scores`` [tasks, systems].

    A higher score is better; equal ones share their mean rank.

    Source: Friedman, Journal of the American Statistical Association 32, 1937; Nemenyi 1963, as Demsar gives it in
    Journal of Machine Learning Research 7, 2006, section 3.2.2.
    """
    from scipy.special import chdtrc
    from scipy.stats import rankdata, studentized_range

    ranks = rankdata(-np.asarray(scores, np.float64), axis=1)
    tasks, systems = ranks.shape
    spread = float(((ranks - (systems + 1) / 2) ** 2).sum())
    apart = float(((ranks.sum(axis=0) - tasks * (systems + 1) / 2) ** 2).sum())
    statistic = (systems - 1) * apart / spread if spread else 0.0
    reach = float(studentized_range.ppf(1 - alpha, systems, np.inf)) / np.sqrt(2)
    return Friedman(
        ranks=tuple(ranks.mean(axis=0).tolist()),
        statistic=statistic,
        p=float(chdtrc(systems - 1, statistic)),
        critical_difference=float(reach * np.sqrt(systems * (systems + 1) / (6 * tasks))),
    )
