"""``sweep`` and ``table``: many runs by one file, and what came of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN, registry_for
from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.registry import Registry
from evalsuite.sweep import Cell, Sweep, check, read_sweep, resolve_cell, sweep_names

if TYPE_CHECKING:
    from evalsuite.engines.local import Finished

CELLS = "cells"  # the folder of configurations and logs within a sweep's folder of runs

commands = typer.Typer()


@commands.command("sweep")
def sweep(
    name: str = typer.Argument(help="A built-in sweep's name, or a YAML file; list them with: evalsuite ls sweeps"),
    assignments: list[str] = typer.Option(None, "--set", help="key=value, in place of the file's base; repeatable."),
    output_path: str = typer.Option(None, "--output-path", help="Folder for run directories (default: runs/NAME)."),
    jobs: int = typer.Option(1, "--jobs", min=1, help="Cells that run at the same time."),
    overwrite: str = typer.Option(None, "--overwrite", help="missing or always (default: missing)."),
    plugin: list[str] = PLUGIN,
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the cells; run nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout."),
) -> None:
    """Run every cell of a sweep file, each in a child process; complete cells are skipped, so it can be repeated."""
    planned = read_sweep(name, assignments or ())
    folder = Path(output_path or f"runs/{planned.name}")
    planned = _placed(planned, folder, overwrite, plugin)
    registry = registry_for(plugin)
    check(registry, planned)
    if dry_run:
        _print_cells(planned, as_json)
        return
    outcomes = _run(registry, planned, folder / CELLS, jobs)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        console.note(f"failed: {outcome.cell.title}: {outcome.problem}" + (f" ({outcome.log})" if outcome.log else ""))
    outcomes.sort(key=lambda outcome: planned.cells.index(outcome.cell))
    if as_json:
        console.out(json.dumps([_entry(outcome) for outcome in outcomes], ensure_ascii=False))
    else:
        counts = {state: sum(outcome.state == state for outcome in outcomes) for state in ("done", "there")}
        console.out(f"{counts['done']} cells done, {counts['there']} complete before, {len(failed)} failed: {folder}")
    if failed:
        raise EvalsuiteError(f"{len(failed)} of {len(outcomes)} cells failed; the same command tries them again")


def _placed(planned: Sweep, folder: Path, overwrite: str | None, plugins: Sequence[str] | None) -> Sweep:
    """The sweep with where its runs go, and how, in every cell."""
    more: dict[str, Any] = {"output_path": str(folder)}
    if overwrite is not None:
        if overwrite == "never":
            raise UsageError("--overwrite never has no meaning in a sweep, which skips what is complete")
        more["overwrite"] = overwrite
    if plugins:
        more["plugins"] = list(plugins)
    return replace(planned, cells=tuple(replace(cell, values={**cell.values, **more}) for cell in planned.cells))


def _print_cells(planned: Sweep, as_json: bool) -> None:
    if as_json:
        console.out(json.dumps([dict(cell.values) for cell in planned.cells], ensure_ascii=False))
        return
    if planned.about:
        console.out(planned.about)
    rows = [(str(number), cell.title) for number, cell in enumerate(planned.cells, 1)]
    console.table(("cell", "varied"), rows, right=("cell",))


def _run(registry: Registry, planned: Sweep, folder: Path, jobs: int) -> list[Finished]:
    from evalsuite.engines.local import run_cells

    outcomes: list[Finished] = []
    with console.Bars().bar(f"sweep {planned.name}", len(planned.cells), "cells") as advance:

        def report(outcome: Finished) -> None:
            outcomes.append(outcome)
            console.note(f"[{len(outcomes)}/{len(planned.cells)}] {outcome.cell.title}: {_line(outcome)}")
            advance(1)

        run_cells(_waiting(registry, planned, report), folder, jobs, report)
    return outcomes


def _waiting(registry: Registry, planned: Sweep, report: Callable[[Finished], None]) -> Iterator[Cell]:
    """The cells that have yet to run; those that are complete, or cannot be prepared, are reported at once."""
    from evalsuite.engines.local import Finished
    from evalsuite.preparation import prepare
    from evalsuite.store import open_run

    for cell in planned.cells:
        try:
            prepared = prepare(registry, *resolve_cell(registry, planned, cell))
            complete = prepared.directory.complete and prepared.spec.overwrite != "always"
            results = open_run(prepared.directory.final).results if complete else None
        except EvalsuiteError as error:
            report(Finished(cell, "failed", problem=f"error: {error}"))
            continue
        if results is None:
            yield cell
        else:
            report(Finished(cell, "there", results))


@commands.command("table")
def table(
    sources: list[str] = typer.Argument(help="A sweep's name or file, or run directories and folders of them."),
    rows: str = typer.Option(None, "--rows", help="Options that head the rows, a,b (default: those that differ)."),
    columns: str = typer.Option(None, "--columns", help="What is printed of each row, a,b: see the guide."),
    spread: str = typer.Option(None, "--spread", help="An option over whose values mean, worst and best are told."),
    reach: float = typer.Option(None, "--reach", help="The score that the column epochs_to looks for."),
    output_path: str = typer.Option(None, "--output-path", help="Folder of the sweep's runs (default: runs/NAME)."),
    as_markdown: bool = typer.Option(False, "--markdown", help="Print Markdown."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print one row for all runs that differ in the seed alone, from the results of finished runs."""
    from evalsuite.report.table import Settings, make_table, markdown
    from evalsuite.selection import select_runs

    sweeps = [read_sweep(source) for source in sources if _is_sweep(source)]
    given = {"rows": _words(rows), "columns": _words(columns), "spread": spread, "reach": reach}
    # Of several sweeps, the first decides how the table looks.
    settings = {**(sweeps[0].table if sweeps else {}), **{name: value for name, value in given.items() if value}}
    order = {key.rpartition(".")[2]: values for sweep in sweeps for key, values in sweep.values_of.items()}
    places = [output_path or f"runs/{Path(source).stem}" if _is_sweep(source) else source for source in sources]
    made = make_table(select_runs(places), Settings(**settings, order=order))
    if made.superseded:
        console.note(f"older runs of the same options and seed, left out: {made.superseded}")
    if as_json:
        spread_values = made.spread.values if made.spread else None
        console.out(json.dumps({"rows": made.main.values, "spread": spread_values}, ensure_ascii=False))
    elif as_markdown:
        flags = {"--rows": rows, "--columns": columns, "--spread": spread, "--reach": reach}
        flags |= {"--output_path": output_path}
        words = [word for flag, value in flags.items() if value for word in (flag, str(value))]
        command = shlex.join(["evalsuite", "table", *sources, *words, "--markdown"])
        console.out(markdown(made, command, " ".join(sweep.about for sweep in sweeps)))
    else:
        for grid in filter(None, (made.main, made.spread)):
            console.table(grid.columns, grid.rows, right=grid.numeric)
        console.note(made.origin)


def _is_sweep(source: str) -> bool:
    """A folder of runs is named by its path; any other word is meant as a sweep, known or misspelt."""
    return source in sweep_names() or source.endswith((".yaml", ".yml")) or not Path(source).is_dir()


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _line(outcome: Finished) -> str:
    if outcome.results is None:
        return f"failed after {outcome.seconds:.0f} s"
    primary = outcome.results["primary_metric"]
    value = outcome.results["metrics"]["summary"][primary]["value"]
    when = f"in {outcome.seconds:.0f} s" if outcome.state == "done" else "(complete before)"
    return f"{primary} {'-' if value is None else format(value, '.4f')} {when}"


def _entry(outcome: Finished) -> dict[str, Any]:
    results = outcome.results or {}
    primary = results.get("primary_metric")
    return {
        "cell": dict(outcome.cell.values),
        "state": outcome.state,
        "run_id": results.get("run_id"),
        "primary_metric": primary,
        "value": results["metrics"]["summary"][primary]["value"] if results else None,
        "seconds": round(outcome.seconds, 1),
        "problem": outcome.problem or None,
        "log": str(outcome.log) if outcome.log else None,
    }
