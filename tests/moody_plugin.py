"""A plugin for the tests of sweeps: a method that does well or badly, fails in several ways, or waits to be stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evalsuite import Example, MethodSpec, Options, RunContext, Scores, option
from evalsuite.errors import Interrupted, TrainingError


class MoodyOptions(Options):
    """How it feels. ``known`` labels are told apart, the others never predicted."""

    mood: Literal["good", "diverges", "breaks", "dies", "slow", "first_breaks"] = option("good", "what it does")
    known: int = option(4, "labels it knows")


class HeavyOptions(MoodyOptions):
    """As if it read a model."""

    model: str = option("bundled", "a model's name")
    trust_remote_code: bool = option(False, "as of any model")


class Moody:
    """Says every document's label by its gold one, learned by heart from all that it was shown and will be shown."""

    def __init__(self, config: MoodyOptions, ctx: RunContext) -> None:
        self.config, self.ctx = config, ctx

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Fail as asked; say who did the work."""
        self.ctx.facts["process"] = os.getpid()
        mood, marked = self.config.mood, self.ctx.workdir / "marked"
        if mood == "diverges":
            raise TrainingError("the loss is not finite")
        if mood == "breaks" or (mood == "first_breaks" and not marked.exists()):
            marked.touch()
            raise RuntimeError("broken, as asked")
        if mood == "dies":
            os._exit(9)
        if mood == "slow" and self.config.known == 1 and not marked.exists():
            self._wait(marked)

    def _wait(self, marked: Path) -> None:
        from evalsuite.llm.training.interrupts import stop_on_signal

        with stop_on_signal() as request:
            (self.ctx.workdir / "begun").touch()
            for _ in range(3000):
                if request.asked:
                    break
                time.sleep(0.01)
        marked.touch()
        raise Interrupted("saved")

    def predict(self, texts: Sequence[str]) -> Scores:
        """The label that the text names, where it is known, else the first."""
        logits = np.array([[3.0 * (label in text) for label in self.ctx.labels] for text in texts], np.float32)
        logits = logits.reshape(len(texts), len(self.ctx.labels))
        logits[:, self.config.known :] = -3
        return Scores(logits=logits)

    def save(self, directory: Path) -> None:
        """There is nothing to keep."""


def load(directory: Path, config: Any, ctx: RunContext) -> Moody:
    return Moody(config, ctx)


def evalsuite_register_methods() -> list[MethodSpec]:
    return [
        MethodSpec("moody", Moody, load, MoodyOptions),
        MethodSpec("heavy", Moody, load, HeavyOptions, needs=frozenset({"model"})),
    ]
