"""Cost against processes: the same steps by one process and by two, gloo on the CPU, one thread each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.scale.making import LABELS, embedding, labelled, long_texts, model_folder
from benchmarks.scale.measuring import Curve, Done, Inputs, PointError, Stage

MODEL = (4, 256)  # layers, width
DOCUMENTS, LENGTH, STEPS = 16, 256, 3


def train_steps(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Steps of the same 16 documents, shared by ``size`` processes: seconds of one, memory of one process."""
    model = model_folder(inputs, *MODEL)
    return lambda: launched(size, model, Path(tempfile.mkdtemp(dir=inputs.folder)))


def launched(size: int, model: Path, folder: Path) -> Done:
    """Run ``main`` in ``size`` processes that know of each other.

    Raises:
        PointError: one of them ended with an error.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scale.processes", str(model), str(folder)],
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    codes = [child.wait() for child in children]
    if any(codes):
        raise PointError(f"training by {size} processes failed")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("rank*.json"))]
    # they have ended: nothing is held
    memory = {"peak_bytes": median(one["peak"] for one in found), "held_bytes": 0}
    return Done(max(one["seconds"] for one in found), memory)


def main(model: str, folder: str) -> None:
    """Train, and write what it took."""
    from evalsuite.accounting import peak_memory

    method = embedding(Path(model), max_length=LENGTH, batch_size=DOCUMENTS, token_budget=4 * LENGTH)
    method.fit(list(labelled(long_texts(STEPS * DOCUMENTS, LENGTH), len(LABELS))), [])
    facts = method.ctx.facts
    told = {"seconds": facts["train_seconds"] / STEPS, "peak": peak_memory(), "processes": facts["processes"]}
    Path(folder, f"rank{os.environ['RANK']}.json").write_text(json.dumps(told), encoding="utf-8")


CURVE = Curve(
    name="processes",
    unit="processes",
    fixed=f"{DOCUMENTS} documents of {LENGTH} tokens a step over all processes, one thread each, gloo; memory of one "
    "process, libraries included",
    sizes=(1, 2),
    small=(1, 2),
    stages=(Stage("train a step", train_steps),),
)

if __name__ == "__main__":
    main(*sys.argv[1:])
