"""Rows 1 to 6 as a GPU runs them, at a tiny size on the CPU: bfloat16 on our sides, and checks that it passes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu_rows
from benchmarks.agreement import same_labels
from benchmarks.harness import Case, Options, Outputs, Side
from benchmarks.peers import classification_pipeline, generate_and_parse, trainer_classifier

# plain peft asks transformers 5 for an attribute by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

NAMES = ["1-gpu", "2-gpu", "3b", "4-gpu", "5-gpu", "6-gpu"]
SMALL = Options(small=True)


def case_of(name: str, device: str = "cpu") -> Case:
    return next(case for case in gpu_rows.cases(device, small=True) if case.name == name)


def done(side: Side, job: Path, **changed: Any) -> Outputs:
    """What a side of ours gives."""
    found: Outputs = importlib.import_module(side.module).setup(job, {**side.settings, **changed})()
    return found


def as_told(case: Case, job: Path, ours: Outputs) -> dict[str, Outputs]:
    """Our outputs in the form of each side's."""
    theirs = dict(ours)
    if case.name == "1-gpu":
        theirs["cut_otherwise"] = np.array(0)
    if case.name == "3b":
        items = json.loads((job / "items.json").read_text(encoding="utf-8"))
        theirs["losses"] = ours["losses"] / len(items[0][1])
    return {side.name: theirs if at else ours for at, side in enumerate(case.sides)}


@pytest.fixture
def in_float32(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], tuple[Case, Path, Outputs, Outputs]]:
    """A case, its job's folder, and what our side gives in the case's precision and in float32."""

    def run(name: str) -> tuple[Case, Path, Outputs, Outputs]:
        if name == "6-gpu":
            request.getfixturevalue("minilm")
        case = case_of(name)
        case.prepare(tmp_path, SMALL)
        ours = case.sides[0]
        return case, tmp_path, done(ours, tmp_path), done(ours, tmp_path, dtype="float32")

    return run


@pytest.mark.parametrize("name", NAMES)
def test_rounding_passes_and_less_work_does_not(
    name: str, in_float32: Callable[[str], tuple[Case, Path, Outputs, Outputs]]
) -> None:
    case, job, rounded, exact = in_float32(name)
    key = {"2-gpu": "losses", "3b": "losses", "4-gpu": "labels", "5-gpu": "logits", "6-gpu": "vectors"}.get(name)
    key = key or "scores"
    if name != "4-gpu":  # whose labels are whole numbers
        assert not np.array_equal(rounded[key], exact[key])  # else it was not bfloat16
    outputs = as_told(case, job, exact) | {case.sides[0].name: rounded}
    assert [check for check in case.check(job, outputs) if not check.ok] == []
    floor = case.floor(job, outputs)
    assert floor is not None
    assert floor.seconds > 0
    wrong = rounded[key] + 1 if rounded[key].ndim == 1 else np.roll(rounded[key], 1, axis=0)
    outputs[case.sides[0].name] = rounded | {key: wrong}
    assert not all(check.ok for check in case.check(job, outputs))


@pytest.mark.parametrize(
    ("name", "peer"),
    [("2-gpu", trainer_classifier), ("4-gpu", generate_and_parse), ("5-gpu", classification_pipeline)],
)
def test_peers_of_our_own_environment_agree(name: str, peer: Any, tmp_path: Path) -> None:
    case = case_of(name)
    case.prepare(tmp_path, SMALL)
    outputs = {case.sides[0].name: done(case.sides[0], tmp_path)}
    for side in case.sides[1:]:
        outputs[side.name] = peer.setup(tmp_path, {**side.settings, **dict(next(iter(side.tries), {}))})()
    assert [check for check in case.check(tmp_path, outputs) if not check.ok] == []


def test_every_side_is_on_the_device_in_its_precision() -> None:
    cases = gpu_rows.cases("cuda")
    assert [case.name for case in cases] == NAMES
    where = {(side.settings["device"], side.settings["dtype"]) for case in cases for side in case.sides}
    assert where == {("cuda", "bfloat16")}
    for case in cases:
        assert set(case.targets) == {side.name for side in case.sides[1:]}
        assert case.sides[-1].tries


def test_a_label_may_differ_where_rounding_decides() -> None:
    ours, theirs = np.array([[1.0, 0.9], [1.0, 0.5], [0.0, 1.0]]), np.array([[0.9, 1.0], [0.9, 1.0], [0.0, 1.0]])
    assert same_labels(ours, theirs).tolist() == [False, False, True]
    assert same_labels(ours, theirs, tie=0.2).tolist() == [True, False, True]


@pytest.mark.gpu
def test_a_row_on_the_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    case = case_of("1-gpu", "cuda")
    case.prepare(tmp_path, SMALL)
    on_gpu = done(case.sides[0], tmp_path)
    outputs = as_told(case, tmp_path, done(case.sides[0], tmp_path, device="cpu"))
    assert [check for check in case.check(tmp_path, outputs | {case.sides[0].name: on_gpu}) if not check.ok] == []
