"""Gives a model's memory back, so that the next one has room, and says how much was held."""

from __future__ import annotations

import gc
import sys


def release_memory() -> None:
    """Collect what nobody refers to any more, and return the GPU's share; the caller has dropped its references."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_gpu_memory() -> int | None:
    """The most that torch has held on the GPU since it last began to count, in bytes; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())
