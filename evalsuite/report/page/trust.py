"""How far probabilities can be trusted: reliability, and accuracy where unsure documents are left to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.reliability import confidence
from evalsuite.report.page.canvas import Canvas
from evalsuite.report.page.collect import Field, System
from evalsuite.report.page.content import Cell, Figure, Part, Table, number, short, table
from evalsuite.report.page.curves import name_ends

FEW = 10  # cases of a bin that says little
KEPT = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)

Bins = list[tuple[int, float, float]]  # count, confidence, accuracy of each bin that is not empty
Floats = npt.NDArray[np.float64]


def _giving(field: Field) -> list[System]:
    """The best systems that give probabilities."""
    return [system for system in field.best if (system.results.get("calibration") or {}).get("after", {}).get("bins")]


def calibration(field: Field) -> Part:
    """Reliability diagrams of the best systems that give probabilities."""
    title = "Calibration"
    sure = _giving(field)
    if not sure:
        return Part("calibration", title)
    figures = tuple(_reliability(field, system, place) for place, system in enumerate(sure))
    what = "label and document" if field.multilabel else "document"
    text = [
        "A calibrated system that is 80% sure is right in 80 of 100 cases, and lies on the diagonal. Each point "
        f"is one of 15 bins, each case a {what}; seeds are pooled."
    ]
    if len(field.systems) > len(sure):
        text.append(f"Drawn for {len(sure)} of the best {len(field.best)} systems, those that give probabilities.")
    return Part("calibration", title, tuple(text), (_measures(sure),), figures)


def coverage(field: Field) -> Part:
    """Accuracy of the best systems where the documents that they are unsure of are left to a person."""
    curves = [(system, curve) for system in _giving(field) if (curve := _mean_coverage(system)) is not None]
    figures = (_coverage(field, curves),) if curves else ()
    return Part("coverage", "Leaving unsure documents to a person", figures=figures)


def _measures(systems: Sequence[System]) -> Table:
    rows = []
    for system in systems:
        row = [Cell(system.title, mark=system.number)]
        for when in ("before", "after"):
            for name in ("ece", "brier", "nll"):
                values = [results["calibration"][when][name] for results in system.group.results]
                known = [value for value in values if value is not None]
                row.append(number(float(np.mean(known)) if known else None))
        row.insert(3, number(system.group.mean("ece_expected")))
        rows.append(row)
    columns = ("system", "ECE before", "Brier before", "ECE of chance", "log-loss before", "ECE", "Brier", "log-loss")
    order = (0, 1, 2, 4, 5, 6, 7, 3)  # what the ECE is to be read against stands last
    return table(
        "Calibration before and after it was fitted; ECE of chance: of perfectly calibrated probabilities",
        [columns[place] for place in order],
        [[row[place] for place in order] for row in rows],
        sortable=True,
    )


def pooled_bins(system: System, when: str) -> Bins:
    """The bins of all seeds together, ``before`` or ``after`` calibration; empty ones are left out."""
    pooled: dict[int, list[float]] = {}
    for results in system.group.results:
        for place, entry in enumerate(results["calibration"][when]["bins"] or ()):
            if entry["count"]:
                sums = pooled.setdefault(place, [0, 0.0, 0.0])
                sums[0] += entry["count"]
                sums[1] += entry["count"] * entry["confidence"]
                sums[2] += entry["count"] * entry["accuracy"]
    return [(int(count), sure / count, right / count) for _, (count, sure, right) in sorted(pooled.items())]


def _reliability(field: Field, system: System, place: int) -> Figure:
    bins = {when: pooled_bins(system, when) for when in ("before", "after")}
    rows = [
        [when, number(count, "{:,.0f}".format), number(sure), number(right)]
        for when, entries in bins.items()
        for count, sure, right in entries
    ]
    columns = ("calibration", "cases", "mean confidence", "share right")
    name = f"{field.name}-reliability" + (f"-{place + 1}" if place else "")
    caption = f"Hollow: before calibration. Filled: after, faint under {FEW} cases. Bars: where the cases lie."
    return Figure(
        name,
        f"Reliability of {system.title}",
        caption,
        table(f"Reliability of {system.title}", columns, rows),
        partial(_draw_reliability, system.number, bins),
        (320, 320),
    )


def _draw_reliability(system: int, bins: Mapping[str, Bins], canvas: Canvas) -> None:
    axes, colours, series = canvas.axes, canvas.colours, canvas.series(system)
    axes.plot([0, 1], [0, 1], color=colours["soft"], linewidth=1, linestyle=(0, (4, 3)))
    total = sum(count for count, _, _ in bins["after"])
    for count, sure, _ in bins["after"]:
        axes.bar(sure, 0.25 * count / total, width=0.045, color=series["color"], alpha=0.25, linewidth=0)
    before, after = bins["before"], bins["after"]
    many = [entry for entry in after if entry[0] >= FEW]
    few = [entry for entry in after if entry[0] < FEW]
    early = [entry for entry in before if entry[0] >= FEW]
    axes.plot([b[1] for b in early], [b[2] for b in early], color=colours["soft"], linewidth=0.8, linestyle=":")
    axes.scatter([b[1] for b in early], [b[2] for b in early], s=18, facecolors="none", edgecolors=colours["soft"])
    axes.scatter([b[1] for b in few], [b[2] for b in few], s=12, alpha=0.45, **series)
    axes.plot([b[1] for b in many], [b[2] for b in many], color=series["color"], linewidth=1.4)
    sizes = [12 + 70 * (count / total) ** 0.5 for count, _, _ in many]
    axes.scatter([b[1] for b in many], [b[2] for b in many], s=sizes, zorder=3, **series)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share right", aspect="equal")


def coverage_curve(sure: Floats, right: Floats) -> Floats:
    """Share right among the surest ``KEPT`` shares of documents; of equally sure ones each counts its mean.

    sure: confidence of n documents; right: 1 where all labels are right, else 0.
    """
    order = np.argsort(-sure, kind="stable")
    levels, inverse = np.unique(sure[order], return_inverse=True)
    means = np.bincount(inverse, weights=right[order]) / np.bincount(inverse)
    running = np.cumsum(means[inverse])
    kept = np.maximum(1, np.round(np.asarray(KEPT) * len(sure))).astype(int)
    assert len(levels)
    return np.asarray(running[kept - 1] / kept)


def _mean_coverage(system: System) -> list[float] | None:
    curves = []
    for samples in system.samples:
        if samples.probabilities is None:
            return None
        ok = np.asarray(samples.status, dtype=np.str_) == "ok"
        if not ok.any():
            return None
        right = (samples.gold == samples.predicted).all(axis=1)[ok].astype(np.float64)
        sure = confidence(samples.probabilities[ok], bool(system.results["multilabel"]))
        curves.append(coverage_curve(np.asarray(sure, np.float64), right))
    return [float(value) for value in np.mean(curves, axis=0)]


def _coverage(field: Field, curves: Sequence[tuple[System, list[float]]]) -> Figure:
    rows = [[Cell(system.title, mark=system.number), *map(number, curve)] for system, curve in curves]
    columns = ("system", *(f"{share:.0%}" for share in KEPT))
    right = "have all labels right" if field.multilabel else "are right"
    how = "the least certain label" if field.multilabel else "the likeliest label"
    return Figure(
        f"{field.name}-coverage",
        "Accuracy of the documents that are kept",
        f"The least sure documents are left out first, by the probability of {how}. Drawn: which share of the kept "
        f"ones {right}. evalsuite predict --abstain leaves documents out this way.",
        table("Accuracy by share of documents kept", columns, rows),
        partial(_draw_coverage, [(system.number, system.title, curve) for system, curve in curves]),
        (400, 316),
    )


def _draw_coverage(lines: Sequence[tuple[int, str, list[float]]], canvas: Canvas) -> None:
    from matplotlib.ticker import PercentFormatter

    axes: Any = canvas.axes
    ends = []
    for system, title, shares in lines:
        series = canvas.series(system)
        axes.plot(KEPT, shares, linestyle=canvas.style(system), markersize=5, **series)
        ends.append((KEPT[0], shares[0], short(title), series["color"]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="documents that are kept", ylabel="share right", xlim=(0.18, 1.02))
    name_ends(canvas, ends)
