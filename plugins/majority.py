"""``majority``: answers with the label frequencies of the training split, whatever the text. The lowest floor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from evalsuite.contracts import Example, Floats, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError
from evalsuite.hookspecs import hookimpl
from evalsuite.options import Options, option

FILE = "majority.json"


class MajorityOptions(Options):
    """Options of ``majority``."""

    smoothing: float = option(
        1.0, "added to every count, so that no label is impossible", unit="documents", gt=0, source="Laplace, 1814"
    )


class Majority:
    """The same logits for every document: log shares of the labels (single label) or log-odds of each share."""

    def __init__(self, config: MajorityOptions, ctx: RunContext, logits: Floats | None = None) -> None:
        self.config, self.ctx = config, ctx
        self.logits = np.zeros(len(ctx.labels), np.float32) if logits is None else logits

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Count the labels of ``train``."""
        indices = [label for example in train for label in example.labels]
        counts = np.bincount(np.array(indices, np.intp), minlength=len(self.ctx.labels)) + self.config.smoothing
        if self.ctx.multilabel:
            without = len(train) + 2 * self.config.smoothing - counts
            self.logits = np.log(counts / without).astype(np.float32)
        else:
            self.logits = np.log(counts / counts.sum()).astype(np.float32)
        self.ctx.facts.update(trainable_parameters=0, total_parameters=len(self.logits))

    def predict(self, texts: Sequence[str]) -> Scores:
        """The same row n times."""
        return Scores(logits=np.tile(self.logits, (len(texts), 1)))

    def save(self, directory: Path) -> None:
        """Write ``majority.json``."""
        content = {"labels": list(self.ctx.labels), "logits": self.logits.tolist()}
        (directory / FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def load(directory: Path, config: MajorityOptions, ctx: RunContext) -> Majority:
    """Read what ``save`` wrote.

    Raises:
        ModelError: the file is absent or holds something else.
    """
    path = directory / FILE
    try:
        logits = np.array(json.loads(path.read_text(encoding="utf-8"))["logits"], np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); train again with --overwrite always") from None
    if logits.shape != (len(ctx.labels),):
        raise ModelError(
            f"{path} holds logits of shape {logits.shape}, expected one for each of {len(ctx.labels)} labels"
        )
    return Majority(config, ctx, logits)


@hookimpl
def evalsuite_register_methods() -> Iterable[MethodSpec]:
    """Register ``majority``."""
    description = "label frequencies of the training split, whatever the text"
    return [MethodSpec("majority", Majority, load, MajorityOptions, description=description, trained=False)]
