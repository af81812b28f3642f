"""Cost against the cells of a sweep: what the driver does beside the runs, and what reads the finished runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale.measuring import Curve, Inputs, Stage
from benchmarks.scale.runs import real_run, samples_of, write_copy
from evalsuite.preparation import prepare
from evalsuite.registry import Registry, build_registry
from evalsuite.sweep import Cell, Sweep, expand, resolve_cell
from evalsuite.sweep import check as check_sweep

SEEDS = 4


def content(size: int, inputs: Inputs) -> dict[str, Any]:
    """A sweep file of ``size`` cells, four seeds each."""
    return {
        "base": {"task": "ag_news", "method": "majority", "output_path": str(inputs.folder / f"runs-{size}")},
        "grid": {"smoothing": [1.0 + step for step in range(size // SEEDS)]},
        "seeds": SEEDS,
    }


def planned(size: int, inputs: Inputs) -> tuple[Registry, Sweep]:
    """What the driver starts from."""
    return build_registry(), expand("scale", content(size, inputs))


def write_runs(sizes: Sequence[int], inputs: Inputs) -> None:
    """A finished run at the place of every cell of every sweep."""
    run = real_run(inputs.folder / "real")
    samples = samples_of(run)
    for size in sizes:
        registry, sweep = planned(size, inputs)
        for number, cell in enumerate(sweep.cells):
            prepared = prepare(registry, *resolve_cell(registry, sweep, cell))
            identity = {"seed": cell.values["seed"], "smoothing": cell.values["smoothing"]}
            write_copy(run, samples, prepared.directory, number, **identity)


def plan(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Reading the file: its cells, and a check of every one."""
    registry, given = build_registry(), content(size, inputs)

    def work() -> Any:
        sweep = expand("scale", given)
        check_sweep(registry, sweep)
        return sweep

    return work


def dry_run(size: int, inputs: Inputs) -> Callable[[], Any]:
    """What is there already, and how long the rest will take."""
    from evalsuite.engines.forecast import forecast, read_results

    registry, sweep = planned(size, inputs)
    folder = inputs.folder / f"runs-{size}"
    return lambda: forecast(registry, sweep, read_results(folder))


def nothing_left(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The whole driver over a sweep that is complete: data read and result opened for each cell."""
    from evalsuite.engines.local import Unwatched
    from evalsuite.engines.sweeping import Settings, run_sweep

    class Quiet:
        def phase(self, title: str, cells: Sequence[Cell]) -> Unwatched:
            return Unwatched(lambda outcome: None)

    registry, sweep = planned(size, inputs)
    settings = Settings(inputs.folder / f"runs-{size}")

    def work() -> Any:
        outcomes = run_sweep(registry, sweep, settings, Quiet())
        if states := {outcome.state for outcome in outcomes} - {"there"}:
            raise RuntimeError(f"cells that should be complete are {states}: was the code changed meanwhile?")
        return outcomes

    return work


def draw_board(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The board drawn once; it is drawn a few times a second however many cells there are."""
    from rich.console import Console
    from rich.live import Live

    from evalsuite.cli.board import _LiveTable

    _, sweep = planned(size, inputs)
    live = Live(console=Console(file=io.StringIO(), force_terminal=True, width=120, height=40), auto_refresh=False)
    board = _LiveTable("scale", sweep.cells, live)
    return board.draw


def open_runs(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Finding the runs, checking their hashes, and putting seeds together."""
    from evalsuite.report.grouping import group_runs
    from evalsuite.selection import select_runs

    folder = str(inputs.folder / f"runs-{size}")
    return lambda: group_runs(select_runs([folder]))


def table(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The sweep's table: a row a system, with an interval."""
    from evalsuite.report.table import make_table
    from evalsuite.selection import select_runs

    runs = select_runs([str(inputs.folder / f"runs-{size}")])
    return lambda: make_table(runs)


def compare(size: int, inputs: Inputs) -> Callable[[], Any]:
    """All pairs of systems: paired bootstrap of 10,000 resamples, McNemar's tests, Holm."""
    from evalsuite.compare.comparison import compare_groups

    runs = open_runs(size, inputs)
    return lambda: compare_groups(runs()[0])


def page(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The report page, plots included."""
    from evalsuite.store import find_runs

    return page_of(find_runs(inputs.folder / f"runs-{size}"))


def page_of(directories: Sequence[Path]) -> Callable[[], Any]:
    """The page of these runs as HTML."""
    from evalsuite.report.page.assemble import make_page
    from evalsuite.report.page.render import html
    from evalsuite.store import open_run

    runs = [open_run(directory) for directory in directories]
    return lambda: html(make_page(runs, "evalsuite report"))


CURVE = Curve(
    name="cells",
    unit="cells",
    fixed=f"200 scored documents, {SEEDS} seeds a system",
    sizes=(8, 32, 128, 512),
    small=(4, 8),
    stages=(
        Stage("plan", plan),
        Stage("dry run", dry_run),
        Stage("driver, nothing left to run", nothing_left),
        Stage("draw the board once", draw_board),
        Stage("open the runs", open_runs),
        Stage("table", table),
        Stage("compare all pairs", compare),
        Stage("report page", page),
    ),
    before=write_runs,
)
