"""A method of the tests that can be handed on: what it writes needs numpy alone, so that a check takes a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from evalsuite import Example, MethodSpec, Options, RunContext, Scores, option

SOURCE = '''\
import json
from pathlib import Path

import numpy as np

folder = Path(".")
decision = json.loads((folder / "decision.json").read_text())
shift = json.loads((folder / "shift.json").read_text())


def score(texts):
    """Logits of the labels: one row a text."""
    logits = np.array([[4.0 * (label in text) - 2 for label in decision["labels"]] for text in texts])
    logits[:, 0] += shift
    return logits
'''
ENDS = {"raise": "raise SystemExit('broken snippet')\n", "evalsuite": "import evalsuite\n"}


class PortableOptions(Options):
    """What goes wrong in the export, and how the model is held, as the options of language models say it."""

    flaw: Literal["", "near", "shift", "flip", "raise", "evalsuite", "write"] = option("", "of what is written")
    dtype: str = option("auto", "precision")
    load_in_4bit: bool | None = option(None, "how weights are held")


class Portable:
    """logits [n, k]: 2 where the text has the label's name, -2 elsewhere."""

    def __init__(self, config: PortableOptions, ctx: RunContext) -> None:
        self.config, self.ctx = config, ctx
        # as if a GPU had been there in training
        ctx.facts.update(dtype="bfloat16" if config.flaw == "near" else "float32", quantised=True)

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Learn nothing."""

    def predict(self, texts: Sequence[str]) -> Scores:
        logits = [[4.0 * (label in text) - 2 for label in self.ctx.labels] for text in texts]
        return Scores(logits=np.array(logits, np.float32).reshape(len(texts), len(self.ctx.labels)))

    def save(self, directory: Path) -> None:
        """There is nothing to keep."""

    def exports(self, dtype: str) -> Mapping[str, Callable[[Path], str]]:
        def write(folder: Path) -> str:
            flaw = self.config.flaw
            if flaw == "write":
                raise RuntimeError("broken in write, as asked")
            (folder / "shift.json").write_text(json.dumps({"near": 0.015, "shift": 0.15, "flip": 9.0}.get(flaw, 0.0)))
            (folder / "held.json").write_text(json.dumps([dtype, self.config.dtype, self.config.load_in_4bit]))
            return SOURCE + ENDS.get(flaw, "")

        return {"merged": write}


def evalsuite_register_methods() -> Iterable[MethodSpec]:
    def load(directory: Path, config: PortableOptions, ctx: RunContext) -> Portable:
        return Portable(config, ctx)

    return [MethodSpec("portable", Portable, load, PortableOptions, description="can be handed on")]
