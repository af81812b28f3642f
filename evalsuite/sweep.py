"""A sweep file: what is held fixed, what is varied, over which seeds; expanded into the cells that run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from evalsuite.config import GROUPS, Layer, flatten, parse_assignment, read_yaml, resolve_layers
from evalsuite.contracts import MethodSpec, Task
from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.registry import Registry
from evalsuite.spec import RunSpec
from evalsuite.store import digest_of
from evalsuite.tuning import Point, Tune, read_tune

MOST_CELLS = 10_000
KEYS = ("about", "base", "grid", "cells", "seeds", "tune", "table")
TABLE_KEYS = ("rows", "columns", "spread", "reach")
TRIALS = "trials"  # the folder of trials within a sweep's folder of runs
LONGEST_NAME = 80  # characters: well under what file systems take


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. ``values``: as in a ``--config`` file; ``varied``: those that tell it from the others."""

    values: Mapping[str, Any]
    varied: Mapping[str, Any]

    @property
    def title(self) -> str:
        """For instance ``pooling=mean seed=1``."""
        return " ".join(f"{key}={_shown(value)}" for key, value in self.varied.items())

    @property
    def file_name(self) -> str:
        """The title as a file's name, the same for the same values."""
        kept = "".join(c if c.isalnum() or c in "=._-" else "_" for c in self.title)
        return f"{kept[:LONGEST_NAME]}-{digest_of(dict(self.values))[:8]}"


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and expanded. ``name`` names its folder of runs; ``table`` says how its table looks; ``tune``
    is None where every cell runs with its own options."""

    name: str
    about: str
    cells: tuple[Cell, ...]
    table: Mapping[str, Any]
    tune: Tune | None = None

    @property
    def values_of(self) -> dict[str, list[Any]]:
        """The values of every key that is varied, in the order of the cells."""
        found: dict[str, dict[str, Any]] = {}
        for cell in self.cells:
            for key, value in cell.varied.items():
                found.setdefault(key, {}).setdefault(digest_of(value), value)
        return {key: list(values.values()) for key, values in found.items()}


@dataclass(frozen=True)
class Tuning:
    """Cells that differ in the seed alone, and the trials that choose options for all of them.

    ``points``: the options of each of the ``trials``, which have the first seed of the ``cells``.
    """

    cells: tuple[Cell, ...]
    points: tuple[Point, ...]
    trials: tuple[Cell, ...]


def tunings(sweep: Sweep) -> list[Tuning]:
    """What has to be tuned, in the order of the cells; each trial scores validation, whatever limit its cells have."""
    if sweep.tune is None:
        return []
    alike: dict[str, list[Cell]] = {}
    for cell in sweep.cells:
        if str(cell.values.get("method")) in sweep.tune.space:
            alike.setdefault(digest_of({**cell.values, "seed": None}), []).append(cell)
    return [_tuning(tuple(cells), sweep.tune) for cells in alike.values()]


def _tuning(cells: tuple[Cell, ...], tune: Tune) -> Tuning:
    first = cells[0]
    fixed = {key: value for key, value in first.values.items() if key != "limit"}
    fixed |= {"split": "validation", "output_path": str(Path(str(fixed.get("output_path", "runs"))) / TRIALS)}
    heads = {key: value for key, value in first.varied.items() if key not in ("seed", "limit")}
    points = tuple(tune.points(str(first.values["method"])))
    return Tuning(cells, points, tuple(Cell({**fixed, **point}, {**heads, **point}) for point in points))


def tuned(cell: Cell, record: Mapping[str, Any]) -> Cell:
    """``cell`` with the options that a tuning chose, and the record of it."""
    return replace(cell, values={**cell.values, **record["chosen"], "tuning": dict(record)})


def sweep_names() -> list[str]:
    """The sweeps that ship with the package."""
    folder = resources.files("evalsuite.sweeps")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_sweep(name_or_file: str, assignments: Iterable[str] = ()) -> Sweep:
    """Read a built-in sweep or a YAML file.

    ``assignments`` are ``key=value`` texts that override its ``base``, and with ``seeds=5`` its seeds.

    Raises:
        UnknownNameError: no built-in sweep of that name, or a key that sweep files do not have.
        UsageError: a file that cannot be read, that expands to nothing or to over 10,000 cells, or contradicts itself.
    """
    if name_or_file.endswith((".yaml", ".yml")):
        path = Path(name_or_file)
        return expand(path.stem, read_yaml(path), assignments)
    if name_or_file not in sweep_names():
        raise UnknownNameError("sweep", name_or_file, sweep_names(), "or name a YAML file")
    with resources.as_file(resources.files("evalsuite.sweeps") / f"{name_or_file}.yaml") as path:
        return expand(name_or_file, read_yaml(path), assignments)


def expand(name: str, data: Mapping[str, Any], assignments: Iterable[str] = ()) -> Sweep:
    """Make a Sweep of the content of a file; see :func:`read_sweep`."""
    where = f"sweep {name}"
    _refuse_unknown("key", data, KEYS, where)
    given = dict(map(parse_assignment, assignments))
    common = _number(given.pop("seeds")) if "seeds" in given else data.get("seeds", [0])
    base = {**flatten(_mapping(data, "base", where)), **given}
    grid = {key: _values(key, value, where) for key, value in _mapping(data, "grid", where).items()}
    listed = _cells(data, where)
    settings = _mapping(data, "table", where)
    _refuse_unknown("table setting", settings, TABLE_KEYS, where)
    _refuse_clashes(base, grid, listed, where)
    if not grid and not listed:
        raise UsageError(f"{where} varies nothing: give it a grid, cells, or both")
    seeds = [_seeds(cell.get("seeds", common), where) for cell in listed or [{}]]
    combinations = 1
    for values in grid.values():
        combinations *= len(values)
    total = combinations * sum(map(len, seeds))
    if not total:
        raise UsageError(f"{where} expands to no cell: a list in its grid, or its seeds, is empty")
    if total > MOST_CELLS:
        raise UsageError(f"{where} expands to {total:,} cells; at most {MOST_CELLS:,} are allowed: split it")
    cells = tuple(_expanded(base, grid, listed or [{}], seeds))
    _refuse_twins(cells, where)
    methods = {str(cell.values.get("method")) for cell in cells}
    for key in filter(_owner, base):
        if _owner(key) not in methods:
            raise UnknownNameError("method", _owner(key), methods, f"{key} stands in the base of {where}")
    about = " ".join(str(data.get("about", "")).split())
    made = Sweep(name, about, cells, settings, read_tune(data.get("tune"), methods, where))
    _refuse_tuned_twice(made, where)
    return made


def _expanded(
    base: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    listed: Sequence[Mapping[str, Any]],
    seeds: Sequence[Sequence[int]],
) -> Iterator[Cell]:
    several = len({seed for own in seeds for seed in own}) > 1
    for cell, own in zip(listed, seeds, strict=True):
        overrides = flatten({key: value for key, value in cell.items() if key != "seeds"})
        for point in itertools.product(*grid.values()):
            varied = {**overrides, **dict(zip(grid, point, strict=True))}
            fixed = _base_of(base, varied.get("method", base.get("method")))
            for seed in own:
                shown = {**varied, "seed": seed} if several or not varied else varied
                yield Cell({**fixed, **varied, "seed": seed}, shown)


def _owner(key: str) -> str:
    """The method that ``bert.model`` is meant for alone; empty for a key that every cell takes."""
    name, dot, _ = key.partition(".")
    return name if dot and name not in GROUPS else ""


def _base_of(base: Mapping[str, Any], method: Any) -> dict[str, Any]:
    """What ``base`` holds for the cells of ``method``; its own values stand over those for all."""
    common = {key: value for key, value in base.items() if not _owner(key)}
    own = {key.partition(".")[2]: value for key, value in base.items() if _owner(key) == str(method)}
    return {**common, **own}


def resolve_cell(registry: Registry, sweep: Sweep, cell: Cell) -> tuple[RunSpec, Task, MethodSpec]:
    """The request of one cell, checked.

    Raises:
        UsageError: an unknown name, or a value that does not fit; the message begins with the cell.
    """
    try:
        return resolve_layers(registry, [Layer(f"sweep {sweep.name}", cell.values)])
    except UsageError as error:
        raise UsageError(f"cell {cell.title}: {error}") from None


def check(registry: Registry, sweep: Sweep) -> None:
    """Resolve every cell and trial, so that nothing runs where one of them cannot. Raises: UsageError, as
    ``resolve_cell``."""
    for cell in (*sweep.cells, *(trial for tuning in tunings(sweep) for trial in tuning.trials)):
        resolve_cell(registry, sweep, cell)


def _refuse_unknown(kind: str, given: Iterable[str], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise UnknownNameError(f"{kind} of a sweep file", str(key), known, f"in {where}")


def _refuse_clashes(
    base: Mapping[str, Any],
    grid: Mapping[str, Any],
    listed: Sequence[Mapping[str, Any]],
    where: str,
) -> None:
    """One value, one place: what the grid varies stands nowhere else, and seeds are named as such."""
    for place, keys in (("base", base), ("grid", grid), *(("cells", flatten(cell)) for cell in listed)):
        if "seed" in keys:
            raise UsageError(f"{where}: seed stands in its {place}; write seeds, a list or a count")
        if place != "grid" and (twice := sorted(set(grid) & set(keys))):
            raise UsageError(f"{where}: {twice[0]} is varied by its grid and stands in its {place} too; drop one")


def _refuse_twins(cells: Sequence[Cell], where: str) -> None:
    seen: set[str] = set()
    for cell in cells:
        key = digest_of(dict(cell.values))
        if key in seen:
            raise UsageError(f"{where}: cell {cell.title} is there twice")
        seen.add(key)


def _refuse_tuned_twice(sweep: Sweep, where: str) -> None:
    """What is tuned stands nowhere else, and what has to run stays within the same bounds as without trials."""
    for tuning in tunings(sweep):
        cell = tuning.cells[0]
        given = {key.rpartition(".")[2] for key in cell.values}
        if twice := sorted(key for key in tuning.points[0] if key.rpartition(".")[2] in given):
            raise UsageError(f"{where}: {twice[0]} is tuned, and stands in cell {cell.title} or its base too; drop one")
    total = len(sweep.cells) + sum(len(tuning.trials) for tuning in tunings(sweep))
    if total > MOST_CELLS:
        raise UsageError(f"{where} expands to {total:,} cells and trials; at most {MOST_CELLS:,} are allowed: split it")


def _mapping(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: {key} holds {type(value).__name__}, expected names and values")
    return {str(name): inner for name, inner in value.items()}


def _values(key: str, value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: {key} of its grid is {value!r}, expected a list of values")
    return value


def _cells(data: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    listed = data.get("cells") or []
    if not isinstance(listed, list) or not all(isinstance(cell, Mapping) for cell in listed):
        raise UsageError(f"{where}: cells must be a list, each with names and values")
    return [{str(key): value for key, value in cell.items()} for cell in listed]


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _seeds(value: Any, where: str) -> list[int]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return list(range(value))
    if isinstance(value, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in value):
        return value
    raise UsageError(f"{where}: seeds is {value!r}, expected a list of whole numbers, or how many")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
