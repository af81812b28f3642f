"""A kill at any moment costs no more than the work since the last checkpoint, and changes no bit of the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_setup import classifier, context, documents, objective, quick

from evalsuite.errors import StoreError
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.options import LoraOptions
from evalsuite.llm.training.checkpoint import MARKER, STATE, newest_checkpoint, save_checkpoint, trainable_tensors
from evalsuite.llm.training.loop import TrainingSummary, train

OPTIONS = quick(epochs=3, evaluations=4, checkpoint_minutes=1e-9)  # a checkpoint after every step


class KilledError(Exception):
    """Stands for a kill: nothing catches it."""


def run(folder: Path, model: Path, die_at: int | None = None, **adapter: Any) -> tuple[Backbone, TrainingSummary]:
    """Train with dropout; ``die_at`` ends it in the middle of that step."""
    backbone = classifier(model, lora=LoraOptions(lora_r=4, lora_dropout=0.2), **adapter)
    scores = iter([0.5, 0.6, 0.4, 0.3])
    goal = objective(backbone, documents(20), lambda: float(next(scores)))
    calls = 0

    def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == die_at:
            raise KilledError
        return goal.losses(model, batch)

    return backbone, train(backbone, replace(goal, losses=losses), OPTIONS, context(folder))


@pytest.mark.parametrize("load_in_4bit", [False, True])
def test_resumed_weights_are_bit_equal(tiny_llama: Path, tmp_path: Path, load_in_4bit: bool) -> None:
    whole, expected = run(tmp_path / "whole", tiny_llama, load_in_4bit=load_in_4bit)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", tiny_llama, die_at=6, load_in_4bit=load_in_4bit)
    state = newest_checkpoint(tmp_path / "killed" / "checkpoints")
    assert state is not None
    assert state["summary"]["steps"] == 5
    torch.rand(7)  # whatever happened to the generators in between must not matter
    resumed, summary = run(tmp_path / "killed", tiny_llama, load_in_4bit=load_in_4bit)
    assert summary.losses == expected.losses
    assert summary.steps == expected.steps == 9
    other = trainable_tensors(resumed.model)
    assert all(torch.equal(tensor, other[name]) for name, tensor in trainable_tensors(whole.model).items())


def test_best_state_survives_a_kill(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, tiny_llama, die_at=8)
    state = newest_checkpoint(tmp_path / "checkpoints")
    assert state is not None
    assert state["summary"]["best_step"] == 4
    assert state["best"].keys() == state["tensors"].keys()


def test_a_checkpoint_holds_the_adapter_and_never_the_base(tiny_llama: Path, tmp_path: Path) -> None:
    """accelerate's save_state writes the whole quantised base, and cannot load it."""
    with pytest.raises(KilledError):
        run(tmp_path, tiny_llama, die_at=2, load_in_4bit=True)
    state = newest_checkpoint(tmp_path / "checkpoints")
    assert state is not None
    assert all("lora_" in name or "score" in name for name in state["tensors"])


def saved(folder: Path, *steps: int) -> list[Path]:
    return [save_checkpoint(folder, step, {"step": step, "tensor": torch.arange(1000)}) for step in steps]


def test_a_truncated_newest_is_passed_over(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (newest,) = saved(tmp_path, 2)
    content = (newest / STATE).read_bytes()
    for damaged in (content[:100], b"", bytes(len(content))):
        (newest / STATE).write_bytes(damaged)
        state = newest_checkpoint(tmp_path)
        assert state is not None
        assert state["step"] == 1


def test_a_checkpoint_without_its_marker_is_passed_over(tmp_path: Path) -> None:
    first, second = saved(tmp_path, 1, 2)
    (second / MARKER).unlink()
    state = newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1
    (first / MARKER).write_text("{")
    assert newest_checkpoint(tmp_path) is None


def test_a_kill_while_writing_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)

    def half(state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KilledError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KilledError):
        saved(tmp_path, 2)
    state = newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_marker_names_size_and_hash(tmp_path: Path) -> None:
    (folder,) = saved(tmp_path, 7)
    marker = json.loads((folder / MARKER).read_text())
    assert marker["step"] == 7
    assert marker["bytes"] == (folder / STATE).stat().st_size


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002", "step_00000010"]


def test_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: Any, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match=r"cannot write a checkpoint to .*No space left on device; free some space"):
        saved(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_another_run(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, tiny_llama, die_at=3)
    backbone = classifier(tiny_llama)
    with pytest.raises(StoreError, match="is of 9 steps on 1 processes, this training has 3 on 1"):
        train(backbone, objective(backbone, documents(20)), quick(epochs=1), context(tmp_path))
    other = classifier(tiny_llama, lora=LoraOptions(lora_r=2))
    with pytest.raises(StoreError, match="belongs to another model or adapter"):
        train(other, objective(other, documents(20)), quick(epochs=3), context(tmp_path))
