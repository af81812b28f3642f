"""Sweeps that tune, try again, and keep a base model: real processes, some of them stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalsuite.cli.app import main
from evalsuite.engines.local import Finished, run_cells
from evalsuite.engines.sweeping import base_model
from evalsuite.registry import build_registry
from evalsuite.store import find_runs, open_run
from evalsuite.sweep import Cell, expand

TESTS = Path(__file__).parent.parent
PLUGINS = [str(TESTS / "spy_plugin.py"), str(TESTS / "moody_plugin.py")]
FLAGS = [word for plugin in PLUGINS for word in ("--plugin", plugin)]
BASE = {"task": "words", "limit": 10}


def write(path: Path, **data: Any) -> Path:
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tuned sweep, and its finished runs."""
    folder = tmp_path_factory.mktemp("tuned")
    tune = {"trials": 3, "space": {"moody": {"known": [1, 3], "mood": ["good"]}}}
    cells = [{"method": "moody", "seeds": [5, 6]}, {"method": "majority"}]
    file = write(folder / "few.yaml", about="What it is.", base=BASE, cells=cells, tune=tune)
    main(["sweep", str(file), "--output-path", str(folder / "runs"), "--jobs", "2", *FLAGS])
    return file, folder / "runs"


def test_trials_score_validation_and_see_no_test_document(swept: tuple[Path, Path]) -> None:
    _, runs = swept
    trials = [open_run(path) for path in find_runs(runs / "trials")]
    assert len(trials) == 2  # the space has no more points
    for trial in trials:
        rows = list(map(json.loads, next(trial.directory.glob("samples_*")).read_text(encoding="utf-8").splitlines()))
        assert {row["split"] for row in rows} == {"validation"}
        assert {row["doc_id"].partition("-")[0] for row in rows} == {"validation"}
        assert trial.results["data"]["sizes"] == {"train": 30, "validation": 24, "test": 0}
        assert trial.results["metrics"]["counts"]["documents"] == len(rows) < 24
        assert (trial.results["split"], trial.results["seed"]) == ("validation", 5)
        assert trial.results["notices"][0].startswith("Split: scored on one half of the validation split")
        assert "## Result on the validation split" in (trial.directory / "README.md").read_text(encoding="utf-8")


def test_the_chosen_options_run_on_test_for_every_seed(swept: tuple[Path, Path]) -> None:
    _, runs = swept
    final = [open_run(path).results for path in find_runs(runs) if "trials" not in path.parts]
    tuned = [results for results in final if results["method"] == "moody"]
    assert sorted(results["seed"] for results in tuned) == [5, 6]
    for results in tuned:
        record = results["tuning"]
        assert (record["trials"], record["metric"], record["chosen"]) == (2, "f1_macro", {"known": 3, "mood": "good"})
        assert record["tried"] == [{"known": 1, "mood": "good"}, {"known": 3, "mood": "good"}]
        assert record["scores"][0] < record["scores"][1]
        assert results["split"] == "test"
        assert results["options"]["method"]["known"] == 3
        assert results["metrics"]["counts"]["documents"] == 10
    assert [results["tuning"] for results in final if results["method"] == "majority"] == [None]


def test_the_record_is_kept_where_a_complete_cell_is_skipped(cli: Callable[..., Any], swept: tuple[Path, Path]) -> None:
    file, runs = swept
    told = json.loads(cli("sweep", file, "--output-path", runs, *FLAGS, "--json").out)
    assert [entry["state"] for entry in told] == ["there"] * 3
    assert [entry["tuning"] and entry["tuning"]["chosen"]["known"] for entry in told] == [3, 3, None]
    told = json.loads(cli("sweep", file, "--output-path", runs, *FLAGS, "--dry-run", "--json").out)
    assert [(entry["complete"], entry["trials"]) for entry in told] == [(True, 2), (True, 2), (True, 0)]


def test_a_tuned_run_can_be_run_again_from_its_own_configuration(
    cli: Callable[..., Any], swept: tuple[Path, Path]
) -> None:
    directory = next(path for path in find_runs(swept[1]) if "__moody" in str(path) and "trials" not in path.parts)
    again = json.loads(cli("run", "--config", directory / "config.yaml", "--json").out)
    assert again["run_id"] == directory.name
    assert again["tuning"]["trials"] == 2


