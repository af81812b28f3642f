"""What of a sweep is there already, and about how long the rest will take, told by finished runs alone.

No data and no model is read: a run counts as complete by its options and the code that made it. Running the sweep looks
at data and model files too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.config import RUN_FIELDS
from evalsuite.errors import StoreError
from evalsuite.identity import NOT_IDENTITY, code_version, options_identity
from evalsuite.opening import DEFAULT_TEMPLATE
from evalsuite.registry import Registry
from evalsuite.spec import RunSpec
from evalsuite.store import digest_of, find_runs, open_run
from evalsuite.sweep import Cell, Sweep, Tuning, resolve_cell, tuned, tunings
from evalsuite.tuning import choose

# Whose seconds grow with the documents that are scored; "calibrate" goes through part of validation.
SCORING = ("predict", "references")

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Forecast:
    """A cell, whether it is ``complete``, and the seconds it may take, None where no finished run tells.

    ``trials``: how many choose its options; ``trials_left`` of them are to be run, counted for the first of the cells
    that share them.
    """

    cell: Cell
    complete: bool
    seconds: float | None
    trials: int = 0
    trials_left: int = 0


def read_results(folder: Path) -> list[Results]:
    """What the runs below ``folder`` came to; those that cannot be read tell nothing."""
    found = []
    for directory in find_runs(folder):
        try:
            found.append(open_run(directory).results)
        except StoreError:  # a sweep runs such a cell again, and says then what is wrong
            continue
    return found


def forecast(registry: Registry, sweep: Sweep, runs: Sequence[Results]) -> list[Forecast]:
    """One forecast a cell, in their order. Raises: UsageError, as ``resolve_cell``."""
    known: dict[str, Results] = {}
    for results in runs:
        if results["identity"]["code"] == code_version():
            known[_asked_of_run(registry, results)] = results
    plan = {digest_of(dict(cell.values)): tuning for tuning in tunings(sweep) for cell in tuning.cells}
    seconds = _remembered(runs)
    found = []
    for cell in sweep.cells:
        tuning = plan.get(digest_of(dict(cell.values)))
        found.append(_forecast(registry, sweep, cell, tuning, (known, seconds)))
    return found


def _remembered(runs: Sequence[Results]) -> Callable[[RunSpec], float | None]:
    """:func:`about_seconds` by ``runs``, asked once for all requests of one size: a sweep has many cells and runs."""
    told: dict[tuple[Any, ...], float | None] = {}

    def seconds(spec: RunSpec) -> float | None:
        size = (spec.split, spec.limit, spec.train_limit, spec.train_size, spec.validation_limit)
        options = spec.method_options
        key = (spec.task, spec.method, options.get("model"), options.get("epochs"), *size)
        if key not in told:
            told[key] = about_seconds(spec, runs)
        return told[key]

    return seconds


def _forecast(
    registry: Registry,
    sweep: Sweep,
    cell: Cell,
    tuning: Tuning | None,
    seen: tuple[Mapping[str, Results], Callable[[RunSpec], float | None]],
) -> Forecast:
    known, about = seen
    left: list[RunSpec] = []
    if tuning is not None:
        specs = [resolve_cell(registry, sweep, trial)[0] for trial in tuning.trials]
        results = [known.get(_asked(registry, spec)) for spec in specs]
        if all(results):
            cell = tuned(cell, choose(registry, tuning.points, results))
        elif cell is tuning.cells[0]:
            left = [spec for spec, there in zip(specs, results, strict=True) if there is None]
    spec = resolve_cell(registry, sweep, cell)[0]
    complete = _asked(registry, spec) in known
    seconds = [about(request) for request in (*left, *([] if complete else [spec]))]
    return Forecast(
        cell,
        complete,
        None if None in seconds else sum(filter(None, seconds)),
        len(tuning.trials) if tuning else 0,
        len(left),
    )


def about_seconds(spec: RunSpec, runs: Iterable[Results]) -> float | None:
    """Median over the finished runs of the same task, method and model, scaled to the documents of ``spec``."""
    alike = [
        results
        for results in runs
        if (results["task"], results["method"]) == (spec.task, spec.method)
        and results["model"] == spec.method_options.get("model")
    ]
    return statistics.median(_scaled(spec, results) for results in alike) if alike else None


def _scaled(spec: RunSpec, results: Results) -> float:
    """Training by documents and epochs, scoring by documents; the rest as it was."""
    cost, data = results["cost"], results["data"]
    full, k = data["full_sizes"], len(results["labels"])
    train = min(full["train"], *_limits(spec.train_limit, spec.train_size and spec.train_size * k))
    scored = full["test"]
    if spec.split == "validation":
        scored = min(full["validation"], *_limits(spec.validation_limit)) / 2
    elif spec.limit is not None:
        scored = min(scored, spec.limit) if spec.limit >= 1 else scored * spec.limit
    epochs = spec.method_options.get("epochs", 1) / results["options"]["method"].get("epochs", 1)
    ratios = {"train": train / data["sizes"]["train"] * epochs / max(1, len(results["attempts"]))}
    ratios |= dict.fromkeys(SCORING, scored / max(1, results["metrics"]["counts"]["documents"]))
    phases = {
        name: entry["seconds"] for name, entry in cost.items() if isinstance(entry, Mapping) and "seconds" in entry
    }
    return float(sum(seconds * ratios.get(name, 1.0) for name, seconds in phases.items()))


def _limits(*given: int | None) -> list[float]:
    return [float("inf"), *(limit for limit in given if limit is not None)]


def _asked(registry: Registry, spec: RunSpec) -> str:
    """A hash of what a request asks for, as far as it can change the result."""
    return digest_of(
        {
            **{name: getattr(spec, name) for name in RUN_FIELDS if name not in NOT_IDENTITY},
            "split": spec.split,
            "tried": spec.tuning["tried"] if spec.tuning else None,
            "template": spec.template or DEFAULT_TEMPLATE,
            "task_options": spec.task_options,
            "decision_options": spec.decision_options,
            "method_options": options_identity(registry.method(spec.method), spec.method_options),
        }
    )


def _asked_of_run(registry: Registry, results: Results) -> str:
    """The same hash of a finished run's request; of a method that is not here, one that nothing equals."""
    identity, method = results["identity"], registry.methods.get(results["method"])
    if method is None:
        return ""
    return digest_of(
        {
            **{name: identity.get(name) for name in RUN_FIELDS if name not in NOT_IDENTITY},
            "split": results["split"],
            "tried": identity.get("tried"),
            "template": (results["prompt"] or {}).get("template") or DEFAULT_TEMPLATE,
            "task_options": results["options"]["task"],
            "decision_options": identity["decision_options"],
            "method_options": options_identity(method, results["options"]["method"]),
        }
    )
