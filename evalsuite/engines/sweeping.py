"""A whole sweep, top to bottom: trials first, then the cells with the options that the trials have chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from evalsuite.engines.local import Finished, Watcher, run_cells
from evalsuite.errors import EvalsuiteError, TrainingError
from evalsuite.preparation import loads_model, prepare
from evalsuite.registry import BUILT_IN, Registry
from evalsuite.store import digest_of, open_run
from evalsuite.sweep import Cell, Sweep, Tuning, resolve_cell, tuned, tunings
from evalsuite.tuning import choose

LOGS = "cells"  # the folder of configurations and logs within a sweep's folder of runs
# Options that decide what of a model is read, and how it is held.
BASE_OPTIONS = ("model", "load_in_4bit", "dtype", "attn_implementation", "trust_remote_code")


@dataclass(frozen=True)
class Settings:
    """How a sweep runs. ``jobs`` at a time; failed cells again up to ``retry`` times; ``reuse_model``: consecutive
    cells of one base model in one process that keeps it; None: those of methods that ship with evalsuite alone, which
    are known to leave nothing behind."""

    folder: Path
    jobs: int = 1
    retry: int = 0
    reuse_model: bool | None = None


class Phases(Protocol):
    """Watches a sweep: ``phase`` is asked before the trials, where there are some, and before the cells."""

    def phase(self, title: str, cells: Sequence[Cell]) -> Watcher: ...


def run_sweep(registry: Registry, sweep: Sweep, settings: Settings, phases: Phases) -> list[Finished]:
    """Run what is not complete yet; gives what came of every cell, in their order.

    Raises:
        Interrupted: SIGINT or SIGTERM came; what was running has been saved.
        UsageError: more jobs than GPUs.
        StoreError: the folder cannot be written.
    """
    plan = tunings(sweep)
    trials = list({_key(trial): trial for tuning in plan for trial in tuning.trials}.values())
    tried: dict[str, Finished] = {}
    if trials:
        tried = _run(registry, sweep, trials, settings, phases.phase(f"trials of sweep {sweep.name}", trials))
    places = _with_options(registry, sweep, plan, tried)
    shown = [place.cell if isinstance(place, Finished) else place for place in places]
    watcher = phases.phase(f"sweep {sweep.name}", shown)
    for place in places:
        if isinstance(place, Finished):
            watcher.finished(place)
    ready = [place for place in places if isinstance(place, Cell)]
    outcomes = _run(registry, sweep, ready, settings, watcher)
    return [place if isinstance(place, Finished) else outcomes[_key(place)] for place in places]


def _key(cell: Cell) -> str:
    return digest_of(dict(cell.values))


def _with_options(
    registry: Registry, sweep: Sweep, plan: Sequence[Tuning], tried: Mapping[str, Finished]
) -> list[Cell | Finished]:
    """The cells with the options that were chosen for them; one whose trials did not come to a choice has failed."""
    chosen: dict[str, Cell | Finished] = {_key(cell): cell for cell in sweep.cells}
    for tuning in plan:
        outcomes = [tried[_key(trial)] for trial in tuning.trials]
        choice = _choice(registry, tuning, outcomes)
        for cell in tuning.cells:
            chosen[_key(cell)] = replace(choice, cell=cell) if isinstance(choice, Finished) else tuned(cell, choice)
    return [chosen[_key(cell)] for cell in sweep.cells]


def _choice(registry: Registry, tuning: Tuning, outcomes: Sequence[Finished]) -> dict[str, Any] | Finished:
    """The record of a tuning, or the trial that is to blame for there being none.

    A trial whose training cannot go on, with a loss that is not finite say, is one that did badly. Any other failure
    says nothing of its options, and no choice is made without it.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        if outcome.code != TrainingError.exit_code or len(failed) == len(outcomes):
            which = "every trial failed, the first" if len(failed) == len(outcomes) else "a trial failed"
            return replace(outcome, seconds=0.0, problem=f"{which}, {outcome.cell.title}: {outcome.problem}")
    try:
        return choose(registry, tuning.points, [outcome.results for outcome in outcomes])
    except EvalsuiteError as error:
        return replace(outcomes[0], state="failed", results=None, problem=f"error: {error}")


@dataclass
class _Kept:
    """Keeps what came of each cell, the last time it was tried, and passes everything on."""

    watcher: Watcher
    outcomes: dict[str, Finished]

    def started(self, cell: Cell, log: Path) -> None:
        self.watcher.started(cell, log)

    def finished(self, outcome: Finished) -> None:
        self.outcomes[_key(outcome.cell)] = outcome
        self.watcher.finished(outcome)

    def tick(self) -> None:
        self.watcher.tick()


def _run(
    registry: Registry, sweep: Sweep, cells: Sequence[Cell], settings: Settings, watcher: Watcher
) -> dict[str, Finished]:
    """Run the cells that are not complete; those that fail once more, as often as ``retry`` says, after the others."""
    kept = _Kept(watcher, {})

    def base_of(cell: Cell) -> str:
        return base_model(registry, sweep, cell, settings.reuse_model)

    for _ in range(settings.retry + 1):
        run_cells(_waiting(registry, sweep, cells, kept.finished), settings.folder / LOGS, settings.jobs, kept, base_of)
        cells = [cell for cell in cells if kept.outcomes[_key(cell)].state == "failed"]
        if not cells:
            break
    return kept.outcomes


def base_model(registry: Registry, sweep: Sweep, cell: Cell, reuse: bool | None) -> str:
    """Which model a cell reads, in which precision and on which device; "" where it loads none, or where, for
    ``reuse``, see ``Settings``, it is to have a process of its own."""
    spec, _, method = resolve_cell(registry, sweep, cell)
    options = spec.method_options
    may = registry.owner("method", method.name) in BUILT_IN if reuse is None else reuse
    if not may or not loads_model(method, method.config.model_validate(options)):
        return ""
    return digest_of([spec.device, *(options.get(name) for name in BASE_OPTIONS)])


def _waiting(
    registry: Registry, sweep: Sweep, cells: Sequence[Cell], report: Callable[[Finished], None]
) -> Iterator[Cell]:
    """The cells that have yet to run; those that are complete, or cannot be prepared, are reported at once."""
    for cell in cells:
        try:
            prepared = prepare(registry, *resolve_cell(registry, sweep, cell))
            complete = prepared.directory.complete and prepared.spec.overwrite != "always"
            results = open_run(prepared.directory.final).results if complete else None
        except EvalsuiteError as error:
            report(Finished(cell, "failed", problem=f"error: {error}", code=error.exit_code))
            continue
        if results is None:
            yield cell
        else:
            report(Finished(cell, "there", results))
