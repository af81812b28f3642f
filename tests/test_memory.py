"""The GPU's memory: read where torch is loaded, never a reason to load it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from evalsuite.memory import peak_gpu_memory, release_memory, reset_peak_gpu_memory


def test_the_peak_is_there_where_a_gpu_is() -> None:
    reset_peak_gpu_memory()
    release_memory()
    assert (peak_gpu_memory() is None) == (not torch.cuda.is_available())


def test_the_peak_is_counted_from_the_last_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuda:
        peak = 3 * 2**30

        def is_available(self) -> bool:
            return True

        def max_memory_allocated(self) -> int:
            return self.peak

        def reset_peak_memory_stats(self) -> None:
            self.peak = 0

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda()))
    assert peak_gpu_memory() == 3 * 2**30
    reset_peak_gpu_memory()
    assert peak_gpu_memory() == 0


def test_without_torch_there_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    reset_peak_gpu_memory()
    assert peak_gpu_memory() is None
    assert "torch" not in sys.modules
