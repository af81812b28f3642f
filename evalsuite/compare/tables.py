"""A comparison as rows of words, as Markdown and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evalsuite.compare.comparison import Comparison, Pair
from evalsuite.compare.discordance import SeedTest
from evalsuite.compare.ranks import Ranking
from evalsuite.compare.resampling import SEEDS_TO_RESAMPLE
from evalsuite.report.columns import ABSENT, columns_of, interval_text, metric
from evalsuite.report.markup import escaped, markdown_table
from evalsuite.store import plain

TEST_COLUMNS = ("first alone right", "second alone right", "exact p", "mid-p", "Holm's exact p", "Holm's mid-p")
COSTS = ("trainable", "train", "predict", "memory", "usd")


@dataclass(frozen=True)
class Table:
    """Rows of words; the first ``heads`` columns are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    heads: int

    @property
    def numeric(self) -> tuple[str, ...]:
        return self.columns[self.heads :]


Part = Table | Sequence[str]


def parts_of(comparison: Comparison, *, mcnemar: bool = False) -> list[Part]:
    """What is printed of a comparison, from top to bottom: tables and lines."""
    warnings = [f"Warning: {line}" for line in comparison.warnings]
    sentences = [pair.sentence for pair in comparison.pairs]
    parts: list[Part] = [leaderboard(comparison), [*looks_text(comparison), *warnings]]
    parts += [pair_table(comparison)] if comparison.pairs else []
    parts += [legend(comparison), sentences]
    parts += [seed_table(comparison)] if mcnemar else []
    parts += [label_table(comparison)] if comparison.settings.per_label else []
    return [part for part in parts if part]


def leaderboard(comparison: Comparison) -> Table:
    """The systems, best first, with what they cost; a cost that none has is left out."""
    known = columns_of()
    costs = [
        name for name in COSTS if any(known[name].compute(system.group) is not None for system in comparison.systems)
    ]
    rows = []
    for number, system in enumerate(comparison.systems, 1):
        spent = [(known[name], known[name].compute(system.group)) for name in costs]
        rows.append(
            (
                str(number),
                system.title,
                str(len(system.values)),
                metric(system.mean),
                metric(float(np.std(system.values, ddof=1))) if len(system.values) > 1 else ABSENT,
                interval_text(system.interval) if system.interval else ABSENT,
                *(ABSENT if value is None else column.show(value) for column, value in spent),
            )
        )
    columns = ("#", "system", "seeds", comparison.metric, "sd", "95% interval", *costs)
    documents = f"{comparison.documents:,} {comparison.split} documents"
    title = f"{comparison.task}: {comparison.metric} on {documents}"
    return Table(title, columns, tuple(rows), 2)


def pair_table(comparison: Comparison) -> Table:
    """All pairs in points, hundredths of the metric, the first minus the second."""
    columns = ("pair", "points", "95% interval", "p", "Holm's p", "over seeds", "seeds alike", "McNemar", "finding")
    return Table("", columns, tuple(map(_pair_row, comparison.pairs)), 1)


def _pair_row(pair: Pair) -> tuple[str, ...]:
    return (
        _place(pair),
        _signed(pair.difference),
        _between(pair.interval),
        p_text(pair.p),
        p_text(pair.p_holm),
        _between(pair.across_seeds) if pair.across_seeds else ABSENT,
        f"{pair.same_direction[0]} of {pair.same_direction[1]}" if pair.same_direction else ABSENT,
        _range([test.exact_holm for test in pair.mcnemar]),
        "certified" if pair.certified else ABSENT,
    )


def seed_table(comparison: Comparison) -> Table:
    """McNemar's test of every pair and common seed."""
    tests = [(pair, test) for pair in comparison.pairs for test in pair.mcnemar]
    title = f"McNemar's test of every pair and seed, on whole answers: {_tested(comparison)}"
    rows = [(_place(pair), str(test.seed), *_test_row(test)) for pair, test in tests]
    return Table(title, ("pair", "seed", *TEST_COLUMNS), tuple(rows), 1)


def label_table(comparison: Comparison) -> Table:
    """McNemar's test of every pair, seed and label, those alone that Holm's correction leaves."""
    tests = [(pair, test) for pair in comparison.pairs for test in pair.by_label]
    told = [(pair, test) for pair, test in tests if test.exact_holm <= comparison.settings.alpha]
    share = f"{len(told):,} of {len(tests):,} tests, those with Holm's exact p of at most {comparison.settings.alpha:g}"
    rows = [(_place(pair), str(test.label), str(test.seed), *_test_row(test)) for pair, test in told]
    return Table(f"McNemar's test label by label: {share}", ("pair", "label", "seed", *TEST_COLUMNS), tuple(rows), 2)


