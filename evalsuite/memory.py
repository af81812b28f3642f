"""Gives a model's memory back, so that the next one has room."""

from __future__ import annotations

import gc
import sys


def release_memory() -> None:
    """Collect what nobody refers to any more, and return the GPU's share; the caller has dropped its references."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
