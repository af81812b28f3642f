"""What a comparison warns of, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import group_of, one_hot, samples_of

from evalsuite.compare.comparison import Settings, compare_groups
from evalsuite.errors import UsageError
from evalsuite.report.grouping import Group
from evalsuite.samples import Samples
from evalsuite.spec import RunResult

QUICK = Settings(resamples=100)
GOLD = np.arange(60) % 3


def table(shift: int = 0, **changes: Any) -> Samples:
    predicted = np.where(np.arange(60) % 5 == shift, (GOLD + 1) % 3, GOLD)
    return replace(samples_of(one_hot(GOLD), one_hot(predicted)), **changes)


def net(method: str = "net", shift: int = 0, **parts: Any) -> Group:
    return group_of([table(shift)], method, **parts)


def warnings(*groups: Group) -> str:
    return "\n".join(compare_groups(groups, QUICK).warnings)


def test_runs_of_equal_standing_are_warned_of_in_nothing() -> None:
    assert warnings(net("one"), net("two", 1)) == ""


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"collapse": {"collapsed": True}}, "two: 1 of 1 runs collapsed, they learned nothing (seed 0)."),
        ({"incomplete": True}, "two: 1 of 1 runs are incomplete, documents without an answer count nowhere (seed 0)."),
        ({"reload_failed": True}, "two: 1 of 1 runs failed the reload check (seed 0)."),
        ({"tuning": {"trials": 20}}, "Tuning budgets differ: 20 trials for two; 0 trials for one."),
        (
            {"data": {"sizes": {"test": 60}, "revision": "1", "synthetic": True}},
            "The documents are a synthetic sample: no score says anything about the real corpus.",
        ),
    ],
)
def test_what_makes_a_score_worth_less_is_said(parts: dict[str, Any], words: str) -> None:
    assert words in warnings(net("one"), net("two", 1, **parts))


def test_costs_of_different_machines_are_told() -> None:
    """A method without a model may run beside a GPU or not: it does not load what could see one."""
    cards = {"environment": {"gpu": [{"name": "H100"}, {"name": "H100"}]}, "model": "m"}
    groups = [net("one", **cards), net("two", 1, model="m"), net("three", 2)]
    assert warnings(*groups) == "Costs are of different machines: H100 for one; no GPU for two."
    assert warnings(groups[0], groups[2]) == ""


def test_equal_tuning_budgets_are_no_matter() -> None:
    assert warnings(net("one", tuning={"trials": 20}), net("two", 1, tuning={"trials": 20})) == ""


def test_one_system_alone() -> None:
    comparison = compare_groups([net()], QUICK)
    assert comparison.pairs == ()
    assert comparison.warnings == ("There is one system only: nothing to compare it with.",)


def test_systems_without_a_common_seed() -> None:
    told = warnings(group_of([table()], "one"), group_of([table(1)] * 2, "two", first_seed=1))
    assert "No common seed, so no McNemar test: one and two." in told
    assert "Numbers of seeds differ: 2 for two; 1 for one." in told


def test_finished_runs_that_scored_the_same_test_split_are_counted() -> None:
    """Multiple looks at the test set: the compared ones count once, other splits, sizes and tasks do not."""
    one, two = net("one"), net("two", 1)
    own = [*one.runs, *two.runs]
    others = [
        RunResult(Path(name), {**own[0].results, **changes})
        for name, changes in {
            "another": {},
            "trial": {"split": "validation", "data": {"sizes": {"validation": 60}, "revision": "1"}},
            "fewer": {"data": {"sizes": {"test": 30}, "revision": "1"}},
            "newer data": {"data": {"sizes": {"test": 60}, "revision": "2"}},
            "task": {"task": "other"},
        }.items()
    ]
    assert compare_groups([one, two], QUICK).looks == 2
    assert compare_groups([one, two], QUICK, [*own, *others]).looks == 3


def test_other_documents_are_refused_by_the_first_that_differs() -> None:
    hashes = [*table().hashes]
    hashes[7] = "f" * 32
    other = group_of([table(hashes=tuple(hashes))], "two")
    with pytest.raises(
        UsageError, match=rf"one-0 and two-0 cannot be compared: .*document 8 is '0+7' and '{'f' * 32}'"
    ):
        compare_groups([net("one"), other], QUICK)


def test_fewer_documents_are_refused() -> None:
    few = samples_of(one_hot(GOLD[:30]), one_hot(GOLD[:30]))
    with pytest.raises(UsageError, match=r"they scored other documents \(60 and 30\): document 31 is '0+1e' and none"):
        compare_groups([net("one"), group_of([few], "two")], QUICK)


def test_labels_in_another_order_are_refused() -> None:
    other = group_of([table(labels=("a", "c", "b"))], "two")
    with pytest.raises(UsageError, match=r"other labels, or in another order: label 2 is 'b' and 'c'"):
        compare_groups([net("one"), other], QUICK)


def test_another_gold_label_is_refused() -> None:
    other = GOLD.copy()
    other[4] = 2
    relabelled = group_of([samples_of(one_hot(other), one_hot(GOLD))], "two")
    with pytest.raises(UsageError, match=r"document 5 \(4\) is labelled \['b'\] and \['c'\]"):
        compare_groups([net("one"), relabelled], QUICK)


@pytest.mark.parametrize(
    ("parts", "words"),
    [({"split": "validation"}, "split is test and validation"), ({"task": "other"}, "task is words and other")],
)
def test_another_split_or_task_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compare_groups([net("one"), net("two", 1, **parts)], QUICK)


def test_a_seed_that_scored_other_documents_is_refused() -> None:
    few = samples_of(one_hot(GOLD[:30]), one_hot(GOLD[:30]))
    with pytest.raises(UsageError, match="scored other documents"):
        compare_groups([group_of([table(), few], "one"), net("two")], QUICK)
