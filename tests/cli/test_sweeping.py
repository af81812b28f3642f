"""``sweep`` and ``table``: real child processes, one of them stopped and gone on with."""

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
from evalsuite.engines import local, processes
from evalsuite.engines.local import Finished, run_cells
from evalsuite.store import find_runs
from evalsuite.sweep import Cell

SPY = Path(__file__).parent.parent / "spy_plugin.py"
FEW = {"task": "ag_news", "limit": 40, "train_limit": 60}
# Trains until it is asked to stop, once; saves that it was asked, and goes on from there.
PATIENT = """
import time
from pathlib import Path
import numpy as np
from evalsuite import MethodSpec, Options, Scores
from evalsuite.errors import Interrupted
from evalsuite.llm.training.interrupts import stop_on_signal

class Patient:
    def __init__(self, config, ctx):
        self.ctx = ctx
    def fit(self, train, validation):
        saved = self.ctx.workdir / "saved"
        if not saved.exists():
            with stop_on_signal() as request:
                (self.ctx.workdir / "begun").touch()
                for _ in range(2000):
                    if request.asked:
                        break
                    time.sleep(0.01)
            saved.touch()
            raise Interrupted("saved")
        self.ctx.facts["gone_on"] = True
    def predict(self, texts):
        logits = np.zeros((len(texts), len(self.ctx.labels)), np.float32)
        return Scores(logits=logits, status=["ok"] * len(texts))
    def save(self, directory):
        pass

def load(directory, config, ctx):
    return Patient(config, ctx)

def evalsuite_register_methods():
    return [MethodSpec("patient", Patient, load, Options)]
"""


