"""McNemar's test of every pair on every common seed: a second family beside the bootstrap, corrected on its own.

Shapes: n documents, k labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools
from evalsuite.report.grouping import Group
from evalsuite.samples import Samples
from evalsuite.stats import holm, mcnemar_p

Counts = npt.NDArray[np.intp]


@dataclass(frozen=True)
class SeedTest:
    """McNemar's test of two systems that were trained with one seed.

    label: None for the whole answer (for multi-label the exact match: it tests the subset accuracy, whatever the
    metric), else the one label whose presence is right or wrong. first_only, second_only: documents that one of the two
    alone has right, of those that both answered. exact, mid_p: p-values; _holm: corrected over the family.
    """

    seed: int
    label: str | None
    first_only: int
    second_only: int
    exact: float
    mid_p: float
    exact_holm: float = 1.0
    mid_p_holm: float = 1.0


def seed_tests(groups: Sequence[Group], pairs: Sequence[tuple[int, int]]) -> list[tuple[SeedTest, ...]]:
    """For every pair of systems one test a common seed, on whole answers; Holm over all of them."""
    return _family(groups, pairs, [None])


def label_tests(groups: Sequence[Group], pairs: Sequence[tuple[int, int]]) -> list[tuple[SeedTest, ...]]:
    """For every pair one test a common seed and label; Holm over all of them, apart from :func:`seed_tests`."""
    return _family(groups, pairs, groups[0].runs[0].results["labels"])


def _family(
    groups: Sequence[Group], pairs: Sequence[tuple[int, int]], labels: Sequence[str | None]
) -> list[tuple[SeedTest, ...]]:
    outcomes = [
        {
            run.results["seed"]: _outcomes(samples, labels)
            for run, samples in zip(group.runs, group.samples, strict=True)
        }
        for group in groups
    ]
    tests, ends = [], []
    for first, second in pairs:
        for seed in sorted(outcomes[first].keys() & outcomes[second].keys()):
            counts = _discordant(outcomes[first][seed], outcomes[second][seed])
            for label, one, other, exact, mid_p in zip(labels, *counts, *mcnemar_p(*counts), strict=True):
                tests.append(SeedTest(seed, label, int(one), int(other), float(exact), float(mid_p)))
        ends.append(len(tests))
    exact_holm, mid_p_holm = (holm([getattr(test, name) for test in tests]) for name in ("exact", "mid_p"))
    tests = [
        replace(test, exact_holm=float(exact), mid_p_holm=float(mid_p))
        for test, exact, mid_p in zip(tests, exact_holm, mid_p_holm, strict=True)
    ]
    return [tuple(tests[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _outcomes(samples: Samples, labels: Sequence[str | None]) -> tuple[Bools, Bools]:
    """What is right, [n, k] by label or [n, 1] of the whole answer, and which documents were answered, [n]."""
    states = np.asarray(samples.status, dtype=np.str_)
    right = (samples.gold == samples.predicted) & (states != "invalid")[:, None]
    return right.all(axis=1, keepdims=True) if list(labels) == [None] else right, states != "failed"


def _discordant(first: tuple[Bools, Bools], second: tuple[Bools, Bools]) -> tuple[Counts, Counts]:
    """How many documents the first alone has right, and how many the second alone, of those that both answered."""
    both = (first[1] & second[1])[:, None]
    return (first[0] & ~second[0] & both).sum(axis=0), (second[0] & ~first[0] & both).sum(axis=0)
