"""GPUs are counted without torch, and every job gets one of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from evalsuite.engines import gpus
from evalsuite.engines.gpus import environments, visible_gpus
from evalsuite.errors import UsageError

LISTED = """GPU 0: NVIDIA A100 (UUID: GPU-1)
  MIG 1g.5gb Device 0: (UUID: MIG-1)
GPU 1: NVIDIA A100 (UUID: GPU-2)
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi that lists two GPUs."""
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] || exit 9\ncat <<'EOF'\n{LISTED}EOF\n", encoding="utf-8")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return command


def test_nvidia_smi_lists_them(smi: Path) -> None:
    assert visible_gpus() == ["0", "1"]
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n", encoding="utf-8")
    assert visible_gpus() == []


@pytest.mark.parametrize(
    ("named", "expected"),
    [("", []), ("-1", []), ("1", ["1"]), ("2, GPU-5", ["2", "GPU-5"]), ("0,-1,1", ["0"]), ("0,,1", ["0"])],
)
def test_the_variable_comes_first(smi: Path, monkeypatch: pytest.MonkeyPatch, named: str, expected: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == expected


def test_a_machine_without_either_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []


def test_every_job_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [entry["CUDA_VISIBLE_DEVICES"] for entry in environments(2, ["0", "GPU-7", "2"])] == ["0", "GPU-7"]
    assert "CUDA_VISIBLE_DEVICES" not in environments(1, ["0", "1"])[0]  # one job may use all of them
    with pytest.raises(UsageError, match="--jobs 3: each job takes a GPU, and there are 2; use --jobs 2, or hide the"):
        environments(3, ["0", "1"])


@pytest.mark.parametrize(
    ("jobs", "given", "expected"), [(1, None, None), (2, None, "4"), (16, None, "1"), (2, "3", "3")]
)
def test_jobs_side_by_side_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, jobs: int, given: str | None, expected: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(gpus.os, "cpu_count", lambda: 8)
    found = environments(jobs, [])
    assert [entry.get("OMP_NUM_THREADS") for entry in found] == [expected] * jobs
