"""A finished run that teaches: whether it can, and its logits on other texts, kept on disk so that it is asked once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evalsuite.contracts import FinishedRun, Floats, RunContext
from evalsuite.errors import ModelError, OptionError, StoreError
from evalsuite.memory import release_memory

log = logging.getLogger("evalsuite")
ASKED_FIRST = 8  # documents that show whether a run gives logits at all


def open_teacher(directory: str | None, ctx: RunContext) -> FinishedRun:
    """The teacher's run, its model not yet read.

    Raises:
        OptionError: no teacher is named, or it was trained for another task or other labels.
        StoreError: no run, or one that is not complete.
    """
    if directory is None or ctx.open_run is None:
        raise OptionError("distill has no teacher; name a finished run, teacher=runs/...; see: evalsuite ls runs")
    run = ctx.open_run(Path(directory))
    kinds = {True: "any number of labels a document", False: "one label a document"}
    if run.task != ctx.task:
        theirs, ours = f"task {run.task!r}", f"task {ctx.task!r}"
    elif run.multilabel != ctx.multilabel:
        theirs, ours = kinds[run.multilabel], kinds[ctx.multilabel]
    elif len(run.labels) != len(ctx.labels):
        theirs, ours = f"{len(run.labels)} labels", f"{len(ctx.labels)}"
    elif wrong := [at for at, label in enumerate(run.labels) if label != ctx.labels[at]]:
        theirs, ours = (f"label {wrong[0]} = {labels[wrong[0]]!r}" for labels in (run.labels, ctx.labels))
    else:
        return run
    raise OptionError(
        f"the teacher {directory} has {theirs}, this run {ours}; train one on this task with these task options"
    )


def teacher_logits(run: FinishedRun, texts: Sequence[str], cache: Path) -> Floats:
    """Logits of n texts, float32 [n, k], as the run gives them; NaN where it had no answer.

    The model is freed before this returns.

    Raises:
        ModelError: the run gives no logits.
        StoreError: the cache cannot be written.
    """
    digest = hashlib.blake2b(run.run_id.encode(), digest_size=16)
    for text in texts:
        digest.update(hashlib.blake2b(text.encode(), digest_size=16).digest())
    path = cache / "teacher" / f"{digest.hexdigest()}.npy"
    if path.is_file():
        try:
            kept: Floats = np.load(path, allow_pickle=False)
            return kept
        except (OSError, ValueError, EOFError) as error:
            log.warning("the teacher's logits in %s cannot be read (%s): it is asked again", path, error)
    logits = _ask(run, texts)
    release_memory()
    _keep(path, logits)
    return logits


def _keep(path: Path, logits: Floats) -> None:
    """Whole under its name, or not there."""
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                np.save(file, logits)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot keep the teacher's logits in {path.parent}: {error}; free some space") from error


def _ask(run: FinishedRun, texts: Sequence[str]) -> Floats:
    method = run.load()
    if method.predict(texts[:ASKED_FIRST]).logits is None:
        raise ModelError(
            f"the teacher {run.run_id} gives no logits, so there is nothing to match; use one that does, such as a run"
            " of 'embedding', or of 'instruction' with decode=score"
        )
    scores = method.predict(texts)
    logits = np.array(scores.logits, dtype=np.float32)
    logits[[state != "ok" for state in scores.status]] = np.nan
    return logits