def _tested(comparison: Comparison) -> str:
    multilabel = comparison.systems[0].group.results[0]["multilabel"]
    return "it tests subset accuracy, as it asks for the exact match" if multilabel else "it tests accuracy"


def _test_row(test: SeedTest) -> tuple[str, ...]:
    values = (test.exact, test.mid_p, test.exact_holm, test.mid_p_holm)
    return f"{test.first_only:,}", f"{test.second_only:,}", *map(p_text, values)


def rank_table(ranking: Ranking) -> Table:
    """Systems by their mean ranks."""
    test = ranking.test
    title = (
        f"Mean ranks over {len(ranking.tasks)} tasks, 1 is best; ranks that differ by more than "
        f"{test.critical_difference:.2f} differ at {100 * ranking.alpha:g}% (Nemenyi); Friedman's p {p_text(test.p)}"
    )
    rows = zip(ranking.systems, (f"{rank:.2f}" for rank in test.ranks), strict=True)
    return Table(title, ("system", "mean rank"), tuple(rows), 1)


def legend(comparison: Comparison) -> list[str]:
    """What the columns of the pairs mean."""
    settings = comparison.settings
    many = any(len(system.values) >= SEEDS_TO_RESAMPLE for system in comparison.systems)
    over = (
        f"documents, and over seeds where there are {SEEDS_TO_RESAMPLE} or more"
        if many
        else "documents, for these seeds"
    )
    drawn = f"{settings.resamples:,} resamples, seed {settings.seed}"
    lines = [
        f"95% intervals are over {over}.",
        f"points: hundredths of {comparison.metric}, the first system minus the second.",
        f"p: paired bootstrap ({drawn}), the same documents drawn for all systems.",
        f"Holm's p: over {len(comparison.pairs)} pairs; certified means that it is at most {settings.alpha:g}.",
        "over seeds: 95% paired t-interval over common seeds; seeds alike: seeds that point the same way.",
        f"McNemar: exact p, Holm's over all pairs and seeds; {_tested(comparison)}.",
    ]
    return lines if comparison.pairs else lines[:1]


def looks_text(comparison: Comparison) -> list[str]:
    """How often this split was looked at."""
    scored = sum(len(system.values) for system in comparison.systems)
    others = f", {comparison.looks - scored:,} of them not compared here" if comparison.looks > scored else ""
    return [f"{comparison.looks:,} finished runs have scored these documents{others}: the best of many is partly luck."]


def plain_comparison(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON holds it."""
    known = columns_of()
    systems = [
        {
            "title": system.title,
            "fields": dict(system.group.fields),
            "runs": [str(run.directory) for run in system.group.runs],
            "seeds": list(system.seeds),
            "values": list(system.values),
            "mean": system.mean,
            "interval": system.interval,
            "cost": {name: known[name].compute(system.group) for name in COSTS},
        }
        for system in comparison.systems
    ]
    titles = [system.title for system in comparison.systems]
    pairs = [{**asdict(pair), "first": titles[pair.first], "second": titles[pair.second]} for pair in comparison.pairs]
    whole = {name: getattr(comparison, name) for name in ("task", "split", "metric", "documents", "warnings", "looks")}
    data: dict[str, Any] = plain({**whole, "settings": asdict(comparison.settings), "systems": systems, "pairs": pairs})
    return data


def markdown(part: Part) -> str:
    """A table, under its title, or lines as Markdown."""
    if not isinstance(part, Table):
        return "\n".join(f"- {escaped(line)}" for line in part)
    title = f"{escaped(part.title)}\n\n" if part.title else ""
    return title + markdown_table(part.columns, part.rows, range(part.heads, len(part.columns)))


def p_text(p: float) -> str:
    """A p-value as a table shows it."""
    return "<0.0001" if p < 0.00005 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def _place(pair: Pair) -> str:
    return f"{pair.first + 1} - {pair.second + 1}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _between(bounds: tuple[float, float]) -> str:
    return f"{_signed(bounds[0])} to {_signed(bounds[1])}"


def _range(values: Sequence[float]) -> str:
    """One p-value, or the smallest and the largest."""
    ends = list(dict.fromkeys((p_text(min(values)), p_text(max(values))))) if values else [ABSENT]
    return " to ".join(ends)
