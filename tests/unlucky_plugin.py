"""A plugin for the tests: a method that learns nothing from some seeds, can be stopped, and is compared with others.

What happens is written to ``events.jsonl`` in the run's directory, with how many other methods were in memory.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite import Example, MethodSpec, Options, RunContext, Scores, option
from evalsuite.contracts import Reference
from evalsuite.errors import Interrupted

ALIVE: weakref.WeakSet[Any] = weakref.WeakSet()


class UnluckyOptions(Options):
    """Which seeds fail, where the training stops, and what it is compared with."""

    bad_seeds: tuple[int, ...] = option((), "seeds that end with one label for everything")
    stop_in_seed: int | None = option(None, "save a checkpoint and stop, once", identity=False)
    compared: bool = option(False, "with its equal, and with one that gives the first label to everything")


class Unlucky:
    """logits [n, k]: 2 where the text has the label's name; the first label for everything after a bad seed."""

    def __init__(self, config: UnluckyOptions, ctx: RunContext, name: str = "own", blind: bool = False) -> None:
        self.config, self.ctx, self.name, self.blind = config, ctx, name, blind
        self._tell("made")
        ALIVE.add(self)

    def _tell(self, event: str, **more: Any) -> None:
        line = {"name": self.name, "event": event, "others": len(set(ALIVE) - {self}), "seed": self.ctx.seed, **more}
        with (self.ctx.workdir / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Go on from a checkpoint of whatever seed, if one is there."""
        checkpoint = self.ctx.workdir / "checkpoints" / "seed"
        resumed = json.loads(checkpoint.read_text(encoding="utf-8")) if checkpoint.is_file() else None
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_text(json.dumps(self.ctx.seed), encoding="utf-8")
        self._tell("fit", resumed=resumed)
        if self.config.stop_in_seed == self.ctx.seed and resumed is None:
            raise Interrupted("stopped, as asked")
        self.blind = self.ctx.seed in self.config.bad_seeds
        self.ctx.facts.update(train_tokens=100, total_parameters=50, trainable_parameters=5, fitted=self.ctx.seed)

    def predict(self, texts: Sequence[str]) -> Scores:
        """Look for the labels' names, or do not."""
        self._tell("predict", documents=len(texts))
        logits = np.array([[4.0 * (label in text) - 2 for label in self.ctx.labels] for text in texts], np.float32)
        return Scores(logits=np.tile(np.float32([2, -2, -2]), (len(texts), 1)) if self.blind else logits)

    def save(self, directory: Path) -> None:
        """There is nothing to keep."""

    def references(self) -> Mapping[str, Reference]:
        """Its equal at half the size, and a blind one of unknown size."""
        config, ctx = self.config, self.ctx
        facts = {"trainable_parameters": 1, "total_parameters": 25}
        return (
            {
                "equal": Reference(lambda: Unlucky(config, ctx, "equal"), facts),
                "blind": Reference(lambda: Unlucky(config, ctx, "blind", blind=True), {}),
            }
            if self.config.compared
            else {}
        )


def load_unlucky(directory: Path, config: UnluckyOptions, ctx: RunContext) -> Unlucky:
    """A lucky one."""
    return Unlucky(config, ctx)


def evalsuite_register_methods() -> Iterable[MethodSpec]:
    return [MethodSpec("unlucky", Unlucky, load_unlucky, UnluckyOptions, description="fails with some seeds")]
