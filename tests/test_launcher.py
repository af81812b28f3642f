"""One run over several processes, as ``torchrun`` or ``accelerate launch`` start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite.environment import LAUNCHER_VARIABLES, is_main_process, without_launcher

# What is registered first is done last.
ENDING = """
import atexit, torch
atexit.register(lambda: print("alone" if not torch.distributed.is_initialized() else "in a group"))
from evalsuite.llm.training.distributed import Processes
processes = Processes(torch.device("cpu"))
assert processes.count == len(set(processes.collect(processes.rank))) == 2
"""


def by_two_processes(*arguments: str) -> str:
    """What both print, after both ended well."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    child = subprocess.run(
        [*launcher, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return child.stdout


@pytest.mark.slow
def test_two_processes_make_one_run(tiny_llama: Path, tmp_path: Path) -> None:
    run = ["-m", "evalsuite", "run", "--task", "ag_news", "--method", "embedding", "--model", str(tiny_llama)]
    small = ["--train_limit", "40", "--limit", "20", "--epochs", "1", "--max_length", "64", "--json"]
    printed = by_two_processes(*run, *small, "--output_path", str(tmp_path))
    assert len(printed.splitlines()) == 1
    results = json.loads(printed)
    assert results["facts"]["processes"] == 2
    assert results["reload_check"]["passed"]
    assert [marker.parent.name for marker in tmp_path.rglob("COMPLETE")] == [results["run_id"]]


def test_processes_leave_each_other_before_they_end(tmp_path: Path) -> None:
    script = tmp_path / "ending.py"
    script.write_text(ENDING)
    printed = by_two_processes(str(script))
    assert printed.count("alone") == 2
    assert "in a group" not in printed


def test_a_child_of_a_launched_process_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("HF_HOME", "/somewhere")
    assert not is_main_process()
    kept = without_launcher()
    assert kept["HF_HOME"] == "/somewhere"
    assert not [name for name in kept if name.startswith((*LAUNCHER_VARIABLES, "TORCHELASTIC_"))]
