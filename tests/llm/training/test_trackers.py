"""Trackers see a training's curves, change nothing about it, and cannot stop it."""

from __future__ import annotations

import itertools
import logging
import random
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from training_setup import classifier, context, documents, objective, quick

from evalsuite.contracts import RunContext
from evalsuite.errors import OptionError
from evalsuite.identity import options_identity
from evalsuite.llm.options import TRACKERS, FineTuningOptions, TrainingOptions
from evalsuite.llm.training import loop as training
from evalsuite.llm.training.loop import TrainingSummary, train
from evalsuite.llm.training.trackers import Trackers, describe
from evalsuite.registry import build_registry
from evalsuite.spec import RunResult


def run(folder: Path, model: Path, **options: Any) -> TrainingSummary:
    """Six steps, validation after the third and the sixth."""
    backbone = classifier(model)
    scores = itertools.count(1)
    goal = objective(backbone, documents(20), lambda: next(scores) / 10)
    return train(backbone, goal, quick(evaluations=2, **options), context(folder))


def tensorboard_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars of one folder of event files: name -> step -> value."""
    accumulator_module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard, part of the extra `test`"
    )
    read = accumulator_module.EventAccumulator(str(folder))
    read.Reload()
    return {name: {event.step: event.value for event in read.Scalars(name)} for name in read.Tags()["scalars"]}


class Recorder:
    """A run of wandb or trackio as accelerate uses it; also the module's ``config``."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.updated: dict[str, Any] = {}
        self.finished, self.fail_at = False, fail_at

    def log(self, values: dict[str, float], step: int) -> None:
        random.random(), torch.rand(1)  # a tracker that draws random numbers, as those that invent names do
        if step == self.fail_at:
            raise OSError(28, "No space left on device")
        self.logged.append((step, values))

    def update(self, values: dict[str, Any], **_: object) -> None:
        self.updated.update(values)

    def finish(self) -> None:
        self.finished = True

    def install(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the package ``name`` where accelerate imports it."""
        module = ModuleType(name)

        def init(**arguments: Any) -> Recorder:
            self.started = arguments
            return self

        vars(module).update(init=init, config=self)
        monkeypatch.setitem(sys.modules, name, module)


def test_tensorboard_has_every_step(tiny_llama: Path, tmp_path: Path) -> None:
    summary = run(tmp_path, tiny_llama, report_to="tensorboard", warmup_ratio=0.5)
    curves = tensorboard_curves(tmp_path / "tensorboard" / "seed_0")
    assert list(curves["train/loss"].values()) == pytest.approx(summary.losses, rel=1e-6)
    assert list(curves["train/grad_norm"].values()) == pytest.approx(summary.grad_norms, rel=1e-6)
    rates = [training.learning_rate(step, 6, quick(warmup_ratio=0.5)) for step in range(6)]
    assert curves["train/learning_rate"] == pytest.approx(dict(enumerate(rates, start=1)), rel=1e-6)
    assert curves["validation/score"] == pytest.approx({3: 0.1, 6: 0.2})


def test_trackers_change_no_number(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that draws random numbers, and one that fails on the way: dropout would tell."""
    plain = run(tmp_path / "plain", tiny_llama)
    Recorder(fail_at=2).install("wandb", monkeypatch)
    tracked = run(tmp_path / "tracked", tiny_llama, report_to="tensorboard,wandb")
    assert tracked.losses == plain.losses
    assert tracked.grad_norms == plain.grad_norms
    assert tracked.validations == plain.validations
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        "tracker wandb failed at step 2 and is left out, training goes on: OSError: [Errno 28] No space left on device"
    ]
    assert len(tensorboard_curves(tmp_path / "tracked" / "tensorboard" / "seed_0")["train/loss"]) == 6


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_remote_tracker_gets_values_options_and_an_end(
    name: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.install(name, monkeypatch)
    summary = run(tmp_path / "0f0f.partial", tiny_llama, report_to=name)
    assert recorder.started == {"project": "evalsuite", "name": "toy 0f0f seed_0"}
    losses = [values["train/loss"] for _, values in recorder.logged if "train/loss" in values]
    assert losses == summary.losses
    assert [(step, values) for step, values in recorder.logged if "validation/score" in values] == [
        (3, {"validation/score": 0.1}),
        (6, {"validation/score": 0.2}),
    ]
    assert recorder.updated["learning_rate"] == 5e-3
    assert recorder.finished


def test_mlflow_gets_them_too(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = ModuleType("mlflow"), []  # type: tuple[ModuleType, list[tuple[str, Any]]]
    limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
    vars(module).update(
        utils=SimpleNamespace(validation=limits),
        search_experiments=lambda filter_string: [],
        create_experiment=lambda name, **_: seen.append(("experiment", name)),
        start_run=lambda run_name, **_: seen.append(("run", run_name)),
        log_params=lambda values: seen.append(("params", values)),
        log_metrics=lambda values, step: seen.append((str(step), values)),
        end_run=lambda: seen.append(("end", None)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    summary = run(tmp_path, tiny_llama, report_to="mlflow")
    assert [what for what, _ in seen] == ["experiment", "run", "params", *"1233456", "6", "end"]
    assert [values["train/loss"] for _, values in seen if values and "train/loss" in values] == summary.losses


@pytest.mark.parametrize("name", [name for name in TRACKERS if name != "tensorboard"])
def test_a_package_that_is_missing_is_one_warning(
    name: str,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert run(tmp_path, tiny_llama, report_to=name).steps == 6
    assert [record.message for record in caplog.records] == [
        f"tracker {name} is left out: its package is not installed (pip install {name})"
    ]


def test_a_folder_that_cannot_be_written_is_one_warning(
    tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    assert run(tmp_path, tiny_llama, report_to="tensorboard").steps == 6
    [told] = [record.message for record in caplog.records]
    assert told.startswith("tracker tensorboard does not start and is left out, training goes on: ")


# tensorboard's own writing thread dies of it, which Python tells on stderr
@pytest.mark.filterwarnings("ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fills_up_under_tensorboard_is_one_warning(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records = pytest.importorskip("tensorboard.summary.writer.record_writer", reason="needs tensorboard")
    write, times = records.RecordWriter.write, itertools.count()

    def full(self: Any, data: bytes) -> None:
        if next(times) > 12:
            raise OSError(28, "No space left on device")
        write(self, data)

    monkeypatch.setattr(records.RecordWriter, "write", full)
    assert run(tmp_path, tiny_llama, report_to="tensorboard").steps == 6
    [told] = [record.message for record in caplog.records]
    assert "No space left on device" in told


def test_a_tracker_that_cannot_be_closed_is_one_warning(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    recorder.install("wandb", monkeypatch)
    monkeypatch.setattr(recorder, "finish", lambda: 1 / 0)
    assert run(tmp_path, tiny_llama, report_to="wandb").steps == 6
    assert [record.message for record in caplog.records] == [
        "tracker wandb could not be closed and is left out, training goes on: ZeroDivisionError: division by zero"
    ]


class KilledError(Exception):
    """Stands for a process that is gone without a word."""


def test_a_step_done_again_stands_once_in_the_curve(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 3 to 5 were logged after the last checkpoint by a process that was killed."""
    log, save = Trackers.log, training._Loop.save

    def die(self: Trackers, step: int, values: dict[str, float]) -> None:
        log(self, step, dict.fromkeys(values, 99.0))
        if step == 5:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training._Loop, "save", lambda self: save(self) if self.summary.steps == 2 else None)
        patch.setattr(Trackers, "log", die)
        with pytest.raises(KilledError):
            run(tmp_path, tiny_llama, report_to="tensorboard", checkpoint_minutes=1e-9)
    time.sleep(1.1)  # TensorBoard reads files in the order of their names, which have the second in them
    summary = run(tmp_path, tiny_llama, report_to="tensorboard")
    curves = tensorboard_curves(tmp_path / "tensorboard" / "seed_0")
    assert curves["train/loss"] == pytest.approx({1: 99.0, 2: 99.0, **dict(enumerate(summary.losses[2:], start=3))})
    assert curves["validation/score"] == pytest.approx({3: 0.1, 6: 0.2})


def test_the_names_are_checked_before_anything_else() -> None:
    assert TrainingOptions(report_to="wandb, tensorboard,wandb").report_to == ("wandb", "tensorboard")
    assert TrainingOptions(report_to="none").report_to == ()
    assert TrainingOptions.model_validate(TrainingOptions(report_to="wandb").model_dump(mode="json"))
    with pytest.raises(ValidationError, match=r"unknown tracker 'tensorbord'; did you mean tensorboard\?"):
        TrainingOptions(report_to="tensorbord")


def test_trackers_are_no_part_of_a_run() -> None:
    method = build_registry().method("embedding")
    plain, tracked = (
        method.config.model_validate({"report_to": names}).model_dump(mode="json") for names in ((), ("wandb",))
    )
    assert plain != tracked
    assert options_identity(method, plain) == options_identity(method, tracked)


def test_no_folder_of_this_machine_is_told(tmp_path: Path) -> None:
    options = FineTuningOptions(model=str(tmp_path / "private customer" / "encoder"), report_to=("wandb",))
    told = describe(options, context(tmp_path))
    assert told["model"] == "encoder"
    assert str(tmp_path) not in str(told)
    assert describe(FineTuningOptions(model="org/name@main"), context(tmp_path))["model"] == "org/name@main"
    assert all(isinstance(value, bool | int | float | str) for value in told.values())


def test_a_finished_run_has_its_curves_and_is_whole(
    tmp_path: Path, tiny_llama: Path, few_resamples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import evalsuite
    from evalsuite.store import open_run

    options: dict[str, Any] = {"model": str(tiny_llama), "train_limit": 24, "validation_limit": 8, "limit": 8}
    result: RunResult = evalsuite.run(
        "ag_news", "embedding", output_path=str(tmp_path), report_to="tensorboard", epochs=1, max_length=32, **options
    )
    open_run(result.directory, verify=True)
    curves = tensorboard_curves(result.directory / "tensorboard" / "seed_0")
    assert len(curves["train/loss"]) == result.results["facts"]["steps"]
    with pytest.raises(OptionError, match=r"'report_to'.*unknown tracker 'tensorbard'; did you mean tensorboard\?"):
        evalsuite.run("ag_news", "embedding", output_path=str(tmp_path), report_to="tensorbard", **options)


def test_one_training_of_two_has_a_folder_of_its_own(tmp_path: Path) -> None:
    from evalsuite.llm.training.trackers import _place

    outer: RunContext = context(tmp_path / "0f.partial", seed=7)
    inner = context(tmp_path / "0f.partial" / "checkpoints" / "gold_only", seed=7)
    assert _place(outer) == ("0f", tmp_path / "0f.partial" / "tensorboard", "seed_7")
    assert _place(inner) == ("0f", tmp_path / "0f.partial" / "tensorboard", "gold_only_seed_7")
