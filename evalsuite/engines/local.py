"""Runs cells on this machine, each in a process of its own unless they share one that keeps their base model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evalsuite.engines.gpus import environments, visible_gpus
from evalsuite.engines.processes import GRACE_SECONDS, Child, Files, Finished, Work, Worker, end
from evalsuite.errors import Interrupted
from evalsuite.llm.training.interrupts import stop_on_signal
from evalsuite.sweep import Cell

__all__ = ["Finished", "Unwatched", "Watcher", "run_cells"]

POLL_SECONDS = 0.1


class Watcher(Protocol):
    """Hears of every cell as it starts and as it ends, and ten times a second in between."""

    def started(self, cell: Cell, log: Path) -> None: ...
    def finished(self, outcome: Finished) -> None: ...
    def tick(self) -> None: ...


@dataclass(frozen=True)
class Unwatched:
    """Passes on what came of each cell, and nothing else."""

    report: Callable[[Finished], None]

    def started(self, cell: Cell, log: Path) -> None:
        """Nobody asks."""

    def finished(self, outcome: Finished) -> None:
        self.report(outcome)

    def tick(self) -> None:
        """Nobody waits."""


@dataclass
class _Slot:
    """A place where one cell at a time runs; its worker waits here for the next one."""

    environment: Mapping[str, str]
    child: Child | None = None
    worker: Worker | None = None

    @property
    def busy(self) -> bool:
        return self.child is not None or (self.worker is not None and self.worker.work is not None)

    def start(self, cell: Cell, base: str, folder: Path) -> Path:
        """Begin with a cell; gives the file that takes its log."""
        files = Files.write(cell, folder)
        work = Work(cell, files, time.monotonic())
        if self.worker is not None and self.worker.base != base:
            self.dismiss()
        if not base:
            self.child = Child(work, self.environment)
            return files.log
        if self.worker is None:
            self.worker = Worker(base, self.environment, files.log)
        self.worker.take(work)
        return files.log

    def outcome(self) -> Finished | None:
        """What came of the cell, None while it runs."""
        process = self.child or self.worker
        assert process is not None
        if (found := process.outcome()) is None:
            return None
        self.child = None
        if self.worker is not None and found.state == "failed":
            self.dismiss()  # nobody knows what the failure has left behind in it
        return found

    def dismiss(self) -> None:
        """End the worker."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.dismiss()


def run_cells(
    cells: Iterable[Cell],
    folder: Path,
    jobs: int,
    report: Callable[[Finished], None] | Watcher,
    base_of: Callable[[Cell], str] = lambda cell: "",
) -> None:
    """Run ``cells``, ``jobs`` at a time.

    Args:
        cells: what to run; asked for the next one when there is room for it.
        folder: takes a configuration and a log a cell.
        jobs: processes side by side; where there are GPUs and more than one job, each has one of its own.
        report: hears of each cell as it ends, or as a ``Watcher`` of more.
        base_of: names the base model of a cell; consecutive cells with the same one share a worker that keeps it
            loaded. A cell without one ("") has a child of its own.

    Raises:
        UsageError: more jobs than GPUs.
        Interrupted: SIGINT or SIGTERM came; all processes have ended.
        StoreError: ``folder`` cannot be written.
    """
    watcher = Unwatched(report) if callable(report) else report
    waiting, exhausted = iter(cells), False
    slots = [_Slot(environment) for environment in environments(jobs, visible_gpus() if jobs > 1 else ())]
    with stop_on_signal() as stop, _ended(slots):
        while not stop.asked:
            for slot in slots:
                if slot.busy or exhausted or stop.asked:
                    continue
                if (cell := next(waiting, None)) is None:
                    exhausted = True
                elif not stop.asked:  # a signal while it was looked for: do not begin
                    watcher.started(cell, slot.start(cell, base_of(cell), folder))
            busy = [slot for slot in slots if slot.busy]
            if not busy:
                break
            for slot in busy:
                if (outcome := slot.outcome()) is not None:
                    watcher.finished(outcome)
            watcher.tick()
            time.sleep(POLL_SECONDS)
        interrupted = stop.asked
    if interrupted:
        raise Interrupted("interrupted; what was running has been saved, and the same command goes on")


@contextmanager
def _ended(slots: Sequence[_Slot]) -> Iterator[None]:
    """Whatever happens, no process is left behind: first asked to stop and save, in the end killed."""
    try:
        yield
    finally:
        held = [process for slot in slots for process in (slot.child, slot.worker) if process is not None]
        for process in held:
            process.process.terminate()
        for process in held:
            end(process.process, GRACE_SECONDS)
            process.close()
