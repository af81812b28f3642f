"""The GPU's memory: read where torch is loaded, never a reason to load it."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from evalsuite.memory import (
    collector_paused,
    leave_alone_what_is_here,
    peak_gpu_memory,
    release_memory,
    reset_peak_gpu_memory,
)


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


def test_the_collector_goes_on_after_a_pause_and_stays_off_where_it_was() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_comes_later_is_collected() -> None:
    gc.unfreeze()
    leave_alone_what_is_here()
    assert (count := gc.get_freeze_count()) > 10_000
    later = [object() for _ in range(10)]
    later.append(later)
    leave_alone_what_is_here()
    assert gc.get_freeze_count() == count
    del later
    assert gc.collect() > 0
    gc.unfreeze()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator, and Linux counts the pages")
def test_trap_memory_of_freed_tensors_is_not_asked_for_anew() -> None:
    """Counted in a fresh process: one that has freed a large block already behaves like that by itself."""
    code = """
import resource, sys
import torch
from torch.nn.functional import silu
from evalsuite.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
torch.set_num_threads(1)
inputs, up, down = torch.randn(1000, 192), torch.randn(4, 192, 512), torch.randn(4, 512, 192)
for turn in range(12):
    if turn == 2:  # the first take their pages in any case
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    states = inputs * 2
    for layer in range(4):
        states = states + (silu(states @ up[layer]) * (states @ up[layer])) @ down[layer]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def pages(how: str, **limits: str) -> int:
        command, variables = [sys.executable, "-c", code, how], {**os.environ, **limits}
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout)

    of_states = 1000 * 192 * 4 // resource.getpagesize()  # pages of one layer's input
    # held where glibc begins: what it came to by itself would depend on what importing torch freed
    returned = pages("returned", MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")
    assert returned > 10 * 4 * of_states
    assert pages("kept") < 10 * of_states