def test_tables_count_the_trials_and_leave_their_scores_out(cli: Callable[..., Any], swept: tuple[Path, Path]) -> None:
    file, runs = swept
    code, out, err = cli("table", file, "--output-path", runs)
    assert code == 0
    assert out.splitlines()[0].split()[:4] == ["method", "seeds", "f1_macro", "trials"]
    assert [line.split()[:4:3] for line in out.splitlines()[1:]] == [["moody", "2"], ["majority", "0"]]
    assert err.splitlines()[0] == "trials, which scored validation, left out: 2"
    told = cli("table", runs / "trials").err
    assert "validation documents of words" in told
    splits = [row["split"] for row in json.loads(cli("ls", "runs", "--output-path", runs, "--json").out)]
    assert sorted(splits) == ["test", "test", "test", "validation", "validation"]


def test_another_space_is_another_run(cli: Callable[..., Any], swept: tuple[Path, Path], tmp_path: Path) -> None:
    file, runs = swept
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    data["tune"]["space"]["moody"]["known"] = [3]
    other = write(tmp_path / "few.yaml", **data)
    told = json.loads(cli("sweep", other, "--output-path", runs, *FLAGS, "--dry-run", "--json").out)
    assert [(entry["complete"], entry["trials"], entry["trials_left"]) for entry in told] == [
        (False, 1, 0),
        (False, 1, 0),
        (True, 0, 0),
    ]
    assert all(entry["about_seconds"] >= 0 for entry in told)


def test_a_trial_that_diverges_counts_and_one_that_breaks_does_not(cli: Callable[..., Any], tmp_path: Path) -> None:
    tune = {"trials": 4, "space": {"moody": {"mood": ["diverges", "good"]}}}
    file = write(tmp_path / "a.yaml", base=BASE, cells=[{"method": "moody"}], tune=tune)
    (entry,) = json.loads(cli("sweep", file, "--output-path", tmp_path / "a", *FLAGS, "--json").out)
    assert entry["state"] == "done"
    assert entry["tuning"]["scores"][0] is None
    assert entry["tuning"]["chosen"] == {"mood": "good"}
    tune["space"]["moody"]["mood"] = ["good", "breaks"]
    file = write(tmp_path / "b.yaml", base=BASE, cells=[{"method": "moody"}, {"method": "majority"}], tune=tune)
    code, out, err = cli("sweep", file, "--output-path", tmp_path / "a", *FLAGS, "--json")
    broken, other = json.loads(out)
    assert (code, broken["state"], other["state"]) == (1, "failed", "done")
    assert broken["problem"].startswith("a trial failed, method=moody mood=breaks: error: unexpected RuntimeError")
    assert Path(broken["log"]).is_file()
    assert "failed: method=moody: a trial failed" in err


def test_failed_cells_are_tried_again_where_asked(cli: Callable[..., Any], tmp_path: Path) -> None:
    cells = [{"mood": "first_breaks"}, {"mood": "breaks"}]
    file = write(tmp_path / "odd.yaml", base={**BASE, "method": "moody"}, cells=cells)
    code, out, err = cli("sweep", file, "--output-path", tmp_path / "runs", *FLAGS, "--retry", "1", "--json")
    assert code == 1
    assert [entry["state"] for entry in json.loads(out)] == ["done", "failed"]
    states = [line.split(": ")[:2] for line in err.splitlines()[:4]]
    assert [head for head, _ in states] == [
        "[1/2] mood=first_breaks",
        "[2/2] mood=breaks",
        "[2/2] mood=first_breaks",
        "[2/2] mood=breaks",
    ]


