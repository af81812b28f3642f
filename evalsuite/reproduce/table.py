"""Published figures beside ours: one row a figure, with the reason where there is no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from evalsuite.report.columns import interval
from evalsuite.report.grouping import group_runs
from evalsuite.reproduce.grid import Plan
from evalsuite.reproduce.published import Figure, System
from evalsuite.reproduce.quantities import QUANTITIES, Quantity, Values
from evalsuite.results import BUNDLED
from evalsuite.spec import RunResult
from evalsuite.store import digest_of
from evalsuite.sweep import Cell

State = Literal["run", "rehearsal", "failed", "not run"]


def key(cell: Cell) -> str:
    """What tells a cell from the others of all grids."""
    return digest_of(dict(cell.values))


@dataclass(frozen=True)
class Problem:
    """Why a cell has no run; ``failed`` is False where its model, or its teacher, was not to be had."""

    failed: bool
    reason: str
    log: Path | None = None


@dataclass(frozen=True)
class Row:
    """One published figure and ours.

    ours: a value for each average, or one under the empty name. interval: 95% over documents of an F1, macro.
    difference: ours minus what is published, or minus the nearest end of its range; ratio: the same by division, of
    what is no share of 1. within: the values that are within the tolerance, None where nobody named one. A rehearsal
    has none of the last three. models: what was run. notes: what to know of the runs.
    """

    figure: Figure
    state: State
    reason: str = ""
    ours: Values | None = None
    interval: Sequence[float] | None = None
    difference: Values | None = None
    ratio: float | None = None
    within: Sequence[str] | None = None
    models: Sequence[str] = ()
    notes: Sequence[str] = ()
    runs: Sequence[Path] = ()

    @property
    def quantity(self) -> Quantity:
        """How the figure is had and read."""
        return QUANTITIES[self.figure.quantity]


@dataclass(frozen=True)
class Findings:
    """What came of a plan: the run of every cell that has one, and why others have none, by the key of the cell."""

    plan: Plan
    runs: Mapping[str, RunResult]
    problems: Mapping[str, Problem]

    def of(self, system: System) -> list[RunResult]:
        """The runs of a system; a cell that has failed just now counts as without one, whatever was there before."""
        names = [key(cell) for cell in self.plan.cells(system)]
        failed = [name for name in names if name in self.problems and self.problems[name].failed]
        return [self.runs[name] for name in names if name in self.runs and name not in failed]

    def why_not(self, system: System) -> tuple[State, str]:
        """Why cells of a system have no run."""
        if absence := self.plan.absence(system):
            return "not run", absence
        found = [self.problems[name] for cell in self.plan.cells(system) if (name := key(cell)) in self.problems]
        if failed := [problem for problem in found if problem.failed]:
            return "failed", f"{failed[0].reason}" + (f" ({failed[0].log})" if failed[0].log else "")
        return "not run", found[0].reason if found else "not yet"


def make_rows(findings: Findings, tolerance: float | None = None) -> list[Row]:
    """One row for every figure of the plan's corpora. ``tolerance``: of F1 and other shares of 1."""
    figures = [figure for figure in findings.plan.paper.figures if figure.system.corpus in findings.plan.grids]
    return [_compared(_row(figure, findings), tolerance) for figure in figures]


def _row(figure: Figure, findings: Findings) -> Row:
    system, against = figure.system, figure.against
    for needed in filter(None, (system, against)):
        if not findings.of(needed):
            state, reason = findings.why_not(needed)
            return Row(figure, state, reason if needed is system else f"nothing to compare with: {reason}")
    own, other = findings.of(system), findings.of(against) if against else []
    groups = group_runs(own)[0]
    rehearsal = findings.plan.rehearsal or any(map(_is_toy, [*own, *other]))
    row = Row(
        figure,
        "rehearsal" if rehearsal else "run",
        models=list(dict.fromkeys(short_model(run.results["model"]) for run in own)),
        notes=[*_missing(system, findings), *([] if rehearsal else _cut(own))],
        runs=[run.directory for run in (*own, *other)],
    )
    ours = row.quantity.compute(groups, group_runs(other)[0])
    if ours is None:
        return replace(row, state="not run", reason="its runs do not tell")
    return replace(row, ours=ours, interval=interval(groups[0]) if figure.quantity == "f1" else None)


def _compared(row: Row, tolerance: float | None) -> Row:
    """The row with what tells it from the published figure; a rehearsal is compared with nothing."""
    figure, ours = row.figure, row.ours
    if row.state != "run" or ours is None or not figure.known:
        return row
    difference = {average: figure.off(value) for average, value in ours.items()}
    if row.quantity.share:
        # So that 0.860 and 0.85 differ by 0.01, which no binary fraction is.
        near = [name for name, value in difference.items() if tolerance is not None and abs(value) <= tolerance + 1e-9]
        return replace(row, difference=difference, within=None if tolerance is None else near)
    (value,) = ours.values()
    nearest = value - difference[""]
    return replace(row, difference=difference, ratio=value / nearest if nearest else None)


def _is_toy(run: RunResult) -> bool:
    """Whether a run is of the sample, or of the small model, that ship with the package."""
    return bool(run.results["data"]["synthetic"]) or run.results["model"] == BUNDLED


def _missing(system: System, findings: Findings) -> list[str]:
    cells, found = findings.plan.cells(system), findings.of(system)
    if len(found) == len(cells):
        return []
    state, reason = findings.why_not(system)
    return [f"{len(found)} of {len(cells)} runs; {state}: {reason}"]


def _cut(runs: Sequence[RunResult]) -> list[str]:
    """Which splits were not used whole, of the first run that says so."""
    for run in runs:
        used, whole = run.results["data"]["sizes"], run.results["data"]["full_sizes"]
        cut = [f"{used[name]:,} of {whole[name]:,} {name} documents" for name in whole if used[name] < whole[name]]
        if cut:
            return [", ".join(cut)]
    return []


def short_model(model: str | None) -> str:
    """A model's name; of a folder its last two parts."""
    if model is None:
        return "no model"
    return "/".join(Path(model).parts[-2:]) if Path(model).is_absolute() else model
