"""The processes that run cells: a child for one cell alone, or a worker that takes one cell after the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from evalsuite.store import write_yaml, writing
from evalsuite.sweep import Cell

# Enough for a process to finish its step and save; after that it is ended without asking again.
GRACE_SECONDS = 300.0
LONGEST_LINE = 500  # characters of an error that are repeated

State = Literal["done", "there", "failed"]


@dataclass(frozen=True)
class Finished:
    """What came of a cell.

    state: "done" now, "there" before, or "failed". results: the content of ``results.json``, None where it failed.
    seconds: wall time. problem: the last line it wrote on stderr, empty unless it failed. code: the exit code, None
    where no process ran or one was killed. log: where the whole of stderr is kept.
    """

    cell: Cell
    state: State
    results: Mapping[str, Any] | None = None
    seconds: float = 0.0
    problem: str = ""
    code: int | None = 0
    log: Path | None = None


@dataclass(frozen=True)
class Files:
    """Where a cell's configuration and log are kept."""

    config: Path
    log: Path

    @classmethod
    def write(cls, cell: Cell, folder: Path) -> Files:
        """Write the configuration and an empty log. Raises: StoreError."""
        files = cls(folder / f"{cell.file_name}.yaml", folder / f"{cell.file_name}.log")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_yaml(files.config, cell.values)
            files.log.write_bytes(b"")
        return files

    @property
    def arguments(self) -> list[str]:
        """What follows ``evalsuite`` to run the cell."""
        return ["run", "--config", str(self.config), "--json"]


@dataclass
class Work:
    """A cell in the hands of a process."""

    cell: Cell
    files: Files
    start: float

    def finished(self, code: int | None, output: str | None) -> Finished:
        """Read what the process left; whatever a library printed before it, the result is the last line."""
        seconds, log = time.monotonic() - self.start, self.files.log
        if code == 0 and output:
            return Finished(self.cell, "done", json.loads(output.splitlines()[-1]), seconds, log=log)
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = "it was killed" if code is None or code < 0 else f"it ended with code {code}"
        last = next((line for line in reversed(lines) if line.strip()), f"{said} and said nothing")
        return Finished(self.cell, "failed", None, seconds, last[:LONGEST_LINE], code, log)


class Child:
    """A process for one cell."""

    def __init__(self, work: Work, environment: Mapping[str, str]) -> None:
        self.work = work
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        with work.files.log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "evalsuite", *work.files.arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=stderr,
                env=environment,
                # A group of its own: Ctrl-C on the terminal reaches it once, from here, and it saves what it has.
                process_group=0,
            )

    def outcome(self) -> Finished | None:
        """What came of the cell, None while it runs."""
        if self.process.poll() is None:
            return None
        with self._output:
            self._output.seek(0)
            return self.work.finished(self.process.returncode, self._output.read().decode(errors="replace"))

    def close(self) -> None:
        """Let go of what belongs to the process, which has ended."""
        self._output.close()


class Worker:
    """A process that runs cells one after the other and keeps the libraries and the ``base`` model of them loaded.

    A line of JSON goes in for each cell, one comes out: see ``evalsuite.cli.worker``.
    """

    def __init__(self, base: str, environment: Mapping[str, str], log: Path) -> None:
        """``log``: takes what it says until it has its first cell."""
        self.base = base
        self.work: Work | None = None
        self._answer = b""
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "evalsuite.cli.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                process_group=0,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin, self.process.stdout
        os.set_blocking(self._answers.fileno(), False)

    def take(self, work: Work) -> None:
        """Begin with a cell; the one before has ended."""
        self.work = work
        request = {"arguments": work.files.arguments, "log": str(work.files.log)}
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            self.process.wait()  # it has died, which ``outcome`` will tell

    def outcome(self) -> Finished | None:
        """What came of the cell, None while it runs. A worker whose cell has failed takes no other."""
        assert self.work is not None
        ended = self.process.poll() is not None  # asked before reading, so that its last words are not missed
        self._answer += self._answers.read() or b""
        line, newline, rest = self._answer.partition(b"\n")
        if newline:
            answer, self._answer = json.loads(line), rest
            outcome = self.work.finished(answer["code"], answer["output"])
        elif ended:
            outcome = self.work.finished(self.process.returncode, None)
        else:
            return None
        self.work = None
        return outcome

    def dismiss(self) -> None:
        """End it between two cells: it goes when no more requests can come."""
        self.close()
        end(self.process, GRACE_SECONDS)

    def close(self) -> None:
        """Close the pipes."""
        try:
            self._requests.close()
        except BrokenPipeError:
            self.process.wait()
        self._answers.close()


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process that was asked to stop, and kill it where it does not; what it has started ends with it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError):  # nothing of its group is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
