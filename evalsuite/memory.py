"""Gives a model's memory back, so that the next one has room, and says how much was held."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CLEAR = Path("/proc/self/clear_refs")
_LARGEST_KEPT = 2**25 - 2**16  # bytes: glibc's limit is 32 MiB, its own record of the block included


def release_memory() -> None:
    """Collect what nobody refers to any more, and return the GPU's share; the caller has dropped its references."""
    gc.collect()
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.empty_cache()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Meanwhile, collect no garbage. Imports make a million objects that stay; going through them again and again takes
    a quarter of the time of importing torch, transformers and peft."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def leave_alone_what_is_here() -> None:
    """Have the collector never again go through what this process holds now, its libraries above all; done once.

    What is garbage then, or becomes so in a cycle, is never freed: for a process that is evalsuite's own.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def keep_freed_memory() -> None:
    """Have the memory of freed tensors used again, in place of handing it to the system and asking for it anew.

    Every page that the system gives is first filled with zeros. glibc returns blocks of more than 128 KiB at once,
    unless it has seen a larger one freed: then blocks up to that size are kept, and up to twice as much of them
    (mallopt(3), M_MMAP_THRESHOLD). So one block of the largest size that counts is asked for and freed, untouched. With
    what a process happened to free before, a prediction takes up to 1.8 times as long; it peaks at the same memory.
    """
    import numpy as np

    np.empty(_LARGEST_KEPT, dtype=np.uint8)


def free_memory(device: str) -> int:
    """Bytes that are free on a device: on the CPU, what can be had without swapping."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def reset_peak_memory() -> None:
    """Count the most resident memory anew, from what is held now; only Linux can, elsewhere it stays the process's."""
    if os.access(_CLEAR, os.W_OK):
        _CLEAR.write_text("5", encoding="ascii")  # proc(5): resets the peak alone


def reset_peak_gpu_memory() -> None:
    """Begin to count anew: of several runs in one process, each has its own peak."""
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_gpu_memory() -> int | None:
    """The most that torch has held on the GPU since it last began to count, in bytes; None without one."""
    torch = _torch_with_gpu()
    return None if torch is None else int(torch.cuda.max_memory_allocated())


def _torch_with_gpu() -> Any:
    """torch where it is loaded already and sees a GPU, else None: no memory is worth an import."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
