"""Row 8 at a tiny size: both sides have one statistic and one distribution, and the check sees a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bootstrap as row
from benchmarks.harness import Options
from benchmarks.ours import bootstrap as ours
from benchmarks.peers import sklearn_f1


@pytest.fixture
def job(tmp_path: Path) -> Path:
    row.prepare(tmp_path, Options(small=True))
    return tmp_path


@pytest.fixture
def outputs(job: Path) -> dict[str, dict[str, Any]]:
    return {
        row.OURS: ours.setup(job, {"resamples": 2000})(),
        row.PEER: sklearn_f1.setup(job, {"resamples": 50})(),
    }


def test_both_sides_have_the_same_statistic_and_distribution(job: Path, outputs: dict[str, dict[str, Any]]) -> None:
    assert [check.ok for check in row.check(job, outputs)] == [True] * 3
    assert row.floor(job, outputs).seconds > 0


def test_another_statistic_and_another_distribution_are_seen(job: Path, outputs: dict[str, dict[str, Any]]) -> None:
    outputs[row.PEER]["f1"] = outputs[row.PEER]["f1"] + 1e-9
    middle = np.median(outputs[row.OURS]["f1"])
    outputs[row.OURS]["f1"] = middle + 1.5 * (outputs[row.OURS]["f1"] - middle)
    same, _, distribution = row.check(job, outputs)
    assert not same.ok
    assert not distribution.ok
