"""The row of sweeps: both sides run the same cells, and runs that differ are seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import sweep
from benchmarks.harness import Options
from evalsuite.sweep import read_sweep

NOWHERE = ("output_path", "overwrite")


def told(values: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in values.items() if key not in NOWHERE}, sort_keys=True)


@pytest.mark.parametrize(("small", "cells"), [(True, 2), (False, 8)])
def test_both_sides_run_the_same_cells(tmp_path: Path, small: bool, cells: int) -> None:
    sweep.prepare(tmp_path, Options(small=small, data=tmp_path / "data"))
    planned = [told(dict(cell.values)) for cell in read_sweep(str(tmp_path / "cells.yaml")).cells]
    alone = [told(yaml.safe_load(path.read_text())) for path in sorted((tmp_path / "configs").iterdir())]
    assert planned == alone
    assert len(set(planned)) == cells


def write_run(folder: Path, name: str, accuracy: float = 0.5, predictions: str = "a") -> None:
    (folder / name).mkdir(parents=True)
    cost = {phase: {"seconds": 2.0} for phase in (*sweep.PHASES, "reload_check")}
    results = {"run_id": name, "metrics": {"accuracy": accuracy}, "decision": {}, "calibration": {}, "cost": cost}
    results["reload_check"] = {"passed": True}
    (folder / name / "results.json").write_text(json.dumps(results))
    (folder / name / "samples_t.jsonl").write_text(predictions)


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        ({"name": "one"}, [0, 0, 0]),
        ({"name": "two"}, [2, 0, 0]),
        ({"name": "one", "accuracy": 0.6}, [0, 1, 0]),
        ({"name": "one", "predictions": "b"}, [0, 1, 0]),
    ],
)
def test_runs_that_differ_are_seen(tmp_path: Path, theirs: dict[str, Any], found: list[int]) -> None:
    write_run(tmp_path / sweep.SWEPT, "one")
    write_run(tmp_path / sweep.ALONE, **theirs)
    checks = sweep.check(tmp_path, {})
    assert [check.value for check in checks] == found
    assert [check.ok for check in checks] == [value == 0 for value in found]
    assert sweep.floor(tmp_path, {}).seconds == 6


def test_no_run_at_all_is_no_agreement(tmp_path: Path) -> None:
    assert not sweep.check(tmp_path, {})[0].ok
