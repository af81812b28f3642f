"""Sends a training's curves to experiment trackers, by accelerate's classes for them, and is never fatal.

A tracker that is not installed, cannot start or fails at some step is dropped with one warning, and the training gives
the same numbers with it and without. What is sent: loss, learning rate, gradient norm and validation score by step, and
the options, folders by their last part. No text, no key.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite.contracts import RunContext
from evalsuite.llm.loading.source import first_line
from evalsuite.llm.options import TrainingOptions
from evalsuite.llm.training.seeding import random_state, restore_random_state

log = logging.getLogger("evalsuite")

PROJECT = "evalsuite"  # of wandb and trackio, and mlflow's experiment
FOLDER = "tensorboard"


class Trackers:
    """The trackers of one training; none until ``start``, which the main process alone calls."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def start(self, options: TrainingOptions, ctx: RunContext, done: int) -> None:
        """Start those that ``options.report_to`` names; ``done`` steps are behind us where training goes on."""
        configuration = describe(options, ctx)
        for name in options.report_to:
            with self._harmless(name, "does not start"):
                tracker = _make(name, ctx, done)
                tracker.start()
                self._open[name] = tracker
                tracker.store_init_configuration(dict(configuration))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of a step, counted from 1."""
        self._each(lambda tracker: tracker.log(dict(values), step=step), f"failed at step {step}")

    def close(self) -> None:
        """Let every tracker write what it holds."""
        self._each(lambda tracker: tracker.finish(), "could not be closed")
        self._open.clear()

    def _each(self, act: Callable[[Any], object], problem: str) -> None:
        for name, tracker in list(self._open.items()):
            with self._harmless(name, problem):
                act(tracker)

    @contextmanager
    def _harmless(self, name: str, problem: str) -> Iterator[None]:
        """Whatever a tracker does inside, training goes on as if it were not there."""
        state = random_state()
        try:
            yield
        except ImportError:
            self._open.pop(name, None)
            log.warning("tracker %s is left out: its package is not installed (pip install %s)", name, name)
        except Exception as error:  # noqa: BLE001 - hours of training must not end for a curve
            self._open.pop(name, None)
            log.warning("tracker %s %s and is left out, training goes on: %s", name, problem, first_line(error))
        finally:
            restore_random_state(state)


def describe(options: TrainingOptions, ctx: RunContext) -> dict[str, bool | int | float | str]:
    """What a tracker is told about a training: task, seed, labels and every option, as scalars."""
    told = {"task": ctx.task, "labels": len(ctx.labels), "seed": ctx.seed, **options.model_dump(mode="json")}
    return {
        name: value if isinstance(value, bool | int | float) else _last_part(str(value)) for name, value in told.items()
    }


def _last_part(text: str) -> str:
    """Where a folder lies on this machine is nobody's business; hub ids and words stay."""
    local = text.startswith(("/", "~", ".")) or re.match(r"[A-Za-z]:\\", text) or Path(text).exists()
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if local else text


def _make(name: str, ctx: RunContext, done: int) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

    run, folder, part = _place(ctx)
    if name == "tensorboard":
        # purge_step hides what a killed process logged after its last checkpoint: those steps are done again.
        return TensorBoardTracker(part, logging_dir=folder, **({"purge_step": done + 1} if done else {}))
    title = f"{ctx.task} {run} {part}"
    if name == "wandb":
        return WandBTracker(PROJECT, name=title)
    if name == "trackio":
        return TrackioTracker(PROJECT, name=title)
    return MLflowTracker(experiment_name=PROJECT, run_name=title)


def _place(ctx: RunContext) -> tuple[str, Path, str]:
    """(the run's id, the folder for TensorBoard's files, which of the run's trainings this is).

    A run works in ``<id>.partial``; a method that trains twice does so in folders below it, under ``checkpoints``.
    """
    folders = [ctx.workdir, *ctx.workdir.parents]
    root = next((folder for folder in folders if folder.name.endswith(".partial")), ctx.workdir)
    inner = [part for part in ctx.workdir.relative_to(root).parts if part != "checkpoints"]
    return root.name.removesuffix(".partial"), root / FOLDER, "_".join([*inner, f"seed_{ctx.seed}"])
