"""Comparisons of systems against plain references, on adversarial tables and by simulation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from finished_runs import LABELS, group_of, one_hot, samples_of
from scipy import stats as reference
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evalsuite.compare.comparison import Comparison, Settings, compare_groups
from evalsuite.compare.measure import OF_COUNTS
from evalsuite.errors import UsageError
from evalsuite.report.grouping import Group
from evalsuite.samples import Samples

N = 120
QUICK = Settings(resamples=300)


def draw(seed: int, n: int = N, k: int = 3, right: float = 0.7) -> tuple[Any, Any]:
    """Gold and predicted classes; the gold ones are the same for every seed."""
    gold, dice = np.random.default_rng(99).integers(0, k, n), np.random.default_rng(seed)
    return gold, np.where(dice.random(n) < right, gold, dice.integers(0, k, n))


def table(seed: int, right: float = 0.7, n: int = N, k: int = 3, status: Sequence[str] = ()) -> Samples:
    gold, predicted = draw(seed, n, k, right)
    return samples_of(one_hot(gold, k), one_hot(predicted, k), status)


def system(method: str, seeds: Sequence[int], right: float = 0.7, **more: Any) -> Group:
    return group_of([table(seed, right) for seed in seeds], method, **more)


def constant(classes: Any, method: str) -> Group:
    return group_of([samples_of(one_hot(draw(0)[0]), one_hot(classes))], method)


def only_pair(comparison: Comparison) -> Any:
    (pair,) = comparison.pairs
    return pair


def macro_f1(gold: Any, predicted: Any) -> float:
    return float(f1_score(gold, predicted, labels=np.union1d(gold, predicted), average="macro", zero_division=0))


def test_the_bootstrap_equals_plain_resampling_of_the_same_documents() -> None:
    """Two seeds a system, scikit-learn on every resample: difference, interval and p to the last digits."""
    n, k, resamples = 60, 12, 200  # so many classes that documents are drawn, not patterns of them
    predicted = {(method, seed): draw(seed, n, k, right)[1] for method, seed, right in _four_runs()}
    gold = draw(0, n, k)[0]
    groups = [
        group_of([samples_of(one_hot(gold, k), one_hot(predicted[name, seed], k)) for seed in seeds], name)
        for name, seeds in (("one", (1, 2)), ("two", (3, 4)))
    ]
    pair = only_pair(compare_groups(groups, Settings(resamples=resamples, seed=5)))

    def gap(rows: Any) -> float:
        means = [
            np.mean([macro_f1(gold[rows], classes[rows]) for (name, _), classes in predicted.items() if name == wanted])
            for wanted in ("one", "two")
        ]
        return float(means[0] - means[1])

    rng = np.random.default_rng(5)
    drawn = np.array([gap(rng.integers(0, n, size=n, dtype=np.int32)) for _ in range(resamples)])
    whole = gap(np.arange(n))
    assert pair.difference == pytest.approx(whole, abs=1e-12)
    assert pair.interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)
    far = (np.abs(drawn - whole) >= abs(whole)).sum()
    assert pair.p == pytest.approx((far + 1) / (resamples + 1), abs=1e-12)


def _four_runs() -> list[tuple[str, int, float]]:
    return [("one", 1, 0.8), ("one", 2, 0.8), ("two", 3, 0.6), ("two", 4, 0.6)]


def test_a_clear_difference_is_certified_and_said_to_be() -> None:
    comparison = compare_groups([system("poor", [1], 0.3), system("good", [2], 0.95)], QUICK)
    pair = only_pair(comparison)
    assert [entry.title for entry in comparison.systems] == ["good", "poor"]
    assert pair.certified
    assert pair.p_holm == pair.p == pytest.approx(1 / 301)
    assert pair.sentence.startswith("good is ")
    assert pair.sentence.endswith("certified at 5%.")


def test_identical_runs_differ_in_nothing() -> None:
    comparison = compare_groups([group_of([table(1)], "one"), group_of([table(1)], "two")], QUICK)
    pair = only_pair(comparison)
    assert (pair.difference, pair.interval, pair.p, pair.certified) == (0.0, (0.0, 0.0), 1.0, False)
    assert [(test.first_only, test.second_only, test.exact, test.mid_p) for test in pair.mcnemar] == [(0, 0, 1.0, 1.0)]
    assert pair.sentence == "one and two: no difference: the metric cannot tell them apart on any document."


@pytest.mark.parametrize("metric", OF_COUNTS)
def test_adversarial_tables_give_numbers_under_every_metric(metric: str) -> None:
    """One run all wrong, one without a class, one that always says the same, one all right."""
    gold = draw(0)[0]
    systems = {
        "right": gold,
        "wrong": (gold + 1) % 3,
        "lacking": np.where(gold == 2, 0, gold),
        "constant": np.zeros(N, dtype=int),
    }
    comparison = compare_groups(
        [constant(classes, name) for name, classes in systems.items()], Settings(metric, 0.05, 99)
    )
    assert comparison.systems[0].title == "right"
    assert comparison.systems[0].mean == 1.0
    assert next(entry.mean for entry in comparison.systems if entry.title == "wrong") == 0.0
    assert len(comparison.pairs) == 6
    for pair in comparison.pairs:
        assert np.isfinite([pair.difference, *pair.interval, pair.p, pair.p_holm]).all()
        assert 0 < pair.p <= pair.p_holm <= 1


def test_a_class_that_is_absent_from_gold_and_predictions() -> None:
    gold = draw(0)[0] % 2
    groups = [
        group_of([samples_of(one_hot(gold), one_hot(np.where(np.arange(N) % step, gold, 1 - gold)))], name)
        for name, step in (("one", 3), ("two", 4))
    ]
    comparison = compare_groups(groups, QUICK)
    expected = [macro_f1(gold, np.where(np.arange(N) % step, gold, 1 - gold)) for step in (4, 3)]
    assert [entry.mean for entry in comparison.systems] == pytest.approx(expected)


def test_mcnemar_is_statsmodels_by_seed_and_documents_are_not_pooled() -> None:
    groups = [system("one", [1, 2, 3], 0.8), system("two", [4, 5, 6], 0.6), system("three", [7, 8, 9], 0.6)]
    comparison = compare_groups(groups, QUICK)
    gold, everything = draw(0)[0], [test for pair in comparison.pairs for test in pair.mcnemar]
    assert len(everything) == 9
    for pair in comparison.pairs:
        names = [comparison.systems[place].group.fields["method"] for place in (pair.first, pair.second)]
        seeds = {"one": (1, 2, 3), "two": (4, 5, 6), "three": (7, 8, 9)}
        rates = {"one": 0.8, "two": 0.6, "three": 0.6}
        for place, test in enumerate(pair.mcnemar):
            right = [draw(seeds[name][place], right=rates[name])[1] == gold for name in names]
            counts = [[(right[0] & right[1]).sum(), (right[0] & ~right[1]).sum()], [(~right[0] & right[1]).sum(), 0]]
            assert (test.seed, test.first_only, test.second_only) == (place, counts[0][1], counts[1][0])
            assert test.exact == pytest.approx(mcnemar(counts, exact=True).pvalue)
    for name in ("exact", "mid_p"):
        expected = multipletests([getattr(test, name) for test in everything], method="holm")[1]
        assert [getattr(test, f"{name}_holm") for test in everything] == pytest.approx(expected.tolist())


def test_the_bootstraps_family_is_its_own() -> None:
    groups = [system(f"net {place}", [place], 0.6 + place / 20) for place in range(5)]
    comparison = compare_groups(groups, QUICK)
    expected = multipletests([pair.p for pair in comparison.pairs], method="holm")[1]
    assert [pair.p_holm for pair in comparison.pairs] == pytest.approx(expected.tolist())
    assert [pair.certified for pair in comparison.pairs] == (expected <= 0.05).tolist()


def test_mcnemar_of_many_labels_is_of_the_exact_match_and_of_each_label() -> None:
    rng = np.random.default_rng(0)
    gold = rng.random((N, 3)) < 0.4
    tables = [samples_of(gold, gold ^ (rng.random((N, 3)) < noise)) for noise in (0.1, 0.3)]
    groups = [group_of([entry], name) for entry, name in zip(tables, ("one", "two"), strict=True)]
    pair = only_pair(compare_groups(groups, Settings(resamples=100, per_label=True)))
    exact = [(entry.predicted == gold).all(axis=1) for entry in tables]
    (whole,) = pair.mcnemar
    assert (whole.first_only, whole.second_only) == ((exact[0] & ~exact[1]).sum(), (exact[1] & ~exact[0]).sum())
    assert [test.label for test in pair.by_label] == list(LABELS)
    for place, test in enumerate(pair.by_label):
        right = [entry.predicted[:, place] == gold[:, place] for entry in tables]
        assert (test.first_only, test.second_only) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    expected = multipletests([test.exact for test in pair.by_label], method="holm")[1]
    assert [test.exact_holm for test in pair.by_label] == pytest.approx(expected.tolist())


def test_across_seeds_is_the_paired_t_interval_of_the_common_ones() -> None:
    one, two = system("one", [1, 2, 3, 4], 0.8), system("two", [5, 6, 7], 0.7, first_seed=1)
    comparison = compare_groups([one, two], QUICK)
    pair = only_pair(comparison)
    values = {entry.title: dict(zip(entry.seeds, entry.values, strict=True)) for entry in comparison.systems}
    first, second = ([values[name][seed] for seed in (1, 2, 3)] for name in ("one", "two"))
    interval = reference.ttest_rel(first, second).confidence_interval()
    assert pair.across_seeds == pytest.approx((interval.low, interval.high))
    alike = sum(a > b for a, b in zip(first, second, strict=True))
    assert pair.same_direction == (alike, 3)
    assert [test.seed for test in pair.mcnemar] == [1, 2, 3]


def test_seeds_that_change_nothing_are_no_evidence() -> None:
    """A deterministic method that was run three times points the same way three times, and says so once."""
    groups = [group_of([table(1)] * 3, "one"), group_of([table(2)] * 3, "two")]
    pair = only_pair(compare_groups(groups, QUICK))
    assert (pair.across_seeds, pair.same_direction) == (None, None)
    assert "seeds" not in pair.sentence


def test_under_ten_seeds_the_interval_is_over_documents_alone() -> None:
    """Evidence: resampling 3 seeds covers 75%, 5 seeds 84%, at a nominal 95%."""
    nine = [system(name, range(start, start + 9), right) for name, start, right in (("one", 0, 0.8), ("two", 50, 0.7))]
    pair = only_pair(compare_groups(nine, Settings("accuracy", resamples=2_000)))
    right = [np.stack([(entry.gold == entry.predicted).all(axis=1) for entry in group.samples]) for group in nine]
    gap = right[0].mean(axis=0) - right[1].mean(axis=0)  # what each document adds to the difference
    assert pair.difference == pytest.approx(gap.mean())
    assert pair.interval[1] - pair.interval[0] == pytest.approx(2 * 1.96 * gap.std() / np.sqrt(N), rel=0.1)


def test_ten_seeds_are_drawn_with_the_documents() -> None:
    """The variance of both levels adds up: seeds whose scores lie far apart widen the interval."""
    rates = np.linspace(0.4, 1.0, 10)
    groups = [
        group_of([table(seed, rate) for seed, rate in enumerate(rates)], "wild"),
        group_of([table(seed, 0.5) for seed in range(20, 30)], "steady"),
    ]
    found = {count: _width(groups, count) for count in (9, 10)}
    values = compare_groups(groups, QUICK).systems[0].values
    seeds_alone = 2 * 1.96 * np.std(values) / np.sqrt(10)
    assert found[10] > 1.4 * found[9]
    assert found[10] == pytest.approx(np.hypot(found[9], seeds_alone), rel=0.15)


def _width(groups: Sequence[Group], seeds: int) -> float:
    """Of the interval of the wild system on so many of its seeds."""
    wild = group_of(groups[0].samples[:seeds], "wild")
    comparison = compare_groups([wild, groups[1]], Settings(resamples=2_000))
    low, high = next(entry.interval for entry in comparison.systems if entry.title == "wild") or (0, 0)
    return high - low


def test_a_failed_document_counts_nowhere() -> None:
    """In one of two runs a quarter failed; were these wrong answers, the difference would be a quarter."""
    states = ["failed" if row % 4 == 0 else "ok" for row in range(N)]
    gold = draw(0)[0]
    broken = samples_of(one_hot(gold), one_hot(np.where(np.arange(N) % 4, gold, (gold + 1) % 3)), states)
    groups = [constant(gold, "whole"), group_of([broken], "broken")]
    comparison = compare_groups(groups, QUICK)
    pair = only_pair(comparison)
    assert (pair.difference, pair.p) == (0.0, 1.0)
    assert (pair.mcnemar[0].first_only, pair.mcnemar[0].second_only) == (0, 0)
    assert any("broken: 1 of 1 runs are incomplete" in line for line in comparison.warnings)


def test_an_invalid_answer_is_wrong() -> None:
    states = ["invalid" if row % 4 == 0 else "ok" for row in range(N)]
    gold = draw(0)[0]
    groups = [constant(gold, "whole"), group_of([samples_of(one_hot(gold), one_hot(gold), states)], "odd")]
    pair = only_pair(compare_groups(groups, Settings("accuracy", resamples=200)))
    assert pair.difference == pytest.approx(0.25)
    assert pair.mcnemar[0].first_only == N // 4


def test_a_run_without_any_answer_is_refused() -> None:
    groups = [constant(draw(0)[0], "whole"), group_of([table(1, status=["failed"] * N)], "silent")]
    with pytest.raises(UsageError, match="silent: a run has no f1_macro: no document was answered; leave it out"):
        compare_groups(groups, QUICK)


def test_where_lower_is_better_the_lowest_comes_first() -> None:
    gold = draw(0)[0]
    sure, unsure = (np.where(one_hot(gold), p, (1 - p) / 2) for p in (0.9, 0.5))
    groups = [
        group_of([samples_of(one_hot(gold), one_hot(gold), probabilities=chances)], name)
        for name, chances in (("unsure", unsure), ("sure", sure))
    ]
    for metric, expected in (("brier", 0.1**2 + 2 * 0.05**2), ("nll", -np.log(0.9))):
        comparison = compare_groups(groups, Settings(metric, resamples=100))
        pair = only_pair(comparison)
        assert [entry.title for entry in comparison.systems] == ["sure", "unsure"]
        assert comparison.systems[0].mean == pytest.approx(expected)
        assert pair.difference < 0
        assert pair.sentence.startswith("sure is ")


@pytest.mark.parametrize("metric", ["ece", "hit_any"])
def test_a_metric_that_is_no_sum_over_documents_is_refused(metric: str) -> None:
    with pytest.raises(UsageError, match=f"metric '{metric}' cannot be compared, only sums over documents can"):
        compare_groups([system("one", [1])], Settings(metric))


def test_probabilities_are_asked_of_every_run() -> None:
    with pytest.raises(UsageError, match="metric 'brier' needs probabilities, which one-0 does not have"):
        compare_groups([system("one", [1])], Settings("brier"))


def test_runs_with_other_primary_metrics_need_one_named() -> None:
    groups = [system("one", [1]), system("two", [2], primary_metric="accuracy")]
    with pytest.raises(UsageError, match=r"other primary metrics \(accuracy, f1_macro\); choose one with --metric"):
        compare_groups(groups, QUICK)
    assert compare_groups(groups, Settings("accuracy", resamples=100)).metric == "accuracy"


def test_certified_is_rare_where_there_is_no_difference() -> None:
    """Families of three systems that are equally good: at most 5% of them may have a certified pair.

    Without Holm's correction more than a tenth would have one, which this test could not let pass.
    """
    families, n, found, uncorrected = 400, 200, 0, 0
    for family in range(families):
        groups = [group_of([table(1_000 + 3 * family + place, n=n)], f"net {place}") for place in range(3)]
        comparison = compare_groups(groups, Settings(resamples=399, seed=family))
        found += any(pair.certified for pair in comparison.pairs)
        uncorrected += any(pair.p <= 0.05 for pair in comparison.pairs)
    most = reference.binom.ppf(0.999, families, 0.05)
    assert found <= most < uncorrected


def test_ten_thousand_resamples_of_ag_news_take_under_a_second() -> None:
    groups = [group_of([table(seed, n=7_600, k=4)], f"net {seed}") for seed in range(2)]
    start = time.process_time()
    compare_groups(groups)
    assert time.process_time() - start < 1


@pytest.mark.slow
def test_ten_thousand_resamples_of_114_labels_take_under_20_seconds() -> None:
    rng = np.random.default_rng(0)
    gold = rng.random((28_926, 114)) < 1.5 / 114
    groups = [
        group_of([samples_of(gold, gold ^ (rng.random(gold.shape) < 0.004))], f"net {place}") for place in range(2)
    ]
    start = time.process_time()
    compare_groups(groups)
    assert time.process_time() - start < 20
