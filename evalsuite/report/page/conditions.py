"""What lies behind the numbers: wording of prompts, documents cut short, lost answers, and where runs come from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from evalsuite.report.page.canvas import Canvas
from evalsuite.report.page.collect import DETAILED, Family, Field, System, families
from evalsuite.report.page.content import Cell, Figure, Part, number, safe, sentence_case, short, table
from evalsuite.report.page.placing import name_points
from evalsuite.report.page.standings import metric_title
from evalsuite.spec import RunResult


def verbalizers(field: Field) -> Part:
    """How much a system's score hangs on the wording, where runs differ in ``template``."""
    title = "Wording of the prompt"
    found = families(field.systems, "template")
    if not found:
        return Part("wording", title)
    shown = found[:DETAILED]
    rows = [
        [
            Cell(family.title),
            Cell(short(str(value))),
            number(system.mean),
            Cell(f"{system.interval[0]:.3f} to {system.interval[1]:.3f}", key=system.interval[0])
            if system.interval
            else None,
        ]
        for family in shown
        for value, system in sorted(family.members, key=lambda member: -(member[1].mean or 0.0))
    ]
    columns = ("system", "template", metric_title(field.metric), "95% interval")
    spreads = [_spread(family) for family in shown]
    figure = Figure(
        f"{field.name}-wording",
        sentence_case(f"{metric_title(field.metric)} by template"),
        "One sign a template, the same label set and documents. Widest spread: "
        + max(spreads)[1]
        + (f" Of {len(found)} families the best {len(shown)} are drawn." if len(found) > len(shown) else ""),
        table("By template", columns, rows, heads=2),
        partial(_draw_wording, shown, metric_title(field.metric)),
        (400, 90 + 74 * len(shown)),
    )
    return Part("wording", title, figures=(figure,))


def _spread(family: Family) -> tuple[float, str]:
    means = [system.mean or 0.0 for _, system in family.members]
    width = max(means) - min(means)
    return width, f"{100 * width:.1f} points, of {family.title}."


def _draw_wording(shown: Sequence[Family], metric: str, canvas: Canvas) -> None:
    axes, named = canvas.axes, []
    for place, family in enumerate(shown):
        scored = sorted((system.mean or 0.0, short(str(value), 16)) for value, system in family.members)
        axes.plot([scored[0][0], scored[-1][0]], [place] * 2, color=canvas.colours["line"], linewidth=4, zorder=1)
        series = canvas.series(place)
        axes.plot([score for score, _ in scored], [place] * len(scored), linestyle="", markersize=7, **series)
        named += [(score, place, name) for score, name in scored]
    axes.set_yticks(range(len(shown)), [short(family.title, 24) for family in shown])
    axes.tick_params(axis="y", length=0, labelcolor=canvas.colours["ink"])
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel=metric)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    name_points(canvas, named)


def rates(field: Field) -> Part:
    """Documents that were cut to fit, answers outside the label set, and documents without an answer."""
    rows = []
    for system in field.systems:
        cut = [_mean(system, "truncated_share"), _mean(system, "train_truncated_share")]
        lost = [system.group.mean("invalid_rate"), system.group.mean("failed_rate")]
        if any(value is not None for value in cut) or any(lost):
            side = system.results["facts"].get("truncation_side") if any(cut) else None
            row = [number(value, "{:.1%}".format) for value in (*cut, *lost)]
            rows.append([Cell(system.title, mark=system.number), *row[:2], side, *row[2:]])
    columns = ("system", "test cut", "train cut", "end that is cut", "invalid answers", "no answer")
    text = (
        "A document that is longer than the system reads is cut at one end. An invalid answer is none of the labels "
        "and counts as wrong; a document without any answer counts nowhere.",
    )
    found = table("Cut, invalid and missing", columns, rows, sortable=True, words=frozenset({"end that is cut"}))
    return Part("rates", "Cuts and lost answers", text, (found,) if rows else ())


def _mean(system: System, fact: str) -> float | None:
    values = [results["facts"][fact] for results in system.group.results if results["facts"].get(fact) is not None]
    return float(np.mean(values)) if values else None


def provenance(field: Field) -> Part:
    """For every run: its id, the command that makes it again, versions, data and time."""
    rows = []
    for system in field.systems:
        for run in system.group.runs:
            results = run.results
            versions = results["environment"].get("packages") or {}
            rows.append(
                [
                    Cell(system.title, mark=system.number),
                    Cell(str(results["seed"]), key=results["seed"]),
                    number(system_value(results, field.metric), "{:.4f}".format),
                    Cell(safe(results["run_id"]), kind="code"),
                    _command(run),
                    Cell(safe(str(results["identity"]["code"])), kind="code"),
                    Cell(_versions(versions), kind="text"),
                    Cell(safe(results["data"]["fingerprint"]), kind="code"),
                    Cell(safe(results["finished"])),
                ]
            )
    columns = (
        "system",
        "seed",
        metric_title(field.metric),
        "run",
        "makes it again",
        "evalsuite",
        "versions",
        "data",
        "finished",
    )
    words = frozenset(columns[3:])
    text = ("Every number on this page comes from these runs and from nothing else.",)
    listed = table("Runs", columns, rows, sortable=True, words=words)
    return Part("provenance", "Provenance", text, folded=(listed,))


def _command(run: RunResult) -> Cell:
    """What makes the run again."""
    results = run.results
    words = ["evalsuite", "run", "--config", str(run.directory / "config.yaml")]
    if file := results["facts"].get("predictions_file"):
        words = ["evalsuite", "score", str(file), "--task", results["task"], "--name", results["method"]]
    return Cell(safe(shlex.join(words)), kind="code")


def system_value(results: Any, metric: str) -> float | None:
    """The metric of one run."""
    entry = results["metrics"]["summary"].get(metric) or {}
    value = entry.get("value")
    return None if value is None else float(value)


def _versions(packages: dict[str, Any]) -> str:
    names = ("torch", "transformers", "peft", "scikit-learn")
    return ", ".join(f"{name} {packages[name]}" for name in names if packages.get(name))
