"""What a reader of a comparison must know beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evalsuite.report.grouping import Group
from evalsuite.spec import RunResult

Named = tuple[str, Group]
Results = Mapping[str, Any]


def warnings_of(systems: Sequence[Named]) -> tuple[str, ...]:
    """One sentence for everything that makes the systems' scores less comparable, or less worth, than they look."""
    flags: dict[str, Callable[[Results], Any]] = {
        "collapsed, they learned nothing": lambda results: (results.get("collapse") or {}).get("collapsed"),
        "are incomplete, documents without an answer count nowhere": lambda results: results.get("incomplete"),
        "failed the reload check": lambda results: results.get("reload_failed"),
    }
    return (
        *(["There is one system only: nothing to compare it with."] if len(systems) == 1 else []),
        *_synthetic(systems),
        *(line for told, flag in flags.items() for line in _flagged(systems, told, flag)),
        *_differing(systems, "tuned", lambda group: max(map(trials, group.results)), "{} trials"),
        *_differing(systems, "seeds", lambda group: len(group.runs), "{}"),
        *_no_common_seed(systems),
        *_machines(systems),
    )


def trials(results: Results) -> int:
    """How many trials chose the run's options on validation; 0 where nobody tuned."""
    return int((results.get("tuning") or {}).get("trials", 0))


def _synthetic(systems: Sequence[Named]) -> list[str]:
    made_up = any(results["data"]["synthetic"] for _, group in systems for results in group.results)
    return ["The documents are a synthetic sample: no score says anything about the real corpus."] if made_up else []


def _flagged(systems: Sequence[Named], told: str, flag: Callable[[Results], Any]) -> list[str]:
    return [
        f"{title}: {len(seeds)} of {len(group.runs)} runs {told} (seed {', '.join(seeds)})."
        for title, group in systems
        if (seeds := [str(results["seed"]) for results in group.results if flag(results)])
    ]


def _differing(systems: Sequence[Named], what: str, count: Callable[[Group], int], shown: str) -> list[str]:
    """A line where the systems differ in a count: which have how many."""
    having: dict[int, list[str]] = {}
    for title, group in systems:
        having.setdefault(count(group), []).append(title)
    if len(having) < 2:
        return []
    parts = [f"{shown.format(number)} for {', '.join(names)}" for number, names in sorted(having.items(), reverse=True)]
    advice = {"tuned": "Tuning budgets differ", "seeds": "Numbers of seeds differ"}[what]
    return [f"{advice}: {'; '.join(parts)}."]


def _no_common_seed(systems: Sequence[Named]) -> list[str]:
    seeds = [{results["seed"] for results in group.results} for _, group in systems]
    apart = [
        f"{systems[i][0]} and {systems[j][0]}"
        for i in range(len(seeds))
        for j in range(i + 1, len(seeds))
        if seeds[i].isdisjoint(seeds[j])
    ]
    return [f"No common seed, so no McNemar test: {'; '.join(apart)}."] if apart else []


def _machines(systems: Sequence[Named]) -> list[str]:
    """A line where models ran on different machines; what has no model does not use what a machine has."""
    having: dict[str, list[str]] = {}
    for title, group in systems:
        for results in group.results:
            if results.get("model"):
                gpus = sorted({gpu["name"] for gpu in results["environment"].get("gpu") or []})
                having.setdefault(", ".join(gpus) or "no GPU", []).append(title)
    parts = [f"{machine} for {', '.join(dict.fromkeys(titles))}" for machine, titles in sorted(having.items())]
    return [f"Costs are of different machines: {'; '.join(parts)}."] if len(parts) > 1 else []


def looks(runs: Sequence[RunResult], others: Iterable[RunResult] = ()) -> int:
    """How many runs, of ``runs`` and ``others``, scored the test split of the first: with each, the best is luckier.

    The split is told by task, split, labels, revision, the task's options and the number of documents, without reading
    the documents.
    """
    own = _scored_split(runs[0].results)
    return len({run.directory.resolve() for run in (*runs, *others) if _scored_split(run.results) == own})


def _scored_split(results: Results) -> tuple[Any, ...]:
    data, split = results["data"], results.get("split", "test")
    return (
        results["task"],
        split,
        results["labels"],
        data.get("revision"),
        results["options"]["task"],
        data["sizes"].get(split),
    )
