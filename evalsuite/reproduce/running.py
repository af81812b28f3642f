"""Runs what is missing of a plan's cells, and finds the finished runs of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalsuite.config import read_yaml
from evalsuite.errors import EvalsuiteError, ModelError
from evalsuite.identity import options_identity
from evalsuite.registry import Registry
from evalsuite.reproduce.grid import Grid, Plan
from evalsuite.reproduce.table import Findings, Problem, key
from evalsuite.spec import RunResult
from evalsuite.store import digest_of, find_runs, open_run
from evalsuite.sweep import Cell, check, resolve_cell

if TYPE_CHECKING:
    from evalsuite.engines.local import Finished

LOGS = "cells"  # the folder of configurations and logs within a grid's folder of runs
# Where a run happens and is kept, and where its values came from, do not tell it from another.
PLACES = ("device", "output_path", "overwrite", "plugins", "origins")


def find(registry: Registry, plan: Plan, problems: Mapping[str, Problem] | None = None) -> Findings:
    """The newest complete run of every cell that has one, found by what was asked of it: no data and no model is read.

    Raises:
        StoreError: a run directory that was changed, or is of another version.
        UsageError: a cell that cannot be resolved.
    """
    found = {}
    for grid in plan.grids.values():
        newest: dict[str, RunResult] = {}
        runs = [open_run(directory) for directory in find_runs(grid.folder)]
        for run in sorted(runs, key=lambda run: str(run.results["finished"])):
            newest[_asked(registry, read_yaml(run.directory / "config.yaml"))] = run
        for cell in grid.sweep.cells:
            asked = _asked(registry, resolve_cell(registry, grid.sweep, cell)[0].to_dict())
            if asked in newest:
                found[key(cell)] = newest[asked]
    return Findings(plan, found, dict(problems or {}))


def _asked(registry: Registry, spec: Mapping[str, Any]) -> str:
    """A hash of a request: of what can change its result, by the paths of its data, but not of a teacher."""
    kept = {name: value for name, value in spec.items() if name not in PLACES}
    if method := registry.methods.get(str(spec.get("method"))):
        kept["method_options"] = options_identity(method, spec["method_options"])
    return digest_of(kept)


def run_plan(registry: Registry, plan: Plan, jobs: int, report: Callable[[Finished], None]) -> Findings:
    """Run every cell that has no complete run yet, students after their teachers; ``report`` hears of each.

    Raises:
        UsageError: a cell that cannot be resolved, before anything runs.
        Interrupted: SIGINT or SIGTERM came; what was running has been saved.
        StoreError: a folder cannot be written.
    """
    grids = [grid for grid in plan.grids.values() if not grid.absent]
    for grid in grids:
        check(registry, grid.sweep)
    problems: dict[str, Problem] = {}
    for grid in grids:
        teachers = {key(cell): teacher for cell in grid.sweep.cells if (teacher := plan.teacher(cell))}
        others = {key(cell): cell for cell in grid.sweep.cells if key(cell) not in teachers}
        problems |= _run(registry, grid, others, jobs, report)
        students = {key(cell): cell for cell in grid.sweep.cells if key(cell) in teachers}
        if students:
            found = find(registry, plan, problems)
            taught = {name: _taught(cell, found.of(teachers[name])) for name, cell in students.items()}
            problems |= {
                name: Problem(False, "its teacher has no run") for name, cell in taught.items() if cell is None
            }
            ready = {name: cell for name, cell in taught.items() if cell is not None}
            problems |= _run(registry, grid, ready, jobs, report)
    return find(registry, plan, problems)


def _run(
    registry: Registry, grid: Grid, cells: Mapping[str, Cell], jobs: int, report: Callable[[Finished], None]
) -> dict[str, Problem]:
    """Run ``cells``, by name; gives the problems by the same names."""
    from evalsuite.engines.local import run_cells

    names = {key(cell): name for name, cell in cells.items()}
    problems: dict[str, Problem] = {}

    def ended(outcome: Finished) -> None:
        if outcome.state == "failed":
            problems[names[key(outcome.cell)]] = Problem(True, outcome.problem, outcome.log)
        report(outcome)

    run_cells(_waiting(registry, grid, cells, ended, problems), grid.folder / LOGS, jobs, ended)
    return problems


def _waiting(
    registry: Registry,
    grid: Grid,
    cells: Mapping[str, Cell],
    report: Callable[[Finished], None],
    problems: dict[str, Problem],
) -> Iterator[Cell]:
    """The cells that have yet to run. Those that are complete or cannot be prepared are reported at once; that a model
    is not to be had, gated for instance, is a problem but no failure."""
    from evalsuite.engines.local import Finished
    from evalsuite.preparation import prepare

    for name, cell in cells.items():
        try:
            directory = prepare(registry, *resolve_cell(registry, grid.sweep, cell)).directory
        except ModelError as error:
            problems[name] = Problem(False, str(error))
        except EvalsuiteError as error:
            report(Finished(cell, "failed", problem=f"error: {error}"))
        else:
            if directory.complete:
                report(Finished(cell, "there", open_run(directory.final).results))
            else:
                yield cell


def _taught(student: Cell, teachers: Sequence[RunResult]) -> Cell | None:
    """The student with the directory of the teacher of its seed, None where that has no run."""
    runs = [run for run in teachers if run.results["seed"] == student.values["seed"]]
    return replace(student, values={**student.values, "teacher": str(runs[0].directory)}) if runs else None
