"""``sweep``: many runs by one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN, registry_for
from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.registry import Registry
from evalsuite.sweep import Sweep, check, read_sweep

if TYPE_CHECKING:
    from evalsuite.engines.forecast import Forecast
    from evalsuite.engines.local import Finished

commands = typer.Typer()


@commands.command("sweep")
def sweep(
    name: str = typer.Argument(help="A built-in sweep's name, or a YAML file; list them with: evalsuite ls sweeps"),
    assignments: list[str] = typer.Option(None, "--set", help="key=value, in place of the file's base; repeatable."),
    output_path: str = typer.Option(None, "--output-path", help="Folder for run directories (default: runs/NAME)."),
    jobs: int = typer.Option(1, "--jobs", min=1, help="Cells that run at the same time, each with a GPU of its own."),
    retry: int = typer.Option(0, "--retry", min=0, help="How often cells that failed are tried again."),
    reuse_model: bool = typer.Option(
        None,
        "--reuse-model/--no-reuse-model",
        help="Run consecutive cells of one base model in one process (default: for methods that ship with evalsuite).",
    ),
    overwrite: str = typer.Option(None, "--overwrite", help="missing or always (default: missing)."),
    plugin: list[str] = PLUGIN,
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Print the cells, which are complete, and about how long the rest takes; run nothing."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout."),
) -> None:
    """Run every cell of a sweep file in a child process; complete cells are skipped, so it can be repeated."""
    planned = read_sweep(name, assignments or ())
    folder = Path(output_path or f"runs/{planned.name}")
    planned = _placed(planned, folder, overwrite, plugin)
    registry = registry_for(plugin)
    check(registry, planned)
    if dry_run:
        _print_forecast(registry, planned, folder if output_path else folder.parent, as_json)
        return
    from evalsuite.cli.board import board
    from evalsuite.engines.sweeping import Settings, run_sweep

    with board() as shown:
        outcomes = run_sweep(registry, planned, Settings(folder, jobs, retry, reuse_model), shown)
    _print_outcomes(outcomes, folder, as_json)


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


def _print_outcomes(outcomes: Sequence[Finished], folder: Path, as_json: bool) -> None:
    """What came of the cells, the failed ones with what they said last.

    Raises:
        EvalsuiteError: some have failed.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        console.note(f"failed: {outcome.cell.title}: {outcome.problem}" + (f" ({outcome.log})" if outcome.log else ""))
    if as_json:
        console.out(json.dumps([_entry(outcome) for outcome in outcomes], ensure_ascii=False))
    else:
        counts = {state: sum(outcome.state == state for outcome in outcomes) for state in ("done", "there")}
        console.out(f"{counts['done']} cells done, {counts['there']} complete before, {len(failed)} failed: {folder}")
    if failed:
        raise EvalsuiteError(f"{len(failed)} of {len(outcomes)} cells failed; the same command tries them again")


def _entry(outcome: Finished) -> dict[str, Any]:
    results = outcome.results or {}
    primary = results.get("primary_metric")
    return {
        "cell": dict(outcome.cell.values),
        "state": outcome.state,
        "run_id": results.get("run_id"),
        "primary_metric": primary,
        "value": results["metrics"]["summary"][primary]["value"] if results else None,
        "tuning": results.get("tuning"),
        "seconds": round(outcome.seconds, 1),
        "problem": outcome.problem or None,
        "log": str(outcome.log) if outcome.log else None,
    }


def _print_forecast(registry: Registry, planned: Sweep, finished: Path, as_json: bool) -> None:
    """The cells, by the runs in ``finished``."""
    from evalsuite.engines.forecast import forecast, read_results

    found = forecast(registry, planned, read_results(finished))
    if as_json:
        console.out(json.dumps([_forecast_entry(entry) for entry in found], ensure_ascii=False))
        return
    if planned.about:
        console.out(planned.about)
    tuned = ["trials"] if planned.tune else []
    rows = [
        (str(number), entry.cell.title, *([str(entry.trials)] if tuned else []), _state(entry))
        for number, entry in enumerate(found, 1)
    ]
    console.table(("cell", "varied", *tuned, "to do"), rows, right=("cell", *tuned))
    left = [entry for entry in found if not entry.complete]
    known = [entry.seconds for entry in left if entry.seconds is not None]
    trials = sum(entry.trials_left for entry in found)
    parts = [f"{len(found) - len(left)} of {len(found)} cells complete"]
    parts += [f"{trials} trials to run first"] if trials else []
    parts += [f"the rest about {_about(sum(known))}, one at a time"] if known else []
    parts += [f"{len(left) - len(known)} of unknown length"] if len(left) > len(known) else []
    console.out("; ".join(parts))


def _state(entry: Forecast) -> str:
    if entry.complete:
        return "complete"
    trials = f", {entry.trials_left} trials first" if entry.trials_left else ""
    return ("unknown" if entry.seconds is None else f"about {_about(entry.seconds)}") + trials


def _about(seconds: float) -> str:
    """Two digits of what is no more than an estimate."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _forecast_entry(entry: Forecast) -> dict[str, Any]:
    return {
        "cell": dict(entry.cell.values),
        "complete": entry.complete,
        "about_seconds": None if entry.seconds is None else round(entry.seconds, 1),
        "trials": entry.trials,
        "trials_left": entry.trials_left,
    }
