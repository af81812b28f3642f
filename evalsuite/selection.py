"""Finished runs by the words of a command line: directories, folders, patterns and queries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evalsuite.errors import StoreError, UnknownNameError, nearest
from evalsuite.report.grouping import fields_of
from evalsuite.spec import RunResult
from evalsuite.store import MARKER, RESULTS, find_runs, open_run

log = logging.getLogger(__name__)


def select_runs(words: Sequence[str], output_path: str | Path = "runs") -> list[RunResult]:
    """The finished runs that ``words`` name, each once, in the order of the words and of the paths.

    A word is a run's directory, a folder of runs, a pattern that the shell has not expanded, such as ``runs/wipo__*``,
    or a condition ``field=value`` or ``field=one,other`` on an option of the run, by the names of ``fields_of``. All
    conditions must hold; they ask the runs that the other words name, or all below ``output_path`` if there are none.
    Hashes of results and scored documents are checked, those of the weights are not.

    Raises:
        StoreError: nothing was found, or a run is incomplete, of another schema, changed by hand or not evalsuite's. If
            there are conditions, which cannot be asked of such a run, it is left out with a line in the log instead.
        UnknownNameError: a condition on a field that none of the runs has.
    """
    conditions = [_condition(word) for word in words if _is_condition(word)]
    places = [word for word in words if not _is_condition(word)] or [str(output_path)]
    found = {directory.resolve(): directory for place in places for directory in _directories(place)}
    if not conditions:
        return [open_run(directory, verify="tables") for directory in found.values()]
    runs = _readable(found.values())
    matching = _matching(runs, conditions)
    if not matching:
        asked = " ".join(f"{name}={','.join(values)}" for name, values in conditions)
        hint = _values_there(runs, conditions) or f"list runs with: evalsuite ls runs --output_path {places[0]}"
        raise StoreError(f"none of {len(runs):,} finished runs in {', '.join(places)} has {asked}; {hint}")
    return [open_run(run.directory, verify="tables") for run in matching]


def _is_condition(word: str) -> bool:
    return "=" in word and not Path(word).exists()


def _condition(word: str) -> tuple[str, list[str]]:
    name, _, values = word.partition("=")
    return name.strip(), [value.strip() for value in values.split(",")]


def _directories(place: str) -> list[Path]:
    """The runs that a word names."""
    path = Path(place)
    if not path.exists() and any(sign in place for sign in "*?["):
        matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        directories = [directory for match in matches for directory in _below(match)]
    else:
        directories = _below(path)
    if not directories:
        raise StoreError(f"{place} holds no finished run; list runs with: evalsuite ls runs --output_path FOLDER")
    return directories


def _below(folder: Path) -> list[Path]:
    if folder.name in (MARKER, RESULTS) and folder.is_file():  # a pattern for files, expanded by the shell
        folder = folder.parent
    alone = (folder / MARKER).is_file()
    directories = [] if alone else find_runs(folder)
    # What looks like a run and is none is opened all the same: that tells what is wrong with it.
    looks_like_one = alone or (folder / RESULTS).is_file() or (folder / "config.yaml").is_file()
    return [folder] if looks_like_one and not directories else directories


def runs_below(output_path: str | Path) -> list[RunResult]:
    """All finished runs below a folder; those that cannot be read are left out with a line in the log."""
    return _readable(find_runs(output_path))


def _readable(directories: Iterable[Path]) -> list[RunResult]:
    runs = []
    for directory in directories:
        try:
            runs.append(open_run(directory))
        except StoreError as error:
            log.warning("left out: %s", error)
    return runs


def _matching(runs: Sequence[RunResult], conditions: Sequence[tuple[str, Sequence[str]]]) -> list[RunResult]:
    fields = [fields_of(run.results) for run in runs]
    known = dict.fromkeys(name for own in fields for name in own)
    for name, _ in conditions:
        if known and name not in known:
            raise UnknownNameError("field", name, known)
    return [
        run
        for run, own in zip(runs, fields, strict=True)
        if all(name in own and any(_same(own[name], value) for value in values) for name, values in conditions)
    ]


def _values_there(runs: Sequence[RunResult], conditions: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The values near those of the first condition that no run meets; nothing where each is met by some run."""
    for name, values in conditions:
        if not _matching(runs, [(name, values)]):
            there = {str(fields_of(run.results)[name]) for run in runs if name in fields_of(run.results)}
            return f"{name}: {nearest(values[0], there)}"
    return ""


def _same(value: Any, asked: str) -> bool:
    """Whether an option has the value that was typed: ``2e-4`` is 0.0002, a model's folder may go by its last part."""
    if isinstance(value, bool):
        return asked.lower() == str(value).lower()
    if isinstance(value, int | float):
        try:
            return float(asked) == value
        except ValueError:
            return False
    return asked in (str(value), Path(str(value)).name)
