"""Tuning: which options are tried, which are chosen, and what is said of a block that makes no sense."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from evalsuite.contracts import Metric
from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.registry import Registry
from evalsuite.tuning import Range, Tune, choose, read_tune

WHERE = "sweep s"


def tune(trials: int = 3, seed: int = 0, **space: Any) -> Tune:
    found = read_tune({"trials": trials, "seed": seed, "space": space}, list(space), WHERE)
    assert found is not None
    return found


def test_a_sample_of_the_space_has_no_point_twice_and_is_the_same_everywhere() -> None:
    space = {"svm_c": [0.1, 1, 10], "ngrams": [1, 2, 3]}
    points = tune(8, tfidf=space).points("tfidf")
    assert len({tuple(point.items()) for point in points}) == len(points) == 8
    assert points == tune(8, tfidf=space).points("tfidf")
    # pinned: another version of Python must not draw others
    assert tune(2, tfidf=space).points("tfidf") == [{"svm_c": 10, "ngrams": 3}, {"svm_c": 1, "ngrams": 2}]
    assert points != tune(8, seed=1, tfidf=space).points("tfidf")


def test_another_method_changes_no_trial_and_gets_trials_of_its_own() -> None:
    alone = tune(3, a={"x": {"low": 0, "high": 1000}})
    both = tune(3, a={"x": {"low": 0, "high": 1000}}, b={"x": {"low": 0, "high": 1000}})
    assert both.points("a") == alone.points("a") != both.points("b")
    assert both.points("c") == []


def test_a_space_with_fewer_points_than_trials_is_tried_whole() -> None:
    points = tune(50, tfidf={"svm_c": [1, 2], "ngrams": {"low": 1, "high": 3}}).points("tfidf")
    assert points == [{"svm_c": c, "ngrams": n} for c in (1, 2) for n in (1, 2, 3)]


def test_ranges_are_drawn_within_their_ends() -> None:
    space = {"rate": {"low": 1e-5, "high": 1e-1, "log": True}, "share": {"low": 0.5, "high": 1.5}}
    points = tune(2000, net={**space, "rank": {"low": 1, "high": 64, "log": True}}).points("net")
    decades = Counter(math.floor(math.log10(point["rate"])) for point in points if point["rate"] < 0.1)
    assert set(decades) == {-5, -4, -3, -2}
    assert all(400 < count < 600 for count in decades.values())  # 500 expected of each
    assert all(0.5 <= point["share"] <= 1.5 for point in points)
    ranks = [point["rank"] for point in points]
    assert {type(rank) for rank in ranks} == {int}
    assert (min(ranks), max(ranks)) == (1, 64)
    assert 800 < sum(rank <= 8 for rank in ranks) < 1300  # half of the logarithm, and what is rounded to 8


def test_a_range_too_narrow_for_the_trials_ends() -> None:
    assert sorted(point["x"] for point in tune(50, net={"x": {"low": 1.0, "high": 1.02}}).points("net")) == [
        1.0,
        1.01,
        1.02,
    ]


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    axes = tune(9, net={"rate": ["1e-4", "3e-4"], "name": ["e5", "1e-4x"], "loss": {"low": "1e-5", "high": "1E-3"}})
    assert axes.space["net"]["rate"].values == (1e-4, 3e-4)
    assert axes.space["net"]["name"].values == ("e5", "1e-4x")
    assert axes.space["net"]["loss"] == Range(1e-5, 1e-3)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"trials": 0, "space": {"tfidf": {"svm_c": [1]}}}, "trials of its tune is 0, expected a whole number from 1"),
        ({"space": {"tfidf": {"svm_c": [1]}}}, "trials of its tune is 0"),
        ({"trials": 10_001, "space": {"tfidf": {"svm_c": [1]}}}, "expected a whole number from 1 to 10,000"),
        ({"trials": 2.5, "space": {"tfidf": {"svm_c": [1]}}}, "trials of its tune is 2.5"),
        ({"trials": True, "space": {"tfidf": {"svm_c": [1]}}}, "trials of its tune is True"),
        ({"trials": 2, "seed": -1, "space": {"tfidf": {"svm_c": [1]}}}, "seed of its tune is -1"),
        ({"trials": 2}, "its tune has no space"),
        ({"trials": 2, "space": {}}, "its tune has no space"),
        ({"trials": 2, "space": ["tfidf"]}, "its tune has no space"),
        ({"trials": 2, "space": {"tfidf": {}}}, "the space of tfidf is empty; leave it out"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": []}}}, r"svm_c in the space of tfidf is \[\], expected a list"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": 1}}}, "svm_c in the space of tfidf is 1, expected a list"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": [1, 1]}}}, "a value is there twice"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": {"low": 2, "high": 1}}}}, "expected low < high"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": {"low": 0, "high": 1, "log": True}}}}, "a low above 0"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": {"low": 1}}}}, "expected low < high"),
        ({"trials": 2, "space": {"tfidf": {"svm_c": {"lo": 1, "high": 2}}}}, "unknown key 'lo'; did you mean low"),
        ({"trials": 2, "space": {"tfidf": {"limit": [1, 2]}}}, "limit cannot be tuned"),
        ({"trials": 2, "space": {"tfidf": {"seed": [1, 2]}}}, "seed cannot be tuned"),
        ({"trials": 2, "space": {"tfidf": {"task.data": ["a", "b"]}}}, "task.data cannot be tuned"),
        ({"trial": 2, "space": {"tfidf": {"svm_c": [1]}}}, "unknown key 'trial'; did you mean trials"),
        ({"trials": 2, "space": {"tfdif": {"svm_c": [1]}}}, "unknown method 'tfdif'; did you mean tfidf"),
        ([2], "tune of sweep s holds list, expected trials, seed, space"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(block: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_tune(block, ["tfidf", "majority"], WHERE)


def test_no_block_is_no_tuning() -> None:
    assert read_tune(None, ["tfidf"], WHERE) is None
    with pytest.raises(UnknownNameError):
        read_tune({"trials": 1, "space": {"bert": {"epochs": [1]}}}, ["tfidf"], WHERE)


def scored(value: float | None, metric: str = "f1_macro") -> dict[str, Any]:
    return {"primary_metric": metric, "metrics": {"summary": {metric: {"value": value}}}}


POINTS = [{"x": 1}, {"x": 2}, {"x": 3}, {"x": 4}]


def test_the_first_of_the_best_is_chosen_and_all_is_recorded() -> None:
    record = choose(Registry(), POINTS, [scored(0.5), scored(0.8), None, scored(0.8)])
    assert record == {
        "trials": 4,
        "metric": "f1_macro",
        "tried": POINTS,
        "scores": [0.5, 0.8, None, 0.8],
        "chosen": {"x": 2},
    }


def test_where_less_is_better_the_least_is_chosen() -> None:
    registry = Registry()
    results = [scored(value, "brier") for value in (0.5, 0.1, None, 0.2)]
    assert choose(registry, POINTS, results)["chosen"] == {"x": 2}
    registry.metrics["wrong"] = Metric("wrong", lambda *given: 0.0, higher_is_better=False)
    results = [scored(value, "wrong") for value in (0.5, 0.4, 0.1, 0.2)]
    assert choose(registry, POINTS, results)["chosen"] == {"x": 3}


def test_nothing_is_chosen_where_no_trial_has_a_score() -> None:
    with pytest.raises(UsageError, match="none of 4 trials has a score"):
        choose(Registry(), POINTS, [None, scored(None), None, None])
