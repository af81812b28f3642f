"""Complete cells are skipped, students follow their teachers, and finished runs are found by what was asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from finished_runs import one_hot, results_of, samples_of

from evalsuite.engines import local
from evalsuite.engines.local import Finished
from evalsuite.errors import UsageError
from evalsuite.preparation import prepare
from evalsuite.registry import build_registry
from evalsuite.reproduce.grid import Plan, Request, make_plan
from evalsuite.reproduce.running import find, run_plan
from evalsuite.store import RESULTS, write_json, write_yaml
from evalsuite.sweep import Cell, resolve_cell

REGISTRY = build_registry()
SAMPLES = samples_of(one_hot([0, 1, 2]), one_hot([0, 1, 1]))


def finish(plan: Plan, cell: Cell, day: str = "2026-01-02") -> Finished:
    """Write the run directory that running the cell would leave."""
    grid = plan.grids[str(cell.values["task"])]
    prepared = prepare(REGISTRY, *resolve_cell(REGISTRY, grid.sweep, cell))
    results = results_of(SAMPLES, prepared.spec.seed, prepared.spec.method, {}, finished=f"{day}T00:00:00")
    results["run_id"] = prepared.directory.final.name
    with prepared.directory.claim() as workdir:
        write_json(workdir / RESULTS, results)
        write_yaml(workdir / "config.yaml", prepared.spec.to_dict())
        prepared.directory.finish()
    return Finished(cell, "done", results)


def ignore(outcome: Finished) -> None:
    pass


@pytest.fixture
def plan(tmp_path: Path, tiny_bert: Path) -> Plan:
    return make_plan(Request(only=("clv",), output_path=str(tmp_path), encoder=str(tiny_bert)))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> list[Cell]:
    """The cells that were run, at once and without a child; max pooling fails until it is taken out of ``broken``."""
    ran: list[Cell] = []

    def run_cells(cells: Iterable[Cell], folder: Path, jobs: int, report: Callable[[Finished], None]) -> None:
        for cell in cells:
            ran.append(cell)
            broken = cell.values.get("pooling") == "max"
            outcome = Finished(cell, "failed", problem="error: no memory", log=folder / "x.log")
            report(outcome if broken else finish(plan, cell))

    monkeypatch.setattr(local, "run_cells", run_cells)
    return ran


def test_a_grid_runs_once_and_students_after_their_teachers(plan: Plan, engine: list[Cell]) -> None:
    heard: list[Finished] = []
    findings = run_plan(REGISTRY, plan, 1, heard.append)
    assert [cell.values["method"] for cell in engine] == [
        *["embedding"] * 3,
        "instruction",
        "bert",
        "zero_shot",
        "distill",
    ]
    (teacher,) = findings.of(plan.paper.systems["clv-embedding"])
    assert engine[-1].values["teacher"] == str(teacher.directory)
    assert [outcome.state for outcome in heard].count("failed") == 1
    (problem,) = findings.problems.values()
    assert (problem.failed, problem.reason, problem.log) == (
        True,
        "error: no memory",
        Path(plan.grids["clv"].folder, "cells/x.log"),
    )
    assert len(findings.runs) == 6
    assert findings.of(plan.paper.systems["clv-distill"])

    engine.clear()
    heard.clear()
    again = run_plan(REGISTRY, plan, 1, heard.append)
    assert [cell.values["pooling"] for cell in engine] == ["max"]
    assert sorted(outcome.state for outcome in heard) == ["failed", *["there"] * 6]
    assert again.runs.keys() == findings.runs.keys()


def test_without_its_teacher_a_student_does_not_run(
    plan: Plan, engine: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "teacher", lambda self, cell: _max_pooling(self, cell))
    findings = run_plan(REGISTRY, plan, 1, ignore)
    assert "distill" not in [cell.values["method"] for cell in engine]
    assert findings.why_not(plan.paper.systems["clv-distill"]) == ("not run", "its teacher has no run")


def _max_pooling(plan: Plan, cell: Cell) -> object:
    return plan.paper.systems["clv-embedding-max"] if cell.values["method"] == "distill" else None


def test_a_model_that_is_not_to_be_had_is_no_failure(engine: list[Cell], tmp_path: Path) -> None:
    models = {"meta-llama/Llama-3.2-3B-Instruct": str(tmp_path / "nowhere")}
    sets = ["seeds=1"]
    plan = make_plan(Request(only=("wipo",), models=models, assignments=sets, output_path=str(tmp_path), encoder="x/y"))
    grid = plan.grids["wipo"]
    few = replace(grid, sweep=replace(grid.sweep, cells=tuple(plan.cells(plan.paper.systems["wipo-zero-shot"]))))
    heard: list[Finished] = []
    findings = run_plan(REGISTRY, replace(plan, grids={"wipo": few}), 1, heard.append)
    assert engine == []
    assert heard == []
    (problem,) = findings.problems.values()
    assert not problem.failed
    assert "nowhere" in problem.reason


def test_a_corpus_that_is_not_to_be_had_runs_nothing(engine: list[Cell], tmp_path: Path) -> None:
    findings = run_plan(REGISTRY, make_plan(Request("paper", only=("clv",), output_path=str(tmp_path))), 1, ignore)
    assert engine == []
    assert findings.problems == {}


def test_a_cell_that_cannot_be_resolved_stops_all_of_them(engine: list[Cell], tmp_path: Path) -> None:
    sets = ["instruction.epochs=none"]
    plan = make_plan(Request(only=("ag_news",), assignments=sets, output_path=str(tmp_path), encoder="x"))
    with pytest.raises(UsageError, match=r"cell .*epochs"):
        run_plan(REGISTRY, plan, 1, ignore)
    assert engine == []


def test_runs_are_found_by_their_requests_and_the_newest_counts(plan: Plan, tmp_path: Path) -> None:
    cells = plan.grids["clv"].sweep.cells
    finish(plan, cells[0], "2026-01-02")
    elsewhere = make_plan(Request(only=("clv",), output_path=str(tmp_path), assignments=["limit=7"], encoder="x"))
    finish(elsewhere, elsewhere.grids["clv"].sweep.cells[0])  # another request
    found = find(REGISTRY, plan).runs
    assert len(found) == 1
    older = next(iter(found.values())).directory
    newer = older.with_name("newer")
    older.rename(newer)
    finish(plan, cells[0], "2026-01-01")
    assert [run.directory for run in find(REGISTRY, plan).runs.values()] == [newer]
