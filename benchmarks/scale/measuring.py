"""A point of a curve: one stage at one size in a process of its own, so that its peak memory is its own.

The process is forked from one that has imported what stages need and has done nothing else: libraries count as there
already, and a point starts in a tenth of a second.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.worker import peak_bytes, reset_peak

# What forked processes find imported, so that no stage's figures hold an import.
PRELOADED = (
    "evalsuite.plugins.embedding",
    "evalsuite.plugins.instruction",
    "evalsuite.llm.classifier",
    "evalsuite.llm.answering",
    "evalsuite.llm.training.loop",
    "evalsuite.report.page.assemble",
    "benchmarks.scale.documents",
    "benchmarks.scale.labels",
    "benchmarks.scale.length",
    "benchmarks.scale.ranks",
    "benchmarks.scale.cells",
    "matplotlib.figure",
    "pyarrow.parquet",
    "scipy.optimize",
    "scipy.sparse",
    "scipy.special",
    "sklearn.feature_extraction.text",
    "sklearn.svm",
)
# A stage that takes long is not done again for the sake of a steadier figure.
ENOUGH_SECONDS = 4.0
# One thread: exponents do not depend on it, and threads that wait for each other on a busy machine do.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Inputs:
    """Where points find what was written for all of them, and what they may read. ``data``: a folder, or None."""

    folder: Path
    data: Path | None = None


@dataclass(frozen=True)
class Done:
    """What a stage gives back where it knows more than the clock around it.

    seconds: by a clock of its own, without its set-up; figures: what else it found, in place of what was measured where
    that has the same name. Whatever else is given back is held while memory is read, as a run would hold it.
    """

    seconds: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Work whose cost is followed. ``prepare(size, inputs)`` sets it up outside the clock.

    largest: it is not measured beyond, where it would take minutes.
    """

    name: str
    prepare: Callable[[int, Inputs], Callable[[], Any]]
    largest: int | None = None


@dataclass(frozen=True)
class Curve:
    """Stages over sizes. ``unit`` names what grows; ``fixed`` says what does not; ``before`` writes shared inputs."""

    name: str
    unit: str
    fixed: str
    sizes: Sequence[int]
    small: Sequence[int]
    stages: Sequence[Stage]
    before: Callable[[Sequence[int], Inputs], None] = lambda sizes, inputs: None


class PointError(RuntimeError):
    """A point's process ended without an answer."""


def measure(module: str, stage: str, size: int, inputs: Inputs, rounds: int) -> dict[str, Any]:
    """One point of ``module``'s curve, in a forked process.

    Raises:
        PointError: the process ended; what went wrong is on standard error.
    """
    os.environ.update(ONE_THREAD | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(PRELOADED))
    answers, told = processes.Pipe(duplex=False)
    child = processes.Process(target=_point, args=(told, module, stage, size, inputs, rounds))
    child.start()
    told.close()
    try:
        found: dict[str, Any] = answers.recv()
    except EOFError:
        child.join()
        raise PointError(f"{module}: {stage} at {size:,} ended with {child.exitcode}") from None
    child.join()
    return found


def _point(told: Any, module: str, stage: str, size: int, inputs: Inputs, rounds: int) -> None:
    gc.freeze()  # what was there before the fork is shared: to look through it would copy it
    curve: Curve = import_module(module).CURVE
    work = next(one for one in curve.stages if one.name == stage).prepare(size, inputs)
    told.send({"size": size, **rounds_of(work, rounds)})


def rounds_of(work: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Seconds of every round and their median; of the first round, in bytes beyond what was held before: the peak, and
    what its result holds."""
    settle()
    before = resident_bytes()
    reset_peak()
    result, seconds = _timed(work)
    peak = max(0, peak_bytes() - before)
    settle()
    held = max(0, resident_bytes() - before)
    figures = result.figures if isinstance(result, Done) else {}
    del result
    taken = [seconds]
    while len(taken) < rounds and sum(taken) < ENOUGH_SECONDS:
        settle()
        taken.append(_timed(work)[1])
    return {"seconds": median(taken), "rounds": taken, "peak_bytes": peak, "held_bytes": held, **figures}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    took = time.perf_counter() - started
    own = result.seconds if isinstance(result, Done) else None
    return result, took if own is None else own


def settle() -> None:
    """Free what nobody refers to, and give it back to the system: else its pages would hide what comes next."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident_bytes() -> int:
    """What this process holds now, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)
