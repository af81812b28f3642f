"""Learning curves: validation scores over the steps of training, test scores over the size of the training set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from evalsuite.report.page.canvas import TEXT_SIZE, Canvas
from evalsuite.report.page.collect import DETAILED, Family, Field, System, families
from evalsuite.report.page.content import Cell, Figure, Part, number, sentence_case, short, table
from evalsuite.report.page.placing import name_points, spread_out
from evalsuite.report.page.standings import metric_title
from evalsuite.report.page.tradeoff import cost_axis

SIZES = ("train_size", "train_limit")
Line = tuple[int, str, list[tuple[float, float, tuple[float, float] | None]]]  # number, title, (x, y, interval)


def learning(field: Field) -> Part:
    """Figures of both kinds, as far as the runs have them."""
    figures = [_validation(field)] if any(_curves(system) for system in field.systems) else []
    for size in SIZES:
        if members := families(field.systems, size):
            figures.append(_by_size(field, size, members))
    return Part("learning", "Learning curves", figures=tuple(figures))


def _curves(system: System) -> list[list[tuple[float, float]]]:
    curves = [results["facts"].get("validation_curve") or [] for results in system.group.results]
    return [[(float(step), float(score)) for step, score in curve] for curve in curves if len(curve) > 1]


def _validation(field: Field) -> Figure:
    trained = [system for system in field.systems if _curves(system)]
    shown = [(system, _curves(system)) for system in trained[:DETAILED]]
    caption = "Faint: single seeds; strong: their mean. A line that still climbs has not been trained to its end."
    if len(trained) > len(shown):
        caption += f" Of {len(trained):,} systems that report it, the best {len(shown)} are drawn."
    rows = [
        [Cell(system.title, mark=system.number), Cell(str(seed)), number(step, "{:,.0f}".format), number(score)]
        for system, curves in shown
        for seed, curve in enumerate(curves, 1)
        for step, score in curve
    ]
    columns = ("system", "curve", "step", f"validation {metric_title(field.metric)}")
    return Figure(
        f"{field.name}-learning",
        f"Validation {metric_title(field.metric)} while training",
        caption,
        table("Validation while training", columns, rows),
        partial(_draw_validation, [(s.number, s.title, c) for s, c in shown], metric_title(field.metric)),
        (400, 316),
    )


def _draw_validation(shown: Sequence[tuple[int, str, Any]], metric: str, canvas: Canvas) -> None:
    axes, ends = canvas.axes, []
    passed: list[tuple[float, float]] = []
    for system, title, curves in shown:
        series = canvas.series(system)
        if len(curves) > 1:
            for curve in curves:
                axes.plot(*zip(*curve, strict=True), color=series["color"], alpha=0.3, linewidth=1)
        steps = sorted({step for curve in curves for step, _ in curve})
        apart = [tuple(zip(*curve, strict=True)) for curve in curves]
        mean = [float(np.mean([np.interp(step, xs, ys) for xs, ys in apart])) for step in steps]
        axes.plot(steps, mean, linestyle=canvas.style(system), markersize=5, **series)
        ends.append((steps[-1], mean[-1], short(title, 24)))
        passed += zip(steps, mean, strict=True)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(f"validation {metric}")
    axes.margins(x=0.14, y=0.08)
    name_points(canvas, ends, passed)


def _by_size(field: Field, size: str, found: Sequence[Family]) -> Figure:
    lines: list[Line] = []
    for family in found[:DETAILED]:
        number_of = min(system.number for _, system in family.members)
        sized = [(_documents(system), system.mean or 0.0, system.interval) for _, system in family.members]
        lines.append((number_of, family.title, sorted(sized, key=lambda entry: entry[0])))
    caption = "Bars are 95% intervals over documents."
    if len(found) > len(lines):
        caption += f" Of {len(found)} families of systems the best {len(lines)} are drawn."
    rows = [
        [
            Cell(title, mark=system),
            number(documents, "{:,.0f}".format),
            number(score),
            Cell(f"{bounds[0]:.3f} to {bounds[1]:.3f}", key=bounds[0]) if bounds else None,
        ]
        for system, title, entries in lines
        for documents, score, bounds in entries
    ]
    columns = ("system", "training documents", metric_title(field.metric), "95% interval")
    return Figure(
        f"{field.name}-{size.replace('_', '-')}",
        sentence_case(f"{metric_title(field.metric)} by size of the training set"),
        caption,
        table("By size of the training set", columns, rows),
        partial(_draw_sizes, lines, metric_title(field.metric)),
        (400, 316),
    )


def _documents(system: System) -> float:
    return float(np.median([results["data"]["sizes"]["train"] for results in system.group.results]))


def _draw_sizes(lines: Sequence[Line], metric: str, canvas: Canvas) -> None:
    axes, ends = canvas.axes, []
    for system, title, entries in lines:
        series = canvas.series(system)
        for documents, _, bounds in entries:
            if bounds:
                axes.plot([documents] * 2, bounds, color=series["color"], alpha=0.45, linewidth=1.2)
        xs, ys = [entry[0] for entry in entries], [entry[1] for entry in entries]
        axes.plot(xs, ys, linestyle=canvas.style(system), **series)
        ends.append((xs[-1], ys[-1], title, series["color"]))
    cost_axis(axes, [entry[0] for _, _, entries in lines for entry in entries])
    axes.set_xlabel("training documents")
    axes.set_ylabel(metric)
    name_ends(canvas, ends)


def name_ends(canvas: Canvas, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each line's name to the right of the axes, level with its end (x, y, name, colour) or as near as can be."""
    axes = canvas.axes
    names = [short(name, 22) for _, _, name, _ in ends]
    # Room for the names is taken from the axes, which constrained layout does not know of: text there is not clipped.
    margin = 14 + 6.6 * max(map(len, names))
    width = 72 * canvas.figure.get_size_inches()[0]
    canvas.figure.get_layout_engine().set(rect=(0, 0, 1 - min(margin, 0.4 * width) / width, 1))
    canvas.figure.draw_without_rendering()
    box = axes.get_window_extent()
    places = [axes.transData.transform((x, y))[1] for x, y, _, _ in ends]
    for place, moved, name, (x, y, _, colour) in zip(
        places, spread_out(places, 1.3 * TEXT_SIZE), names, ends, strict=True
    ):
        start = axes.transData.transform((x, y))[0]
        inverse = axes.transAxes.inverted().transform
        text = axes.annotate(
            name,
            inverse((start, place)),
            inverse((box.x1 + 10, moved)),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
        )
        text.set_in_layout(False)
