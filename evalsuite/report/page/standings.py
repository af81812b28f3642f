"""The first things on a page: who leads, in words and as a table; which differences are certified; what it costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from evalsuite.compare.caveats import trials
from evalsuite.compare.comparison import Comparison, Pair
from evalsuite.report.columns import Column, amount, columns_of
from evalsuite.report.page.collect import COMPARED, WITH_INTERVAL, Field, System
from evalsuite.report.page.content import Cell, Part, Table, brief, listed, number, table

METRIC_TITLES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "f1_micro": "micro-F1",
    "f1_weighted": "weighted F1",
    "f1_macro_all_labels": "macro-F1 over all labels",
    "ece": "ECE",
    "brier": "Brier score",
    "nll": "log-loss",
}
COLUMNS: dict[str, Column] = columns_of()


def metric_title(name: str) -> str:
    """A metric as people write it."""
    return METRIC_TITLES.get(name, name)


def answer(field: Field) -> list[str]:
    """Which system leads, whether that is certified, and what it costs."""
    if not field.systems or (leader := field.systems[0]).mean is None:
        return [f"No run of {field.task} has a {metric_title(field.metric)}."]
    seeds = len(leader.group.runs)
    over = f", mean of {seeds} seeds" if seeds > 1 else ", one seed"
    within = f" (95% interval {leader.interval[0]:.3f} to {leader.interval[1]:.3f})" if leader.interval else ""
    said = [f"{leader.title} leads with a {metric_title(field.metric)} of {leader.mean:.3f}{within}{over}."]
    said.append(_certainty(field, leader) if field.comparison else f"Nothing is certified: {field.problem}.")
    if cost := cost_sentence(leader):
        said.append(cost)
    return said


def _certainty(field: Field, leader: System) -> str:
    assert field.comparison is not None
    rivals: dict[int, Pair] = {}
    for pair in field.comparison.pairs:
        places = {id(field.comparison.systems[place].group): place for place in (pair.first, pair.second)}
        if id(leader.group) in places:
            other = next(place for group, place in places.items() if group != id(leader.group))
            rivals[other] = pair
    near = [system for system in field.systems if (rival := rivals.get(_place(field, system))) and not rival.certified]
    among = f" among the best {COMPARED}" if len(field.systems) > COMPARED else ""
    if not near:
        others = "every other system" if len(rivals) > 1 else field.systems[1].title
        return f"Its lead over {others}{among} is certified at 5%."
    names = listed([system.title for system in near])
    said = f"Its lead over {names} is not certified"
    said += ", over all others it is." if len(near) < len(rivals) else "."
    rates = {system.title: COLUMNS["predict"].compute(system.group) for system in (leader, *near)}
    known = {title: rate for title, rate in rates.items() if rate}
    if known and (fastest := max(known, key=known.__getitem__)) != leader.title:
        said += f" The fastest of these is {fastest}: {amount(known[fastest])} docs/s"
        said += f" against {amount(known[leader.title])}." if leader.title in known else "."
    return said


def _place(field: Field, system: System) -> int:
    assert field.comparison is not None
    return next((n for n, entry in enumerate(field.comparison.systems) if entry.group is system.group), -1)


def cost_sentence(system: System) -> str:
    """What a system costs, in words; empty where nothing is known."""
    found = {name: COLUMNS[name].compute(system.group) for name in ("trainable", "train", "predict", "memory")}
    said = []
    if found["trainable"]:
        said.append(f"trains {found['trainable']:,.0f} parameters in {COLUMNS['train'].show(found['train'])}")
    elif found["train"]:
        said.append(f"is fitted in {COLUMNS['train'].show(found['train'])}")
    if found["predict"]:
        said.append(f"classifies {amount(found['predict'])} docs/s")
    if found["memory"]:
        said.append(f"needs {COLUMNS['memory'].show(found['memory'])} at its peak")
    return f"{system.title} {listed(said)}." if said else ""


def leaderboard(field: Field) -> Part:
    """Every system, best first, with intervals, seeds and costs."""
    low, high = _scale(field)
    costs = {
        "trainable": "trainable",
        "train": "train",
        "predict": "docs/s",
        "memory": "memory",
    }
    others = [name for name in ("accuracy", "f1_macro", "f1_micro") if name != field.metric]
    if not field.multilabel:
        others = [name for name in others if name != "f1_micro"]  # it is the accuracy
    dollars = any(results["cost"].get("usd") for results in field.results)
    columns = ["#", "system", metric_title(field.metric), "95% interval", "seeds", "sd"]
    tuned = any(map(trials, field.results))
    columns += [
        *map(metric_title, others),
        *costs.values(),
        *(["USD"] if dollars else []),
        *(["trials"] if tuned else []),
    ]
    rows = []
    for system in field.systems:
        row = [*_head(system), *_score(system, low, high)]
        row += [number(system.group.mean(name)) for name in others]
        row += [number(COLUMNS[name].compute(system.group), _cost_text(name)) for name in costs]
        if dollars:
            spent = [usd for results in system.group.results if (usd := results["cost"].get("usd")) is not None]
            row.append(number(float(np.mean(spent)) if spent else None, "{:.4f}".format))
        if tuned:
            row.append(number(max(map(trials, system.group.results)), str))
        rows.append(row)
    text = [
        f"{len(field.systems):,} systems, {len(field.results):,} runs, {field.documents:,} scored documents. "
        "A system is a group of runs that differ in the seed alone; costs are medians over seeds. "
        "The interval is over documents, for these seeds; with ten seeds or more, of the compared systems, over both. "
        "sd is over seeds."
    ]
    if len(field.systems) > WITH_INTERVAL:
        text.append(f"Of systems with several seeds, the best {WITH_INTERVAL} have an interval.")
    if field.superseded:
        text.append(f"{field.superseded:,} runs were left out: a newer one of the same options and seed is there.")
    board = table("Leaderboard", columns, rows, heads=2, sortable=True, words=frozenset({"95% interval"}))
    return Part("leaderboard", "Leaderboard", tuple(text), (board,))


def _scale(field: Field) -> tuple[float, float]:
    """The ends of the intervals that are drawn: of the systems that are not far below the others."""
    scored = [system for system in field.systems if system.mean is not None]
    floor = floor_of([system.mean or 0.0 for system in scored]) if field.higher_is_better else None
    kept = [system for system in scored if floor is None or (system.mean or 0.0) >= floor]
    ends = [end for system in kept for end in system.interval or (system.mean or 0.0,)]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def floor_of(scores: Sequence[float]) -> float | None:
    """The lowest score above a gap so wide that the others could not be told apart beside what lies under it.

    None where there is no such gap, or few lie above it.
    """
    ordered = sorted(scores, reverse=True)
    gaps = [(high - low, place) for place, (high, low) in enumerate(pairwise(ordered), 1)]
    gap, above = max(gaps, default=(0.0, 0))
    if gap < max(0.2, 0.4 * (ordered[0] - ordered[-1] if ordered else 0.0)) or above < max(3, len(ordered) - above):
        return None
    return ordered[above - 1]


def _head(system: System) -> list[Cell]:
    tags = []
    collapsed = COLUMNS["collapsed"].compute(system.group)
    if collapsed and collapsed[0]:
        tags.append(f"{collapsed[0]} of {collapsed[1]} seeds collapsed")
    if count := sum(bool(results.get("incomplete")) for results in system.group.results):
        tags.append(f"{count} incomplete")
    if count := sum(bool(results.get("reload_failed")) for results in system.group.results):
        tags.append(f"{count} not reloadable")
    rank = Cell(str(system.number + 1), key=system.number + 1)
    return [rank, Cell(system.title, mark=system.number, note=", ".join(tags), kind="warned" if tags else "")]


def _score(system: System, low: float, high: float) -> list[Cell]:
    bounds, span = system.interval, (high - low) or 1.0
    strip = None
    if bounds and system.mean is not None and bounds[0] >= low:
        strip = tuple((value - low) / span for value in (bounds[0], system.mean, bounds[1]))
    text = f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
    between = Cell(text, key=bounds[0], kind="span", strip=strip) if bounds else number(None)  # type: ignore[arg-type]
    seeds = Cell(str(len(system.group.runs)), key=len(system.group.runs))
    return [number(system.mean), between, seeds, number(COLUMNS["sd"].compute(system.group))]


def _cost_text(name: str) -> Callable[[float], str]:
    return {"trainable": brief, "predict": amount}.get(name, COLUMNS[name].show)


def significance(field: Field) -> Part:
    """Every pair of the best systems: the difference, and whether it is certified."""
    title = "Certified differences"
    if field.comparison is None:
        return Part("significance", title, (f"Not compared: {field.problem}.",))
    compared = field.comparison
    pairs = {frozenset((pair.first, pair.second)): pair for pair in compared.pairs}
    numbers = _numbers(field, compared)
    rows = []
    for first in range(len(compared.systems)):
        head = Cell(f"{numbers[first] + 1} {field.systems[numbers[first]].title}", mark=numbers[first])
        cells = [
            Cell("", kind="self") if first == second else _pair_cell(pairs[frozenset((first, second))], first)
            for second in range(len(compared.systems))
        ]
        rows.append([head, *cells])
    columns = ["row minus column", *(str(numbers[place] + 1) for place in range(len(compared.systems)))]
    text = [
        f"Difference in points (hundredths) of {metric_title(compared.metric)}, row minus column. A filled cell with a "
        "✓ is certified: paired bootstrap over the same documents, Holm's correction over all pairs, at 5%. "
        "Any other cell says nothing for sure, however large its number."
    ]
    if len(field.systems) > len(compared.systems):
        text.append(f"Of {len(field.systems):,} systems the best {len(compared.systems)} are compared.")
    matrix = Table("Pairwise differences", tuple(columns), tuple(map(tuple, rows)))
    return Part(
        "significance", title, (*text, *_warnings(field, compared)), (matrix,), folded=(_pairs(field, compared),)
    )


def _warnings(field: Field, compared: Comparison) -> list[str]:
    """What the comparison warns of, with the names that systems have on this page."""
    names = {
        system.title: field.systems[number].title
        for system, number in zip(compared.systems, _numbers(field, compared), strict=True)
    }
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return [re.sub(either, lambda found: names[found[0]], text) for text in compared.warnings]


def _numbers(field: Field, compared: Comparison) -> list[int]:
    places = {id(system.group): system.number for system in field.systems}
    return [places[id(system.group)] for system in compared.systems]


def _pair_cell(pair: Pair, row: int) -> Cell:
    difference = round(100 * (pair.difference if pair.first == row else -pair.difference), 1) + 0.0
    kind = ("up" if difference > 0 else "down") if pair.certified else ""
    mark = " ✓" if pair.certified else ""
    return Cell(f"{difference:+.1f}{mark}", key=difference, kind=kind, note=pair.verdict)


def _pairs(field: Field, compared: Comparison) -> Table:
    names = [field.systems[number].title for number in _numbers(field, compared)]
    rows = [
        [
            Cell(names[pair.first]),
            Cell(names[pair.second]),
            number(100 * pair.difference, "{:+.2f}".format),
            Cell(f"{100 * pair.interval[0]:+.2f} to {100 * pair.interval[1]:+.2f}", key=pair.interval[0]),
            number(pair.p, "{:.4f}".format),
            number(pair.p_holm, "{:.4f}".format),
            Cell(pair.verdict, kind="text"),
        ]
        for pair in compared.pairs
    ]
    columns = ("first", "second", "points", "95% interval", "p", "p (Holm)", "in words")
    return table("Every pair", columns, rows, heads=2, sortable=True, words=frozenset({"in words"}))
