"""Two real processes (gloo, CPU) take the same steps as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_setup import classifier, context, documents, objective, quick

from evalsuite.llm.training.loop import train

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch
from training_setup import classifier, context, documents, objective, quick
from evalsuite.llm.training.checkpoint import newest_checkpoint
from evalsuite.llm.training.distributed import Processes
from evalsuite.llm.training.loop import train

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
rank = Processes(torch.device("cpu")).rank

def run(budget, memory):
    backbone = classifier(model)
    goal = objective(backbone, documents(17), lambda: float(rank))  # each process scores something else

    def losses(model, batch):
        if rank == 0 and batch["input_ids"].numel() > memory:  # only this process ever lacks memory
            raise torch.OutOfMemoryError
        return goal.losses(model, batch)

    options = quick(
        token_budget=budget, epochs=1, evaluations=2, patience=0, checkpoint_minutes=1e-9, report_to="tensorboard"
    )
    where = folder / f"{budget}-{memory}"
    summary = train(backbone, replace(goal, losses=losses), options, context(where))
    return {
        "losses": summary.losses,
        "norms": summary.grad_norms,
        "budget": summary.token_budget,
        "validations": summary.validations,
        "generators": len(newest_checkpoint(where / "checkpoints")["generators"]),
    }

settings = {"whole": (10_000, 10_000), "cut": (120, 10_000), "single": (16, 10_000), "lacking": (10_000, 100)}
results = {name: run(*limits) for name, limits in settings.items()}
Path(folder, f"rank{rank}.json").write_text(json.dumps(results))
"""


def two_processes(model: Path, folder: Path) -> list[dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = str(Path(__file__).parents[2])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(model), str(folder)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for child in children:
        _, errors = child.communicate(timeout=240)
        assert child.returncode == 0, errors
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_equal_one(tiny_llama: Path, tmp_path: Path) -> None:
    """17 documents in steps of 8: the last step has one document, so that one process has none.

    accelerate's even_batches would repeat documents on the second process, or leave it waiting for ever.
    """
    backbone = classifier(tiny_llama)
    alone = train(backbone, objective(backbone, documents(17)), quick(epochs=1), context(tmp_path / "one"))
    ranks = two_processes(tiny_llama, tmp_path)
    assert len(list((tmp_path / "10000-10000" / "tensorboard" / "seed_0").glob("events.*"))) == 1  # the main one alone
    for rank in ranks:
        for name in ("whole", "cut", "single", "lacking"):
            assert rank[name]["losses"] == pytest.approx(alone.losses, rel=1e-4), name
            assert rank[name]["norms"] == pytest.approx(alone.grad_norms, rel=1e-4), name
            assert rank[name]["generators"] == 2
            # the main process's score decides for all
            assert [score for _, score in rank[name]["validations"]] == [0.0, 0.0]
        # one process without memory is agreed by all
        assert rank["lacking"]["budget"] <= 100
        assert rank["whole"]["budget"] == 10_000