@pytest.mark.parametrize("reuse", [False, True], ids=["child", "worker"])
def test_a_sweep_stopped_in_its_trials_goes_on(tmp_path: Path, reuse: bool) -> None:
    method = "heavy" if reuse else "moody"  # a worker is for methods that read a model
    tune = {"trials": 2, "space": {method: {"known": [1, 3]}}}
    base = {**BASE, "mood": "slow", "device": "cpu"}
    file = write(tmp_path / "slow.yaml", base=base, cells=[{"method": method}], tune=tune)
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "evalsuite", "sweep", str(file), "--output_path", str(runs), *FLAGS]
    command += ["--reuse-model"] * reuse
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as parent:
        deadline = time.monotonic() + 100
        while not list(runs.rglob("*.partial/begun")):
            assert parent.poll() is None, parent.communicate()
            assert time.monotonic() < deadline, "it never began"
            time.sleep(0.05)
        os.killpg(parent.pid, signal.SIGINT)
        _, err = parent.communicate(timeout=100)
    assert parent.returncode == 75, err
    assert err.splitlines()[-1].startswith("error: interrupted; what was running has been saved")
    assert len(list(runs.rglob("*.partial/marked"))) == 1
    assert find_runs(runs) == []
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=100)
    (entry,) = json.loads(again.stdout)
    assert (entry["state"], entry["tuning"]["chosen"]) == ("done", {"known": 3})
    assert len(find_runs(runs)) == 3


def numbers(outcomes: list[Finished]) -> list[Any]:
    return [
        None if one.results is None else [one.results[key] for key in ("run_id", "metrics", "decision", "calibration")]
        for one in outcomes
    ]


def test_cells_of_one_base_share_a_worker_and_one_that_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    def cells(place: str) -> list[Cell]:
        fixed = {**BASE, "method": "moody", "plugins": PLUGINS, "output_path": str(tmp_path / place)}
        options = [{"known": 1}, {"known": 2}, {"mood": "dies"}, {"known": 3}, {"mood": "breaks"}, {"seed": 1}]
        return [Cell({**fixed, **option}, option) for option in options]

    alone: list[Finished] = []
    run_cells(cells("alone"), tmp_path / "logs", 1, alone.append)
    shared: list[Finished] = []
    run_cells(cells("shared"), tmp_path / "logs2", 1, shared.append, base_of=lambda cell: "a base")
    assert numbers(shared) == numbers(alone)
    assert [outcome.state for outcome in shared] == ["done", "done", "failed", "done", "failed", "done"]
    assert (shared[2].code, shared[2].problem) == (9, alone[2].problem)
    assert (
        shared[4].problem
        == alone[4].problem
        == "error: unexpected RuntimeError: broken, as asked (--debug shows where)"
    )
    processes = [outcome.results["facts"]["process"] for outcome in shared if outcome.results]
    assert processes[0] == processes[1]
    assert len(set(processes)) == 3  # a new one after each failure
    assert len({outcome.results["facts"]["process"] for outcome in alone if outcome.results}) == 4
    # Each cell's log is its own, and says what a child's says.
    for one, other in zip(alone, shared, strict=True):
        assert one.log is not None
        assert other.log is not None
        assert other.log.read_text(encoding="utf-8") == one.log.read_text(encoding="utf-8")


def test_cells_share_a_process_by_their_base_where_their_method_is_known_to_leave_nothing_behind() -> None:
    registry = build_registry(PLUGINS)
    cells = [
        {"method": "embedding", "model": "bundled", "lora_r": 4},
        {"method": "embedding", "model": "bundled", "lora_r": 8, "seeds": 2},
        {"method": "embedding", "model": "bundled", "dtype": "bfloat16"},
        {"method": "tfidf"},
        {"method": "heavy"},
    ]
    sweep = expand("some", {"base": {"task": "words", "device": "cpu"}, "cells": cells})
    four, eight, again, rounded, *others = (base_model(registry, sweep, cell, None) for cell in sweep.cells)
    assert four == eight == again != rounded
    assert rounded
    assert others == ["", ""]
    assert [bool(base_model(registry, sweep, cell, True)) for cell in sweep.cells] == [True] * 4 + [False, True]
    assert [base_model(registry, sweep, cell, False) for cell in sweep.cells] == [""] * 6


def test_another_base_has_another_worker(tmp_path: Path) -> None:
    fixed = {**BASE, "method": "moody", "plugins": PLUGINS, "output_path": str(tmp_path / "runs")}
    cells = [Cell({**fixed, "known": known}, {"known": known}) for known in (1, 2, 3)]
    outcomes: list[Finished] = []
    run_cells(
        cells, tmp_path / "logs", 1, outcomes.append, base_of=lambda cell: "one" if cell.values["known"] < 3 else "two"
    )
    first, second, third = (outcome.results["facts"]["process"] for outcome in outcomes if outcome.results)
    assert first == second != third
