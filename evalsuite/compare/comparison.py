"""Which systems differ, and how sure that is: systems are groups of runs that differ in the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evalsuite.compare.caveats import looks, warnings_of
from evalsuite.compare.compatibility import require_same_test
from evalsuite.compare.discordance import SeedTest, label_tests, seed_tests
from evalsuite.compare.measure import Measure, find_measure
from evalsuite.compare.resampling import SEEDS_TO_RESAMPLE, resample
from evalsuite.compare.titles import titles
from evalsuite.compare.wording import Finding, sentence, verdict
from evalsuite.counts import Array, percentile_interval
from evalsuite.errors import UsageError
from evalsuite.report.grouping import Group
from evalsuite.spec import RunResult
from evalsuite.stats import bootstrap_p, holm, t_interval

Interval = tuple[float, float]

UNCHANGED = 1e-6
"""Differences that vary by less do so by rounding: far below what one document more or less gives."""


@dataclass(frozen=True)
class Settings:
    """How systems are compared.

    metric: the runs' primary one unless named. alpha: what Holm's p must not exceed for "certified". resamples, seed:
    of the bootstrap. per_label: McNemar's test on every label, too.
    """

    metric: str | None = None
    alpha: float = 0.05
    resamples: int = 10_000
    seed: int = 0
    per_label: bool = False


@dataclass(frozen=True)
class System:
    """One system. values: the metric of every seed. interval: 95% of their mean.

    Intervals and p-values, here and of pairs, are over documents and conditional on these seeds, of which fewer than
    ten are never resampled; with ten or more, see :func:`evalsuite.compare.resampling.resample`, they are over both.
    """

    title: str
    group: Group
    values: tuple[float, ...]
    mean: float
    interval: Interval | None

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(results["seed"] for results in self.group.results)


@dataclass(frozen=True)
class Pair:
    """Two systems by their places. difference: first minus second, of the mean metric. interval: 95% of it.

    p, p_holm: of the paired bootstrap, and Holm's over all pairs; certified means that p_holm is at most alpha, and
    nothing else. across_seeds: 95% paired t-interval over the seeds that both have; same_direction: in how many of them
    the difference has the sign of the mean one. Both are None for fewer than two common seeds, or where seeds change
    nothing. mcnemar: one test a common seed; by_label: one a common seed and label, where they were asked for.
    """

    first: int
    second: int
    difference: float
    interval: Interval
    p: float
    p_holm: float
    certified: bool
    across_seeds: Interval | None
    same_direction: tuple[int, int] | None
    mcnemar: tuple[SeedTest, ...]
    verdict: str
    sentence: str
    by_label: tuple[SeedTest, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Systems on the test documents of one task, best first, and all pairs of them.

    looks: how many finished runs have scored these documents, as far as they are known.
    """

    task: str
    split: str
    metric: str
    documents: int
    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...]
    settings: Settings
    looks: int


def compare_groups(
    groups: Sequence[Group], settings: Settings = Settings(), others: Sequence[RunResult] = ()
) -> Comparison:
    """Compare systems on the documents that they all scored; ``others`` are finished runs beside those of the groups.

    The test is declared beforehand: a paired bootstrap of the metric over documents, all systems on the same draws,
    with Holm's correction over all pairs. McNemar's tests are a second family with a correction of their own.

    Raises:
        UsageError: runs that did not score the same documents, or a metric that cannot be resampled.
    """
    require_same_test(groups)
    measure = find_measure(_metric(groups, settings), groups)
    scores = resample(groups, measure, settings.resamples, settings.seed)
    names = titles(groups)
    unsorted = [
        System(name, group, values, float(np.mean(values)), percentile_interval(drawn))
        for name, group, values, drawn in zip(names, groups, scores.values, scores.drawn, strict=True)
    ]
    if lost := [system.title for system in unsorted if np.isnan(system.mean)]:
        raise UsageError(f"{lost[0]}: a run has no {measure.name}: no document was answered; leave it out")
    sign = -1 if measure.higher_is_better else 1
    order = sorted(range(len(unsorted)), key=lambda place: (sign * unsorted[place].mean, unsorted[place].title))
    systems = tuple(unsorted[place] for place in order)
    return Comparison(
        task=groups[0].runs[0].results["task"],
        split=groups[0].runs[0].results.get("split", "test"),
        metric=measure.name,
        documents=len(groups[0].samples[0].ids),
        systems=systems,
        pairs=_pairs(systems, scores.drawn[order], measure, settings),
        warnings=warnings_of([(system.title, system.group) for system in systems]),
        settings=settings,
        looks=looks([run for group in groups for run in group.runs], others),
    )


