"""Runs cells on this machine, each in a child process of its own: one that dies takes no other with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from evalsuite.errors import Interrupted
from evalsuite.llm.interrupts import stop_on_signal
from evalsuite.store import write_yaml, writing
from evalsuite.sweep import Cell

POLL_SECONDS = 0.1
# Enough for a child to finish its step and save; after that it is ended without asking again.
GRACE_SECONDS = 300.0
LONGEST_LINE = 500  # characters of an error that are repeated

State = Literal["done", "there", "failed"]


@dataclass(frozen=True)
class Finished:
    """What came of a cell.

    state: "done" now, "there" before, or "failed". results: the content of ``results.json``, None where it failed.
    seconds: wall time of the child. problem: the last line it wrote on stderr, empty unless it failed. log: where the
    whole of stderr is kept.
    """

    cell: Cell
    state: State
    results: Mapping[str, Any] | None = None
    seconds: float = 0.0
    problem: str = ""
    log: Path | None = None


@dataclass
class _Child:
    cell: Cell
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    log: Path
    start: float

    def outcome(self) -> Finished:
        """Read what the ended process left."""
        code, seconds = self.process.returncode, time.monotonic() - self.start
        if code == 0:
            self.output.seek(0)
            # Whatever a library printed before it, the result is the last line.
            return Finished(self.cell, "done", json.loads(self.output.read().splitlines()[-1]), seconds, log=self.log)
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), f"it ended with code {code} and said nothing")
        return Finished(self.cell, "failed", None, seconds, last[:LONGEST_LINE], self.log)


def run_cells(cells: Iterable[Cell], folder: Path, jobs: int, report: Callable[[Finished], None]) -> None:
    """Run ``cells``, ``jobs`` at a time; ``report`` hears of each as it ends.

    ``folder`` takes a configuration and a log a cell. Children stand in process groups of their own, so that a
    Ctrl-C on the terminal reaches them once, from here, and each saves what it has.

    Raises:
        Interrupted: SIGINT or SIGTERM came; all children have ended.
        StoreError: ``folder`` cannot be written.
    """
    waiting, running = iter(cells), list[_Child]()
    exhausted = False
    with stop_on_signal() as stop, _ended(running):
        while running or not exhausted:
            while len(running) < jobs and not exhausted and not stop.asked:
                if (cell := next(waiting, None)) is None:
                    exhausted = True
                else:
                    running.append(_start(cell, folder, jobs))
            if stop.asked:
                break
            for child in [child for child in running if child.process.poll() is not None]:
                running.remove(child)
                with child.output:
                    report(child.outcome())
            if running:
                time.sleep(POLL_SECONDS)
        interrupted = stop.asked
    if interrupted:
        raise Interrupted("interrupted; what was running has been saved, and the same command goes on")


@contextmanager
def _ended(running: list[_Child]) -> Iterator[None]:
    """Whatever happens, no child is left behind: first asked to stop and save, in the end killed."""
    try:
        yield
    finally:
        for child in running:
            child.process.terminate()
        for child in running:
            try:
                child.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.output.close()


def _start(cell: Cell, folder: Path, jobs: int) -> _Child:
    config, log = folder / f"{cell.file_name}.yaml", folder / f"{cell.file_name}.log"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(config, cell.values)
        with log.open("wb") as stderr:
            output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
            process = subprocess.Popen(
                [sys.executable, "-m", "evalsuite", "run", "--config", str(config), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=stderr,
                env=_environment(jobs),
                process_group=0,
            )
    return _Child(cell, process, output, log, time.monotonic())


def _environment(jobs: int) -> dict[str, str]:
    """Children that run side by side share the processors instead of each taking all of them."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return {"OMP_NUM_THREADS": str(threads), **os.environ} if jobs > 1 else dict(os.environ)
