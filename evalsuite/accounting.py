"""What a run costs: seconds, documents, tokens, memory, price. Plain numbers, from the standard library alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Phase:
    """One kind of work, such as "train". Entered again, it goes on counting."""

    seconds: float = 0.0
    documents: int = 0
    tokens: int = 0

    def to_json(self) -> dict[str, float | int | None]:
        """Counts and rates (a second); a rate is None where nothing was counted or no time passed."""
        return {
            "seconds": self.seconds,
            "documents": self.documents,
            "documents_per_second": _rate(self.documents, self.seconds),
            "tokens": self.tokens,
            "tokens_per_second": _rate(self.tokens, self.seconds),
        }


@dataclass
class Accounting:
    """Records the phases of a run by name, with a monotonic clock in seconds."""

    clock: Callable[[], float] = time.perf_counter
    phases: dict[str, Phase] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str, documents: int = 0) -> Iterator[Phase]:
        """Time a block; add documents and tokens to what it gives. A block that fails is timed too."""
        entry = self.phases.setdefault(name, Phase())
        start = self.clock()
        try:
            yield entry
        finally:
            entry.seconds += self.clock() - start
            entry.documents += documents

    def to_json(self) -> dict[str, dict[str, float | int | None]]:
        """Every phase's numbers by name, in the order they began."""
        return {name: phase.to_json() for name, phase in self.phases.items()}


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None


def peak_memory() -> int:
    """The most resident memory this process has held so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would answer with the parent's peak where a large process started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others KiB


def price(seconds: float, usd_per_hour: float | None) -> float | None:
    """Dollars for machine time; None where no hourly price is known."""
    return None if usd_per_hour is None else seconds / 3600 * usd_per_hour