def _metric(groups: Sequence[Group], settings: Settings) -> str:
    primaries = sorted({group.primary for group in groups})
    if settings.metric is None and len(primaries) > 1:
        raise UsageError(f"the runs have other primary metrics ({', '.join(primaries)}); choose one with --metric")
    return settings.metric or primaries[0]


def _pairs(systems: Sequence[System], drawn: Array, measure: Measure, settings: Settings) -> tuple[Pair, ...]:
    places = list(combinations(range(len(systems)), 2))
    p_values = [
        bootstrap_p(drawn[first] - drawn[second], systems[first].mean - systems[second].mean)
        for first, second in places
    ]
    groups = [system.group for system in systems]
    by_label = label_tests(groups, places) if settings.per_label else [()] * len(places)
    evidence = zip(p_values, holm(p_values).tolist(), seed_tests(groups, places), by_label, strict=True)
    return tuple(
        _pair(systems, place, Evidence(drawn[place[0]] - drawn[place[1]], *found), measure, settings)
        for place, found in zip(places, evidence, strict=True)
    )


@dataclass(frozen=True)
class Evidence:
    """What the whole family gives a pair: its differences of the resamples, its p-values and its McNemar tests."""

    drawn: Array
    p: float
    p_holm: float
    tests: tuple[SeedTest, ...]
    by_label: tuple[SeedTest, ...]


def _pair(
    systems: Sequence[System], place: tuple[int, int], evidence: Evidence, measure: Measure, settings: Settings
) -> Pair:
    first, second = (systems[number] for number in place)
    gap = first.mean - second.mean
    interval = percentile_interval(evidence.drawn)
    assert interval is not None  # both have a mean, so most resamples have one
    by_seed = _common(first, second)
    same_direction = _same_direction(by_seed, gap)
    across_seeds = t_interval(by_seed) if same_direction else None
    finding = Finding(
        better=first.title,  # systems come best first
        worse=second.title,
        gap=abs(gap),
        interval=_of_the_better(interval, measure),
        certified=evidence.p_holm <= settings.alpha,
        alpha=settings.alpha,
        same_direction=same_direction,
        across_seeds=across_seeds and _of_the_better(across_seeds, measure),
        documents=len(first.group.samples[0].ids),
        seeds_drawn=max(len(first.seeds), len(second.seeds)) >= SEEDS_TO_RESAMPLE,
    )
    return Pair(
        *place,
        difference=gap,
        interval=interval,
        p=evidence.p,
        p_holm=evidence.p_holm,
        certified=finding.certified,
        across_seeds=across_seeds,
        same_direction=same_direction,
        mcnemar=evidence.tests,
        verdict=verdict(finding),
        sentence=sentence(finding),
        by_label=evidence.by_label,
    )


def _of_the_better(interval: Interval, measure: Measure) -> Interval:
    """The interval of by how much the first system, the better one, is better."""
    return interval if measure.higher_is_better else (-interval[1], -interval[0])


def _common(first: System, second: System) -> list[float]:
    """The difference of every seed that both have."""
    other = dict(zip(second.seeds, second.values, strict=True))
    return [value - other[seed] for seed, value in zip(first.seeds, first.values, strict=True) if seed in other]


def _same_direction(differences: Sequence[float], mean: float) -> tuple[int, int] | None:
    # What seeds do not change was seen once, however often it was run.
    if not differences or max(differences) - min(differences) < UNCHANGED:
        return None
    return sum(difference * mean > 0 for difference in differences), len(differences)
