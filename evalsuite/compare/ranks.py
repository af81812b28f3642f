"""Systems over many tasks: their mean ranks, and how far apart ranks must lie to differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalsuite.compare.comparison import Comparison
from evalsuite.errors import UsageError
from evalsuite.metrics import LOWER_IS_BETTER
from evalsuite.stats import Friedman, friedman

FEWEST_TASKS = 6
"""With fewer, Nemenyi's test can hardly ever tell two systems apart."""

FEWEST_SYSTEMS = 3


@dataclass(frozen=True)
class Ranking:
    """Systems in the order of their mean ranks. scores: [tasks][systems]; left_out: not scored on every task."""

    systems: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    test: Friedman
    alpha: float
    left_out: tuple[str, ...]


def rank_systems(comparisons: Sequence[Comparison]) -> Ranking:
    """Rank the systems that every task has, known by their titles, one comparison a task.

    Raises:
        UsageError: fewer than six tasks, or fewer than three systems that were scored on all of them.
    """
    tasks = tuple(comparison.task for comparison in comparisons)
    if len(tasks) < FEWEST_TASKS:
        raise UsageError(
            f"ranks over {len(tasks)} tasks ({', '.join(tasks)}) tell nothing, at least {FEWEST_TASKS} are needed; "
            "read the pairs of each task instead"
        )
    means = [{system.title: system.mean for system in comparison.systems} for comparison in comparisons]
    every = list(dict.fromkeys(title for scored in means for title in scored))
    shared = [title for title in every if all(title in scored for scored in means)]
    if len(shared) < FEWEST_SYSTEMS:
        rest = ", ".join(sorted(set(every) - set(shared)))
        raise UsageError(
            f"ranks need {FEWEST_SYSTEMS} systems that were scored on all tasks, got {len(shared)}: "
            f"{', '.join(shared) or 'none'}; score the others ({rest}) on every task"
        )
    alpha = comparisons[0].settings.alpha
    signs = [-1 if comparison.metric in LOWER_IS_BETTER else 1 for comparison in comparisons]
    test = friedman(
        [[sign * scored[title] for title in shared] for sign, scored in zip(signs, means, strict=True)], alpha
    )
    order = sorted(range(len(shared)), key=lambda place: (test.ranks[place], shared[place]))
    return Ranking(
        systems=tuple(shared[place] for place in order),
        tasks=tasks,
        scores=tuple(tuple(scored[shared[place]] for place in order) for scored in means),
        test=replace(test, ranks=tuple(test.ranks[place] for place in order)),
        alpha=alpha,
        left_out=tuple(title for title in every if title not in shared),
    )
