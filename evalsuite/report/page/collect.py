"""Puts runs in order for a page: one field of comparison a task and set of scored documents, its systems best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from evalsuite.compare.comparison import Comparison, compare_groups
from evalsuite.compare.titles import titles as full_titles
from evalsuite.errors import UsageError
from evalsuite.report.columns import interval
from evalsuite.report.grouping import Group, group_runs
from evalsuite.report.page.content import short, slug
from evalsuite.samples import Samples, documents_digest
from evalsuite.spec import RunResult
from evalsuite.store import digest_of

# What costs time or room is told of the best few only, and the page says so.
COMPARED = 12
DETAILED = 6
WITH_INTERVAL = 30
LONG = 36  # letters of a name from which on it is worth shortening

Interval = tuple[float, float]


@dataclass(frozen=True)
class System:
    """A group of runs that differ in the seed alone. ``number``: its place, from 0 for the best; it keeps its colour.

    mean: of the primary metric over seeds, None where no run has it. interval: 95% over documents, for these seeds.
    """

    number: int
    title: str
    group: Group
    mean: float | None
    interval: Interval | None

    @property
    def results(self) -> Mapping[str, Any]:
        """Of the first seed, for what all seeds share."""
        return self.group.runs[0].results

    @cached_property
    def samples(self) -> list[Samples]:
        """The scored documents of every seed."""
        return self.group.samples


@dataclass(frozen=True)
class Field:
    """All systems that scored the same documents of one task. ``name`` starts the names of its figures.

    comparison: of the best systems; None with the reason in ``problem``. superseded: runs left out for a newer one.
    """

    name: str
    title: str
    task: str
    metric: str
    higher_is_better: bool
    documents: int
    systems: tuple[System, ...]
    comparison: Comparison | None
    problem: str
    superseded: int

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """Of every run."""
        return [results for system in self.systems for results in system.group.results]

    @property
    def labels(self) -> list[str]:
        return list(self.systems[0].results["labels"])

    @property
    def multilabel(self) -> bool:
        return bool(self.systems[0].results["multilabel"])

    @property
    def best(self) -> tuple[System, ...]:
        """The few systems whose details are shown."""
        return self.systems[:DETAILED]


@dataclass(frozen=True)
class Family:
    """Systems that differ in one field alone, as (its value, system)."""

    title: str
    members: tuple[tuple[Any, System], ...]


def collect(runs: Sequence[RunResult]) -> list[Field]:
    """Sort ``runs`` into fields.

    Raises:
        StoreError: a run without a table of predictions.
    """
    alike: dict[str, list[RunResult]] = {}
    for run in runs:
        alike.setdefault(_documents_key(run), []).append(run)
    fields: list[Field] = []
    taken: set[str] = set()
    for members in sorted(
        alike.values(), key=lambda group: (group[0].results["task"], -_documents(group[0]), -len(group))
    ):
        name = slug(members[0].results["task"])
        name = next(
            trial for number in range(1, 10**6) if (trial := name if number == 1 else f"{name}-{number}") not in taken
        )
        taken.add(name)
        fields.append(_field(name, members))
    tasks = [field.task for field in fields]
    return [replace(field, title=_title(field)) if tasks.count(field.task) > 1 else field for field in fields]


def _title(field: Field) -> str:
    split = field.results[0].get("split", "test")
    return f"{field.task}, {field.documents:,} {split} documents"


def _documents(run: RunResult) -> int:
    return int(run.results["metrics"]["counts"]["documents"])


def _documents_key(run: RunResult) -> str:
    results = run.results
    asked = [results["task"], results["labels"], results["primary_metric"], results.get("split", "test")]
    return digest_of([*asked, documents_digest(run.directory)])


def _field(name: str, runs: Sequence[RunResult]) -> Field:
    groups, superseded = group_runs(runs)
    results = runs[0].results
    task, metric = results["task"], results["primary_metric"]
    better = results.get("higher_is_better", {}).get(task, {}).get("acc" if metric == "accuracy" else metric, True)
    groups = sorted(groups, key=lambda group: _rank(group.mean(metric), better))
    scored = [group for group in groups if group.mean(metric) is not None]
    comparison, problem = None, "one system alone has nothing to be compared with"
    if len(scored) > 1:
        try:
            comparison = compare_groups(scored[:COMPARED])
        except UsageError as error:
            problem = str(error)
    return Field(
        name=name,
        title=task,
        task=task,
        metric=metric,
        higher_is_better=better,
        documents=_documents(runs[0]),
        systems=tuple(_systems(groups, metric, comparison)),
        comparison=comparison,
        problem="" if comparison else problem,
        superseded=superseded,
    )


def _rank(mean: float | None, higher_is_better: bool) -> tuple[bool, float]:
    return mean is None, 0.0 if mean is None else -mean if higher_is_better else mean


def _systems(groups: Sequence[Group], metric: str, comparison: Comparison | None) -> list[System]:
    known = {id(system.group): system.interval for system in comparison.systems} if comparison else {}
    systems = []
    for number, (group, title) in enumerate(zip(groups, titles(groups), strict=True)):
        mean, bounds = group.mean(metric), known.get(id(group))
        if bounds is None and mean is not None and (number < WITH_INTERVAL or len(group.runs) == 1):
            found = interval(group)
            bounds = (found[0], found[1]) if found else None
        systems.append(System(number, title, group, mean, bounds))
    return systems


def titles(groups: Sequence[Group]) -> list[str]:
    """A name for each group, short enough for a table; what was cut short is told apart by a run's id.

    Where names are long, what most groups have is left out of them.
    """
    full = full_titles(groups)
    if max(map(len, full), default=0) > LONG:
        full = full_titles(list(map(partial(_unusual, groups), groups)))
    told = [short(title) for title in full]
    return [
        f"{title} ({group.runs[0].results['run_id'][:6]})" if told.count(title) > 1 else title
        for title, group in zip(told, groups, strict=True)
    ]


def _unusual(groups: Sequence[Group], group: Group) -> Group:
    """The group without the fields in which it is like most of ``groups``."""
    values = [other.fields for other in groups]
    kept = {
        name: value
        for name, value in group.fields.items()
        if name == "method" or 2 * sum(fields.get(name) == value for fields in values) <= len(values)
    }
    return replace(group, fields=kept)


def families(systems: Sequence[System], field: str) -> list[Family]:
    """Systems that differ in ``field`` alone, the best family first; a family has two values or more."""
    alike: dict[str, list[System]] = {}
    for system in systems:
        if system.group.fields.get(field) is not None and system.mean is not None:
            rest = {name: value for name, value in system.group.fields.items() if name != field}
            alike.setdefault(digest_of(rest), []).append(system)
    several = [members for members in alike.values() if len(members) > 1]
    if not several:
        return []
    names = titles([_without(members[0].group, field) for members in several])
    return [
        Family(title, tuple((system.group.fields[field], system) for system in members))
        for title, members in zip(names, several, strict=True)
    ]


def _without(group: Group, field: str) -> Group:
    return replace(group, fields={name: value for name, value in group.fields.items() if name != field})