def write(path: Path, **data: Any) -> Path:
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def entries(out: str) -> list[Any]:
    found: list[Any] = json.loads(out)
    return [(entry["cell"]["method"], entry["cell"]["seed"], entry["state"]) for entry in found]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sweep file of three cells, and its finished runs."""
    folder = tmp_path_factory.mktemp("sweep")
    cells = [{"method": "tfidf"}, {"method": "majority", "seeds": 2}]
    file = write(folder / "few.yaml", about="What it is.", base=FEW, cells=cells, table={"columns": ["f1_macro"]})
    main(["sweep", str(file), "--output_path", str(folder / "runs"), "--jobs", "2"])
    return file, folder / "runs"


def test_every_cell_is_a_run_with_a_configuration_and_a_log(swept: tuple[Path, Path]) -> None:
    _, runs = swept
    assert len(find_runs(runs)) == 3
    kept = sorted(path.name.rpartition("-")[0] for path in (runs / "cells").iterdir())
    assert kept == sorted(["method=majority_seed=0", "method=majority_seed=1", "method=tfidf_seed=0"] * 2)
    assert all("synthetic sample" in log.read_text(encoding="utf-8") for log in (runs / "cells").glob("*.log"))


def test_complete_cells_are_skipped(cli: Callable[..., Any], swept: tuple[Path, Path], monkeypatch: Any) -> None:
    file, runs = swept
    monkeypatch.setattr(local, "Child", lambda *arguments: pytest.fail("a complete cell was started"))
    code, out, err = cli("sweep", file, "--output_path", runs, "--json")
    assert code == 0
    assert entries(out) == [("tfidf", 0, "there"), ("majority", 0, "there"), ("majority", 1, "there")]
    assert [line.split("] ")[1] for line in err.splitlines()][1].startswith("method=majority seed=0: f1_macro 0.")
    assert all(entry["value"] > 0 and entry["run_id"] for entry in json.loads(out))


def test_a_dry_run_runs_nothing(cli: Callable[..., Any], swept: tuple[Path, Path], tmp_path: Path) -> None:
    file, _ = swept
    code, out, _ = cli("sweep", file, "--output_path", tmp_path / "new", "--dry_run")
    assert code == 0
    assert [line.split(maxsplit=1)[1] for line in out.splitlines()[2:-1]] == [
        "method=tfidf seed=0     unknown",
        "method=majority seed=0  unknown",
        "method=majority seed=1  unknown",
    ]
    assert out.splitlines()[-1] == "0 of 3 cells complete; 3 of unknown length"
    entries = json.loads(cli("sweep", file, "--set", "limit=20", "--dry_run", "--json").out)
    assert [entry["cell"]["limit"] for entry in entries] == ["20"] * 3
    assert not (tmp_path / "new").exists()


def test_a_dry_run_tells_what_is_complete_and_about_how_long_the_rest_takes(
    cli: Callable[..., Any], swept: tuple[Path, Path]
) -> None:
    file, runs = swept
    assert cli("sweep", file, "--output_path", runs, "--dry_run").out.endswith("3 of 3 cells complete\n")
    told = json.loads(cli("sweep", file, "--output_path", runs, "--dry_run", "--json").out)
    assert [(entry["complete"], entry["about_seconds"]) for entry in told] == [(True, 0)] * 3
    told = json.loads(cli("sweep", file, "--output_path", runs, "--set", "seeds=3", "--dry_run", "--json").out)
    assert [entry["complete"] for entry in told] == [True, False, False, True, True]
    assert told[1]["about_seconds"] > 0


def test_a_failed_cell_is_reported_and_the_others_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    cells = [{"break_in": "fit"}, {"break_in": ""}, {"bias": 1.0, "task.test": 0}]
    file = write(tmp_path / "odd.yaml", base={"task": "words", "method": "spy"}, cells=cells)
    code, out, err = cli("sweep", file, "--output_path", tmp_path / "runs", "--plugin", SPY, "--json")
    assert code == 1
    broken, good, empty = json.loads(out)
    assert [entry["state"] for entry in (broken, good, empty)] == ["failed", "done", "failed"]
    assert broken["problem"].startswith("error: unexpected RuntimeError: broken in fit")
    assert broken["problem"] in Path(broken["log"]).read_text(encoding="utf-8")
    assert "the test split is empty" in empty["problem"]
    assert "failed: break_in=fit: error: unexpected RuntimeError" in err
    assert err.splitlines()[-1] == "error: 2 of 3 cells failed; the same command tries them again"


def test_a_request_that_cannot_work_runs_no_cell(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "odd.yaml", base=FEW, cells=[{"method": "majority"}, {"method": "tfidf", "ngram": 2}])
    code, _, err = cli("sweep", file, "--output_path", tmp_path / "runs")
    assert code == 2
    assert err.startswith("error: cell method=tfidf ngram=2: unknown option 'ngram'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_lets_its_children_save_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    plugin = tmp_path / "patient.py"
    plugin.write_text(PATIENT, encoding="utf-8")
    file = write(tmp_path / "slow.yaml", base=FEW, cells=[{"method": "majority"}, {"method": "patient"}])
    runs = tmp_path / "runs"
    command = [
        sys.executable,
        "-m",
        "evalsuite",
        "sweep",
        str(file),
        "--output_path",
        str(runs),
        "--plugin",
        str(plugin),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as parent:
        wait_for(lambda: list(runs.rglob("begun")), parent)
        # As a terminal does it: to the whole group of the command.
        os.killpg(parent.pid, number)
        _, err = parent.communicate(timeout=60)
    assert parent.returncode == 75
    assert err.splitlines()[-1] == "error: interrupted; what was running has been saved, and the same command goes on"
    assert len(list(runs.rglob("saved"))) == 1
    assert len(find_runs(runs)) == 1

    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=60)
    assert entries(again.stdout) == [("majority", 0, "there"), ("patient", 0, "done")]
    assert len(find_runs(runs)) == 2


def wait_for(ready: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.05)


def test_a_child_that_says_nothing_is_told_by_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.sys, "executable", "false")
    outcomes: list[Finished] = []
    run_cells([Cell({"task": "words"}, {"seed": 0})], tmp_path, 1, outcomes.append)
    assert (outcomes[0].state, outcomes[0].problem) == ("failed", "it ended with code 1 and said nothing")


def test_the_table_of_a_sweep(cli: Callable[..., Any], swept: tuple[Path, Path]) -> None:
    file, runs = swept
    code, out, _ = cli("table", file, "--output_path", runs)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [["method", "seeds"], ["tfidf", "1"], ["majority", "2"]]
    lines = cli("table", file, "--output_path", runs, "--columns", "accuracy,sd", "--markdown").out.splitlines()
    command = f"evalsuite table {file} --columns accuracy,sd --output_path {runs} --markdown"
    assert lines[0].startswith(f"Printed by `{command}` from 3 runs of evalsuite ")
    assert lines[2] == "What it is."
    assert lines[4] == "| method | seeds | accuracy | sd |"
    rows = json.loads(cli("table", *find_runs(runs), "--json").out)["rows"]
    assert {row["row"]["method"]: len(row["runs"]) for row in rows} == {"tfidf": 1, "majority": 2}
    assert json.loads(cli("table", runs, "--json").out)["rows"] == rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["poling"], "unknown sweep 'poling'; did you mean pooling"),
        (["pooling", "--output_path", "/nowhere"], "/nowhere holds no finished run"),
    ],
)
def test_a_table_of_nothing_is_an_error(cli: Callable[..., Any], arguments: list[str], message: str) -> None:
    outcome = cli("table", *arguments)
    assert outcome.code != 0
    assert message in outcome.err


def test_sweeps_are_listed(cli: Callable[..., Any]) -> None:
    rows = json.loads(cli("ls", "sweeps", "--json").out)
    assert {"pooling", "head_init", "methods_ag_news"} <= {row["sweep"] for row in rows}
    assert all(int(row["cells"]) and row["about"] for row in rows)
