"""The GPUs of this machine, found without loading torch, so that every job can be given one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from evalsuite.errors import UsageError

VARIABLE = "CUDA_VISIBLE_DEVICES"
SECONDS = 30.0


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` names, else the GPUs that ``nvidia-smi`` lists; none where there is neither."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        # As CUDA reads it: what follows the first number below 0 does not exist.
        names = [name.strip() for name in named.split(",")]
        hidden = next((place for place, name in enumerate(names) if not name or name.startswith("-")), len(names))
        return names[:hidden]
    if (command := shutil.which("nvidia-smi")) is None:
        return []
    told = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=SECONDS, check=False)
    count = sum(line.startswith("GPU ") for line in told.stdout.splitlines()) if told.returncode == 0 else 0
    return [str(number) for number in range(count)]


def environments(jobs: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """What each of ``jobs`` processes that run side by side gets: a GPU of its own, and its share of the processors.

    Raises:
        UsageError: more jobs than GPUs.
    """
    if jobs == 1:
        return [dict(os.environ)]
    if gpus and jobs > len(gpus):
        raise UsageError(
            f"--jobs {jobs}: each job takes a GPU, and there {'is 1' if len(gpus) == 1 else f'are {len(gpus)}'}; "
            f"use --jobs {len(gpus)}, or hide the GPUs with {VARIABLE}=-1"
        )
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    return [{**threads, **os.environ, **({VARIABLE: gpus[job]} if gpus else {})} for job in range(jobs)]
