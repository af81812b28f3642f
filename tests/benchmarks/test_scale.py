"""Curves: the fit finds the exponent, a point's memory is its own, and every stage works at a tiny size."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale.__main__ import CURVES, exponents
from benchmarks.scale.fitting import fit
from benchmarks.scale.measuring import Curve, Done, Inputs, PointError, Stage, measure, rounds_of
from benchmarks.scale.plots import _label, draw
from benchmarks.scale.tables import markdown


def test_the_exponent_of_a_power_is_found() -> None:
    sizes = [1, 10, 100, 1000]
    line = fit(sizes, [3 * size**1.5 for size in sizes])
    assert line is not None
    assert (line.exponent, line.constant, line.last) == pytest.approx((1.5, 3, 1.5))
    assert (line.low, line.high) == pytest.approx((1.5, 1.5))


def test_a_line_is_named_with_its_exponent_also_where_it_falls() -> None:
    assert _label("train", [1, 2], [4.0, 2.0]) == "train  $n^{-1.0}$"
    assert _label("train", [1, 2], [4.0, 4.01]) == "train  constant"


def test_the_interval_of_an_exponent_is_that_of_a_regression() -> None:
    from scipy.stats import linregress

    sizes, costs = [1, 3, 10, 30, 100], [1.0, 3.5, 9.0, 33.0, 88.0]
    line = fit(sizes, costs)
    known = linregress(np.log(sizes), np.log(costs))
    assert line is not None
    assert line.exponent == pytest.approx(known.slope)
    assert line.low == pytest.approx(known.slope - 3.182446 * known.stderr)  # t of 97.5% with 3 degrees of freedom


def test_a_fixed_cost_shows_in_the_last_exponent_least() -> None:
    line = fit([1, 10, 100, 1000], [5 + size for size in (1, 10, 100, 1000)])
    assert line is not None
    assert line.exponent < 0.85
    assert line.last > 0.95


@pytest.mark.parametrize(("sizes", "costs"), [([1], [2.0]), ([1, 2], [0.0, 1.0])])
def test_without_two_costs_there_is_no_line(sizes: list[int], costs: list[float]) -> None:
    assert fit(sizes, costs) is None


def test_peak_and_held_memory_are_told_apart() -> None:
    def work() -> bytes:
        large = b"\1" * 60_000_000
        return large[:20_000_000]

    found = rounds_of(work, 1)
    assert 55e6 < found["peak_bytes"] < 100e6
    assert 15e6 < found["held_bytes"] < 40e6


def test_a_stage_with_a_clock_of_its_own_is_believed() -> None:
    found = rounds_of(lambda: Done(0.25, {"adapter_bytes": 7.0}), 3)
    assert (found["seconds"], found["rounds"], found["adapter_bytes"]) == (0.25, [0.25] * 3, 7.0)


def test_a_point_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scale.measuring.PRELOADED", ())
    with pytest.raises(PointError, match="read a table at 5 ended with 1"):
        measure("benchmarks.scale.documents", "read a table", 5, Inputs(tmp_path / "not there"), 1)


def test_a_curve_is_written_as_table_and_picture(tmp_path: Path) -> None:
    points = [
        {"size": size, "seconds": size * 1e-3, "peak_bytes": 500 * size, "held_bytes": 90 * size}
        for size in (1000, 10_000)
    ]
    stage = {"name": "read a table", "points": points, **exponents(points)}
    found = {"curve": "documents", "unit": "documents", "fixed": "short ones", "stages": [stage]}
    assert "| read a table | 1,000 to 10,000 | 1 to 10 | 1.00 | 1.00 | 0.5 to 5.0 | 500 | 90 |" in markdown(found)
    draw(json.loads(json.dumps(found)), tmp_path / "picture.svg")
    assert "read a table" in (tmp_path / "picture.svg").read_text(encoding="utf-8")


STAGES = [
    (name, stage)
    for name in CURVES
    if name != "processes"  # tests/llm/test_distributed.py starts two
    for stage in import_module(f"benchmarks.scale.{name}").CURVE.stages
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """What the stages share; the finished runs of a sweep of four cells among it."""
    found = Inputs(tmp_path_factory.mktemp("scale"))
    curve: Curve = import_module("benchmarks.scale.cells").CURVE
    curve.before([4], found)
    return found


@pytest.mark.parametrize(("name", "stage"), STAGES, ids=[f"{name}: {stage.name}" for name, stage in STAGES])
def test_every_stage_works(name: str, stage: Stage, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scale.labels.SCORED", 300)
    for module in ("documents", "labels", "length", "ranks"):
        monkeypatch.setattr(f"benchmarks.scale.{module}.MODEL", (1, 64))
    size = {"documents": 120, "length": 64}.get(name, 4)
    found = rounds_of(stage.prepare(size, inputs), 1)
    assert found["seconds"] > 0
