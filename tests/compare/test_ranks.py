"""Mean ranks over tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from finished_runs import group_of, one_hot, samples_of

from evalsuite.compare.comparison import Comparison, Settings, compare_groups
from evalsuite.compare.ranks import rank_systems
from evalsuite.errors import UsageError
from evalsuite.stats import friedman

GOLD = np.arange(90) % 3


def compared(task: str, wrong: Mapping[str, int]) -> Comparison:
    """Systems by how many of the documents they have wrong."""
    groups = [
        group_of(
            [samples_of(one_hot(GOLD), one_hot(np.where(np.arange(90) < count, (GOLD + 1) % 3, GOLD)))], name, task=task
        )
        for name, count in wrong.items()
    ]
    return compare_groups(groups, Settings(resamples=100))


def six(**more: int) -> list[Comparison]:
    return [compared(f"task {place}", {"one": 3, "two": 30 + place, "three": 20, **more}) for place in range(6)]


def test_systems_are_ranked_over_the_tasks_that_they_share() -> None:
    comparisons = six()
    comparisons[0] = compared("task 0", {"one": 3, "two": 30, "three": 20, "guest": 1})
    ranking = rank_systems(comparisons)
    assert (ranking.systems, ranking.left_out) == (("one", "three", "two"), ("guest",))
    assert ranking.test.ranks == (1.0, 2.0, 3.0)
    assert len(ranking.scores) == len(ranking.tasks) == 6
    expected = friedman([[scores[0], scores[1], scores[2]] for scores in ranking.scores])
    assert (ranking.test.p, ranking.test.critical_difference) == (expected.p, expected.critical_difference)


def test_fewer_than_six_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match=r"ranks over 5 tasks \(task 0, .*\) tell nothing, at least 6 are needed"):
        rank_systems(six()[:5])


def test_fewer_than_three_shared_systems_are_refused() -> None:
    comparisons = [compared(f"task {place}", {"one": 3, "two": 30, f"own {place}": 20}) for place in range(6)]
    with pytest.raises(UsageError, match="ranks need 3 systems that were scored on all tasks, got 2: one, two; score"):
        rank_systems(comparisons)
