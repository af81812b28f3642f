"""Where systems go wrong: label by label, and which label is taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from evalsuite.report.page.canvas import Canvas
from evalsuite.report.page.collect import Field, System
from evalsuite.report.page.content import Figure, Part, Table, number, short, table

MOST_CELLS = 12  # labels of a matrix that can still be read
MOST_LABELS = 20  # labels of a drawing; its table has all
LARGEST = 15  # confusions that are listed where a matrix could not be read
MATRICES = 3

Counts = npt.NDArray[np.float64]


def by_label(field: Field) -> Part:
    """F1 of every label, of the best systems."""
    rates = {system.number: _label_f1(system) for system in field.best}
    support = [entry["support"] for entry in field.systems[0].results["metrics"]["labels"]]
    rows = [
        [short(label), number(support[place], "{:,.0f}".format), *(number(rates[s.number][place]) for s in field.best)]
        for place, label in enumerate(field.labels)
    ]
    columns = ("label", "documents", *(system.title for system in field.best))
    whole = table("F1 of every label", columns, rows, sortable=True)
    leader = rates[field.best[0].number]
    hard = sorted(range(len(leader)), key=lambda place: _or(leader[place], 2.0))[:MOST_LABELS]
    caption = f"Hardest label of {field.best[0].title} first; mean over seeds."
    if len(field.labels) > len(hard):
        caption += f" Of {len(field.labels)} labels the hardest {len(hard)} are drawn; the table has all."
    lines = [(system.number, system.title, [rates[system.number][place] for place in hard]) for system in field.best]
    names = [f"{short(field.labels[place], 24)} ({support[place]:,})" for place in hard]
    figure = Figure(
        f"{field.name}-labels",
        "F1 by label",
        caption,
        whole,
        partial(_draw_labels, names, lines),
        (400, 80 + 26 * len(hard) + 20 * -(-len(lines) // _columns(title for _, title, _ in lines))),
    )
    return Part("labels", "F1 by label", figures=(figure,))


def _or(value: float | None, absent: float) -> float:
    return absent if value is None else value


def _label_f1(system: System) -> list[float | None]:
    tables = [[entry["f1"] for entry in results["metrics"]["labels"]] for results in system.group.results]
    columns = [[value for value in column if value is not None] for column in zip(*tables, strict=True)]
    return [float(np.mean(column)) if column else None for column in columns]


def _columns(titles: Iterable[str]) -> int:
    """How many names of the key stand side by side."""
    return 2 if max(map(len, titles)) <= 18 else 1


def _draw_labels(names: Sequence[str], lines: Sequence[tuple[int, str, list[float | None]]], canvas: Canvas) -> None:
    axes = canvas.axes
    for place, column in enumerate(zip(*(values for _, _, values in lines), strict=True)):
        if known := [value for value in column if value is not None]:
            axes.plot([min(known), max(known)], [place, place], color=canvas.colours["line"], linewidth=3, zorder=1)
    for system, title, values in reversed(lines):  # the best lies on top
        known_at = [(value, place) for place, value in enumerate(values) if value is not None]
        if known_at:
            xs, ys = zip(*known_at, strict=True)
            axes.plot(xs, ys, linestyle="", label=short(title, 44), markersize=7, **canvas.series(system))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=canvas.colours["ink"])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="F1")
    axes.grid(visible=False, axis="y")
    canvas.key(_columns(title for _, title, _ in lines))


def confusions(field: Field) -> Part:
    """Which label is taken for which by the best systems: matrices, or the largest confusions of many labels."""
    shown = field.best[:MATRICES]
    title = "Confusions"
    told = (
        ""
        if len(field.systems) <= len(shown)
        else f" Shown for the best {len(shown)} of {len(field.systems):,} systems."
    )
    if field.multilabel:
        text = "Documents by gold and predicted label, label by label; mean over seeds." + told
        return Part("confusion", title, (text,), folded=tuple(_label_counts(field, system) for system in shown))
    matrices = [(system, confusion(system)) for system in shown]
    if len(field.labels) > MOST_CELLS:
        text = f"The largest confusions between {len(field.labels)} labels; mean over seeds." + told
        return Part("confusion", title, (text,), tuple(_largest(field, *entry) for entry in matrices))
    figures = tuple(_matrix(field, system, counts, place) for place, (system, counts) in enumerate(matrices))
    text = "Rows are gold labels, columns predicted ones; the shade is the share of the row." + told
    return Part("confusion", title, (text,), figures=figures)


def confusion(system: System) -> Counts:
    """[k, k + 1] documents by gold and predicted label, mean over seeds; the last column: an answer that is no label.

    Single label. Documents without any answer count nowhere.
    """
    k = len(system.results["labels"])
    total = np.zeros((k, k + 1))
    for samples in system.samples:
        states = np.asarray(samples.status, dtype=np.str_)
        predicted = np.where((states == "ok") & samples.predicted.any(axis=1), samples.predicted.argmax(axis=1), k)
        answered = states != "failed"
        np.add.at(total, (samples.gold.argmax(axis=1)[answered], predicted[answered]), 1)
    return np.asarray(total / len(system.samples))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 10 else f"{value:,.1f}"


def _matrix(field: Field, system: System, counts: Counts, place: int) -> Figure:
    names = [short(label, 18) for label in field.labels]
    predicted = [*names, "no label"] if counts[:, -1].any() else names
    counts = counts[:, : len(predicted)]
    rows = [[name, *(number(float(value), _count) for value in row)] for name, row in zip(names, counts, strict=True)]
    side = 130 + max(34, 210 // len(predicted)) * len(predicted)
    return Figure(
        f"{field.name}-confusion" + (f"-{place + 1}" if place else ""),
        f"Confusions of {system.title}",
        "Documents, mean over seeds." if len(system.group.runs) > 1 else "Documents.",
        table(f"Confusions of {system.title}", ("gold, then predicted", *predicted), rows),
        partial(_draw_matrix, names, predicted, counts),
        (side, side - 10),
        bright=False,
    )


def _draw_matrix(gold: Sequence[str], predicted: Sequence[str], counts: Counts, canvas: Canvas) -> None:
    from matplotlib.patches import Rectangle

    axes = canvas.axes
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    for row, column in np.ndindex(counts.shape):
        right = row == column
        colour = canvas.colours["series-0" if right else "series-1"]
        corner = (column - 0.48, row - 0.47)
        # Never darker than what the page's own ink can be read on.
        shade = 0.04 + 0.5 * (shares[row, column] if right else min(1.0, 3 * shares[row, column]))
        axes.add_patch(Rectangle(corner, 0.96, 0.94, facecolor=colour, alpha=shade, linewidth=0))
        if counts[row, column]:
            axes.text(column, row, _count(float(counts[row, column])), ha="center", va="center", fontsize=11)
    axes.set(xlim=(-0.5, len(predicted) - 0.5), ylim=(len(gold) - 0.5, -0.5))
    turned = (
        {"rotation": 35, "ha": "left", "rotation_mode": "anchor"}
        if max(map(len, predicted)) > 8 or len(predicted) > 6
        else {}
    )
    axes.set_xticks(range(len(predicted)), predicted, **turned)
    axes.set_yticks(range(len(gold)), gold)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", labelpad=8)
    axes.set_ylabel("gold")
    axes.tick_params(length=0, labelcolor=canvas.colours["ink"])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _largest(field: Field, system: System, counts: Counts) -> Table:
    wrong = counts.copy()
    wrong[np.arange(len(counts)), np.arange(len(counts))] = 0
    places = np.argsort(-wrong, axis=None, kind="stable")[:LARGEST]
    names = [*field.labels, "no label"]
    rows = []
    for gold, predicted in zip(*np.unravel_index(places, wrong.shape), strict=True):
        if wrong[gold, predicted]:
            share = float(wrong[gold, predicted] / counts[gold].sum())
            rows.append(
                [
                    short(names[gold]),
                    short(names[predicted]),
                    number(float(wrong[gold, predicted]), _count),
                    number(share, "{:.1%}".format),
                ]
            )
    title = f"Largest confusions of {system.title}"
    return table(title, ("gold", "predicted", "documents", "of those gold"), rows, heads=2, sortable=True)


def _label_counts(field: Field, system: System) -> Table:
    hits, extra, missed = np.zeros((3, len(field.labels)))
    for samples in system.samples:
        states = np.asarray(samples.status, dtype=np.str_)
        gold = samples.gold & (states != "failed")[:, None]
        predicted = samples.predicted & (states == "ok")[:, None]
        hits += (gold & predicted).sum(axis=0)
        extra += (predicted & ~gold).sum(axis=0)
        missed += (gold & ~predicted).sum(axis=0)
    seeds = len(system.samples)
    rows = [
        [short(label), *(number(float(value) / seeds, _count) for value in (hits[k], extra[k], missed[k]))]
        for k, label in enumerate(field.labels)
    ]
    title = f"Hits, false alarms and misses of {system.title}"
    return table(title, ("label", "hits", "false alarms", "misses"), rows, sortable=True)
