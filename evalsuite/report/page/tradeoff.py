"""Quality against cost: which systems no other one beats at both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from evalsuite.report.columns import amount, seconds
from evalsuite.report.page.canvas import Canvas
from evalsuite.report.page.collect import COMPARED, Field, System
from evalsuite.report.page.content import Cell, Figure, Part, brief, listed, number, sentence_case, short, table
from evalsuite.report.page.placing import name_points
from evalsuite.report.page.standings import COLUMNS, floor_of, metric_title


@dataclass(frozen=True)
class Cost:
    """What is paid. column: of the tables of runs. more_is_better: as of speed. least: what is under it is no cost."""

    name: str
    title: str
    axis: str
    column: str
    more_is_better: bool
    show: Callable[[float], str]
    least: float = 0.0


LONGEST = 26  # letters of a name beside a point
ROOM = 100  # letters in all

COSTS = (
    Cost("pareto", "speed", "documents classified a second", "predict", True, amount),
    Cost(
        "pareto-parameters",
        "trainable parameters",
        "trainable parameters",
        "trainable",
        False,
        "{:,.0f}".format,
        1.0,
    ),
    Cost("pareto-train", "training time", "seconds of training", "train", False, seconds, 0.05),
)


@dataclass(frozen=True)
class Point:
    """A system at its cost. ``front``: no other system is as good at a lower cost, or better at the same."""

    system: System
    cost: float
    score: float
    front: bool


def tradeoffs(field: Field) -> Part:
    """One figure for each cost that two systems or more differ in."""
    figures = [figure for cost in COSTS if (figure := _figure(field, cost)) is not None]
    text = (
        "On the line stand the systems that no other one beats at both: the rest cost more and give less. "
        "Bars are 95% intervals over documents: where they overlap widely, look at the table of certified differences.",
    )
    return Part("cost", "Quality against cost", text, figures=tuple(figures))


def points(field: Field, cost: Cost) -> list[Point]:
    """Every system with a score and a cost above 0, best first."""
    found = [
        (system, float(value), system.mean)
        for system in field.systems
        if system.mean is not None and (value := COLUMNS[cost.column].compute(system.group)) and value >= cost.least
    ]
    sign = 1 if field.higher_is_better else -1
    toward = 1 if cost.more_is_better else -1

    def beaten(value: float, score: float) -> bool:
        return any(
            toward * other >= toward * value and sign * s >= sign * score and (other, s) != (value, score)
            for _, other, s in found
        )

    return [Point(system, value, score, not beaten(value, score)) for system, value, score in found]


def _figure(field: Field, cost: Cost) -> Figure | None:
    title = f"{sentence_case(metric_title(field.metric))} against {cost.title}"
    found = points(field, cost)
    if len({point.cost for point in found}) < 2:
        return None
    without = [system.title for system in field.systems if system not in [point.system for point in found]]
    caption = (
        f"{'Right' if cost.more_is_better else 'Left'} and {'up' if field.higher_is_better else 'down'} is better."
    )
    if without:
        caption += f" Without a value: {listed(without)}."
    low = floor_of([point.score for point in found]) if field.higher_is_better else None
    if low is not None:
        caption += " Arrows at the foot: systems far below, with their score."
    if _crowded(found[:COMPARED]):
        caption += " Numbers are places on the leaderboard."
    if len(found) > COMPARED:
        caption += f" The best {COMPARED} have names; the others are small dots."
    rows = [
        [
            Cell(point.system.title, mark=point.system.number),
            number(point.cost, cost.show),
            number(point.score),
            Cell("yes" if point.front else "no"),
        ]
        for point in found
    ]
    columns = ("system", cost.axis, metric_title(field.metric), "on the line")
    return Figure(
        f"{field.name}-{cost.name}",
        title,
        caption,
        table(title, columns, rows, sortable=True),
        partial(_draw, found, low, cost.axis, metric_title(field.metric)),
    )


def _draw(found: Sequence[Point], low: float | None, axis: str, metric: str, canvas: Canvas) -> None:
    axes, ink = canvas.axes, canvas.colours
    axes.set_xlabel(axis)
    axes.set_ylabel(metric)
    shown = [point for point in found if low is None or point.score >= low]
    for point in shown[COMPARED:]:
        axes.plot(point.cost, point.score, "o", color=ink["soft"], markersize=2.5, alpha=0.6)
    for point in reversed(shown[:COMPARED]):  # the best lies on top
        series = canvas.series(point.system.number)
        if point.system.interval:
            axes.plot([point.cost] * 2, point.system.interval, color=series["color"], linewidth=1.2, alpha=0.55)
        axes.plot(point.cost, point.score, linestyle="", markersize=7.5, **series)
    front = sorted((point.cost, point.score) for point in shown if point.front)
    if len(front) > 1:
        axes.plot(*zip(*front, strict=True), color=ink["soft"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.margins(x=0.12, y=0.08)
    names = _names(shown[:COMPARED])
    named = [(point.cost, point.score, name) for point, name in zip(shown, names, strict=False)]
    if low is not None:
        lowest = min(min(point.system.interval or (point.score,)) for point in shown)
        low = lowest - 0.12 * (axes.get_ylim()[1] - lowest)
        axes.set_ylim(bottom=low)
        for point in [point for point in found if point not in shown][:COMPARED]:
            place = low + 0.03 * (axes.get_ylim()[1] - low)
            axes.plot(point.cost, place, "v", color=ink["soft"], markersize=6)
            named.append((point.cost, place, f"{point.system.title} {point.score:.2f}"))
    cost_axis(axes, [point.cost for point in found])
    name_points(canvas, named)


def _names(points: Sequence[Point]) -> list[str]:
    """What stands beside each point: its title; where these would fill the room, the places of those off the line."""
    crowded = _crowded(points)
    return [
        str(point.system.number + 1) if crowded and not point.front else short(point.system.title, LONGEST)
        for point in points
    ]


def _crowded(points: Sequence[Point]) -> bool:
    return sum(min(len(point.system.title), LONGEST) for point in points) > ROOM


def cost_axis(axes: Any, values: Sequence[float]) -> None:
    """A horizontal axis that suits positive ``values``, logarithmic where they differ widely: 30, 1,000, 2M."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    wide = max(values) / min(values)
    if wide > 3:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(
            LogLocator(subs=(1.0,) if wide > 300 else (1.0, 3.0) if wide > 10 else (1.0, 2.0, 5.0))
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: brief(value)))
