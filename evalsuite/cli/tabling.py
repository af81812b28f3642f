"""``table``: one row for all runs that differ in the seed alone."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import typer

from evalsuite.cli import console
from evalsuite.sweep import read_sweep, sweep_names

commands = typer.Typer()


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
    if made.trials:
        console.note(f"trials, which scored validation, left out: {made.trials}")
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
