"""Finished runs put together: those that differ in the seed alone are one group, one row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evalsuite.config import RUN_FIELDS
from evalsuite.errors import UsageError
from evalsuite.samples import Samples, difference, read_samples
from evalsuite.spec import RunResult
from evalsuite.store import digest_of

# Where rows have to be told apart, these are tried first.
FIRST_FIELDS = ("task", "method", "model")


@dataclass(frozen=True)
class Group:
    """Runs with the same ``fields``, one a seed, by seed. All scored the same test documents."""

    fields: Mapping[str, Any]
    runs: tuple[RunResult, ...]

    @property
    def results(self) -> list[Mapping[str, Any]]:
        return [run.results for run in self.runs]

    @property
    def primary(self) -> str:
        return str(self.runs[0].results["primary_metric"])

    def values(self, metric: str) -> list[float]:
        """The metric of every run that has it."""
        entries = [results["metrics"]["summary"].get(metric) for results in self.results]
        return [entry["value"] for entry in entries if entry is not None and entry["value"] is not None]

    def mean(self, metric: str) -> float | None:
        """The metric's mean over the runs that have it."""
        values = self.values(metric)
        return float(np.mean(values)) if values else None

    @cached_property
    def samples(self) -> list[Samples]:
        """The scored documents of every run.

        Raises:
            UsageError: two runs differ in their labels or test documents.
        """
        read = [read_samples(run.directory, run.results["labels"]) for run in self.runs]
        for run, samples in zip(self.runs, read, strict=True):
            if told := difference(read[0], samples):
                raise UsageError(f"{self.runs[0].directory} and {run.directory} share no row: {told}; run one again")
        return read


def of_one_split(runs: Sequence[RunResult]) -> tuple[list[RunResult], int]:
    """The runs that scored test, and how many were left out as trials on validation; where all are trials, all."""
    tested = [run for run in runs if run.results.get("split", "test") == "test"]
    return (tested, len(runs) - len(tested)) if tested else (list(runs), 0)


def fields_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a run that can change its result: run fields, ``template``, the method's and the decision's
    options by their names, what the method adds to the run's identity, how many ``trials`` chose them, the task's
    options as ``task.NAME``. Unset ones are left out."""
    identity, options = results["identity"], results["options"]
    prompt = results["prompt"] or {}
    fields = {
        **{name: identity.get(name) for name in RUN_FIELDS},
        "template": prompt.get("template"),
        **{name: options["method"].get(name) for name in ("model", *identity["method_options"])},
        **identity["decision_options"],
        **identity.get("more", {}),
        "trials": len(identity["tried"]) if "tried" in identity else None,
        **{f"task.{name}": value for name, value in options["task"].items()},
    }
    return {name: value for name, value in fields.items() if value is not None}


def group_runs(runs: Sequence[RunResult]) -> tuple[list[Group], int]:
    """Groups in the order of their first run, and how many runs were left out since a newer one of the same options
    and seed is there (the code, a template's or a data file's content has changed in between)."""
    newest: dict[str, RunResult] = {}
    for run in sorted(runs, key=lambda run: (run.results["finished"], str(run.directory))):
        newest[digest_of(fields_of(run.results))] = run
    grouped: dict[str, list[RunResult]] = {}
    for run in sorted(newest.values(), key=lambda run: run.results["seed"]):
        grouped.setdefault(digest_of(_without_seed(run)), []).append(run)
    return [Group(_without_seed(alike[0]), tuple(alike)) for alike in grouped.values()], len(runs) - len(newest)


def _without_seed(run: RunResult) -> dict[str, Any]:
    return {name: value for name, value in fields_of(run.results).items() if name != "seed"}


def row_fields(groups: Sequence[Group], named: Sequence[str] = ()) -> list[str]:
    """The fields that head the rows: the ``named`` ones, and as many of those that differ as tell all rows apart.

    Raises:
        UsageError: a named field that no run has.
    """
    known = list(dict.fromkeys(name for group in groups for name in group.fields))
    for name in named:
        if name not in (*known, *RUN_FIELDS, "template"):
            raise UsageError(f"no run has an option {name!r}; options that differ: {', '.join(_differing(groups))}")
    chosen = list(named)
    for name in _differing(groups):
        if name not in chosen and _distinct(groups, [*chosen, name]) > _distinct(groups, chosen):
            chosen.append(name)
    return chosen or ["task", "method"]


def _differing(groups: Sequence[Group]) -> list[str]:
    known = dict.fromkeys([*FIRST_FIELDS, *(name for group in groups for name in group.fields)])
    return [name for name in known if _distinct(groups, [name]) > 1]


def _distinct(groups: Sequence[Group], names: Sequence[str]) -> int:
    return len({digest_of([group.fields.get(name) for name in names]) for group in groups})


def sorted_groups(groups: Sequence[Group], rows: Sequence[str], order: Mapping[str, Sequence[Any]]) -> list[Group]:
    """By the row fields: values in the ``order`` given for a field, after those it does not name, by size or name."""

    def key(group: Group) -> tuple[Any, ...]:
        return tuple(_rank(group.fields.get(name), order.get(name, ())) for name in rows)

    return sorted(groups, key=key)


def _rank(value: Any, order: Sequence[Any]) -> tuple[int, float, str]:
    place = order.index(value) if value in order else -1
    number = float(value) if isinstance(value, int | float) else -np.inf
    return place, number, "" if value is None else str(value)
