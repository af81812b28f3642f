"""The loop of one side of a comparison: set up once, then do the same work as often as it is asked.

A side runs in a process of its own, in its own environment, and talks in lines of JSON on standard output: ``ready``
after its set-up, then for every line it reads the seconds and the peak memory of one round. What libraries print goes
to standard error. This module needs the standard library and numpy only, so that every environment can import it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Outputs = dict[str, npt.NDArray[Any]]
Work = Callable[[], Outputs]
Setup = Callable[[Path, dict[str, Any]], Work]
Dtype = Literal["float32", "bfloat16"]


def serve(setup: Setup) -> None:
    """Answer rounds until standard input ends. Arguments of the process: the job's folder, settings, output file.

    ``setup`` gets the folder and the settings, and returns the work; neither it nor the writing of what the work
    returns is timed.
    """
    job, settings, output = Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    work = setup(job, settings)
    say({"ready": True})
    for _ in sys.stdin:
        reset_peak()
        started = time.perf_counter()
        found = work()
        synchronise()
        say({"seconds": time.perf_counter() - started, "peak_bytes": peak_bytes()})
        np.savez(output, allow_pickle=False, **found)
        release()
        say({"written": True})


def arithmetic(settings: Mapping[str, Any]) -> tuple[str, Dtype]:
    """The device and the dtype that a side's settings name: the CPU and float32 where they name none."""
    return settings.get("device", "cpu"), settings.get("dtype", "float32")


def synchronise() -> None:
    """Wait for a GPU: its kernels run on after the call that asked for them has returned."""
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.synchronize()


def release() -> None:
    """Hand back what torch keeps of a GPU's memory for its next round: the other sides are on the same GPU."""
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.empty_cache()


def reset_peak() -> None:
    """Count peak memory anew: torch's on a GPU, else what this process holds in all (Linux, proc(5))."""
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory held since ``reset_peak``, in bytes; 0 where the system does not say."""
    if (torch := _torch_with_gpu()) is not None:
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def _torch_with_gpu() -> Any:
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
