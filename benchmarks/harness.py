"""Both sides in turn: A B A B, round by round, the ratio pair by pair, and a check that they computed the same.

A case is one row: its inputs are written once into a folder that every side reads; each side is a process that sets
itself up outside the clock (see ``worker``) or a whole command that is timed from start to exit. A machine's speed
drifts, so a ratio is taken between neighbours in time and its median is what is quoted.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / ".peers" / "bin" / "python"
TORCHS_PRODUCTS = "EVALSUITE_BENCHMARK_TORCHS_PRODUCTS"  # set for a side that does without oneDNN
OUT_OF_MEMORY = "OutOfMemoryError"  # how a side's log ends where a GPU's memory did
Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Options:
    """How a benchmark is run: ``small`` for a try of a few seconds; ``data``: a folder with more data, or None."""

    rounds: int = 5
    small: bool = False
    data: Path | None = None


@dataclass(frozen=True)
class Side:
    """One side: a ``module`` that serves rounds, or a ``command`` that is timed as a whole process.

    peer: it runs in the peers' environment. tries: settings of which the fastest is taken, each tried once; what every
    one took is written down. share: how much of the work it does in a round, where all of it would take too long; its
    seconds are divided by that, and its name should say so. variables: more of its environment. In a command, {python},
    {bin} and {job} stand for the environment's interpreter, the folder it lies in, and the job's folder; it may write
    what the check compares to {job}/NAME.npz.
    """

    name: str
    module: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    peer: bool = False
    tries: Sequence[Mapping[str, Any]] = ()
    command: Sequence[str] = ()
    share: float = 1.0
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """Something that both sides must agree on: ``value`` beside the ``limit`` that it was held to."""

    what: str
    value: float
    limit: float
    ok: bool


@dataclass(frozen=True)
class Floor:
    """Seconds that nothing on this machine can go below, and how they were worked out."""

    seconds: float
    how: str


@dataclass(frozen=True)
class Case:
    """One row of the comparison. The first side is evalsuite's; the others are its peers.

    prepare: writes the inputs into the job's folder, the same for all sides. check: from each side's outputs, by its
    name. targets: the ratio aimed at, peer's seconds over ours, by the peer's name. memory: our peak over the peer's,
    at most. cores: how many cores a side may use; None: all.
    """

    name: str
    work: str
    prepare: Callable[[Path, Options], None]
    sides: Sequence[Side]
    targets: Mapping[str, float]
    check: Callable[[Path, Mapping[str, Outputs]], list[Check]]
    floor: Callable[[Path, Mapping[str, Outputs]], Floor | None] = lambda job, outputs: None
    memory: Mapping[str, float] = field(default_factory=dict)
    cores: int | None = None


class SideError(RuntimeError):
    """A side ended, or answered what no side answers; the message has the end of what it printed."""


class Served:
    """A side that keeps its model loaded and does a round when asked."""

    def __init__(self, side: Side, job: Path, cores: int | None) -> None:
        self.side, self.log, self.output = side, job / f"{slug(side.name)}.log", job / f"{slug(side.name)}.npz"
        python = interpreter(side)
        self._errors: IO[bytes] = self.log.open("ab")
        self._process = subprocess.Popen(
            [python, "-m", side.module, str(job), json.dumps(dict(side.settings)), str(self.output)],
            cwd=ROOT,
            env=environment(cores) | dict(side.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            preexec_fn=lambda: stay_on(cores),
        )
        try:
            self._answer("ready")
        except SideError:
            self.close()
            raise

    def round(self) -> tuple[float, int]:
        """(seconds, peak bytes) of the work done once."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        measured = self._answer("seconds")
        self._answer("written")
        return float(measured["seconds"]), int(measured["peak_bytes"])

    def close(self) -> None:
        """Let the side end."""
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()
        self._process.wait(timeout=60)

    def _answer(self, key: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideError(f"{self.side.name} ended with {self._process.wait()}:\n{tail(self.log)}")
        message: dict[str, Any] = json.loads(line)
        if key not in message:
            raise SideError(f"{self.side.name} answered {line.strip()!r} where {key!r} was due")
        return message


class Whole:
    """A side that is a command: every round is a process of its own."""

    def __init__(self, side: Side, job: Path, cores: int | None) -> None:
        self.side, self.log, self.output = side, job / f"{slug(side.name)}.log", job / f"{slug(side.name)}.npz"
        python = interpreter(side)
        words = {"{python}": python, "{bin}": str(Path(python).parent), "{job}": str(job)}
        self._command = [_filled(part, words) for part in side.command]
        self._environment, self._cores = environment(cores) | dict(side.variables), cores

    def round(self) -> tuple[float, int]:
        """(seconds, peak bytes of the largest single process) of the command from start to exit."""
        with self.log.open("ab") as log:
            started = time.perf_counter()
            process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: stay_on(self._cores),
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SideError(f"{self.side.name} ended with {process.returncode}:\n{tail(self.log)}")
        return seconds, usage.ru_maxrss * 1024

    def close(self) -> None:
        """Nothing is left running."""


def run_case(case: Case, options: Options, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure a case: what ``results/NAME.json`` holds, but for the command and the machine.

    Raises:
        SideError: a side ended with an error.
    """
    job = Path(tempfile.mkdtemp(prefix="evalsuite-benchmark-"))
    try:
        say(f"{case.name}: inputs")
        case.prepare(job, options)
        sides, tried = [], {}
        for side in case.sides:
            best, tried[side.name] = fastest(side, job, case.cores, say)
            sides.append(best)
        seconds, peaks, outputs = measure(sides, job, case.cores, options.rounds, say)
        return summary(case, sides, tried, seconds, peaks) | {
            "rounds": options.rounds,
            "small": options.small,
            "checks": [vars(check) for check in case.check(job, outputs)],
            "floor": _floor(case.floor(job, outputs), seconds[sides[0].name]),
        }
    finally:
        shutil.rmtree(job, ignore_errors=True)


def fastest(side: Side, job: Path, cores: int | None, say: Callable[[str], None]) -> tuple[Side, list[dict[str, Any]]]:
    """The side with the best of its ``tries``, and what each took: the second of two rounds, the first warms up.

    A try that a GPU's memory is too small for is left out.

    Raises:
        SideError: the side ended with another error, or the memory was too small for every try.
    """
    tried: list[dict[str, Any]] = []
    for settings in side.tries:
        candidate = replace(side, settings={**side.settings, **settings}, tries=())
        try:
            with closing(start(candidate, job, cores)) as running:
                running.round()
                seconds = running.round()[0] / side.share
        except SideError as error:
            if not out_of_memory(error) or (not tried and settings is side.tries[-1]):
                raise
            say(f"  {side.name} with {settings}: more memory than there is")
            continue
        say(f"  {side.name} with {settings}: {seconds:.3f} s")
        tried.append({"settings": dict(settings), "seconds": seconds})
    if not tried:
        return side, []
    best = min(tried, key=lambda one: one["seconds"])
    return replace(side, settings={**side.settings, **best["settings"]}, tries=()), tried


def out_of_memory(error: SideError) -> bool:
    """Whether a GPU's memory was too small. Further up, the log holds what an earlier try ended with."""
    return OUT_OF_MEMORY in "\n".join(str(error).splitlines()[-3:])


def measure(
    sides: Sequence[Side], job: Path, cores: int | None, rounds: int, say: Callable[[str], None]
) -> tuple[dict[str, list[float]], dict[str, list[int]], dict[str, Outputs]]:
    """Seconds and peak bytes of every round by side, after one round that is not counted; and the last outputs."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    peaks: dict[str, list[int]] = {side.name: [] for side in sides}
    with ExitStack() as stack:
        running = [stack.enter_context(closing(start(side, job, cores))) for side in sides]
        for turn in range(rounds + 1):
            for one in running:
                took, peak = one.round()
                took /= one.side.share
                say(f"  round {turn}, {one.side.name}: {took:.3f} s")
                if turn:
                    seconds[one.side.name].append(took)
                    peaks[one.side.name].append(peak)
    outputs = {}
    for one in running:
        if one.output.is_file():
            with np.load(one.output) as stored:
                outputs[one.side.name] = dict(stored)
    return seconds, peaks, outputs


def summary(
    case: Case,
    sides: Sequence[Side],
    tried: Mapping[str, list[dict[str, Any]]],
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Every round, and what is quoted of them: medians, and the ratios pair by pair."""
    ours, *others = [side.name for side in sides]
    ratios: dict[str, dict[str, Any]] = {}
    for name in others:
        pairs = [theirs / mine for theirs, mine in zip(seconds[name], seconds[ours], strict=True)]
        target = case.targets.get(name)
        ratios[name] = {**spread(pairs), "target": target}
        if name in case.memory:
            share = statistics.median(peaks[ours]) / statistics.median(peaks[name])
            ratios[name] |= {"memory": share, "memory_target": case.memory[name]}
    return {
        "case": case.name,
        "work": case.work,
        "cores": case.cores,
        "sides": [
            {
                "name": side.name,
                "settings": dict(side.settings),
                "share": side.share,
                "tried": tried[side.name],
                "seconds": list(seconds[side.name]),
                "peak_bytes": list(peaks[side.name]),
            }
            for side in sides
        ],
        "ratios": ratios,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def with_torchs_products(ours: Side) -> Side:
    """Our side once more, without what a processor gains by oneDNN: how much of a ratio that is."""
    return replace(ours, name=f"{ours.name}, torch's own products", variables={TORCHS_PRODUCTS: "1"})


def start(side: Side, job: Path, cores: int | None) -> Served | Whole:
    """The side, ready for its first round."""
    return Whole(side, job, cores) if side.command else Served(side, job, cores)


def interpreter(side: Side) -> str:
    """The Python of the side's environment.

    Raises:
        SideError: the peers' environment is not there.
    """
    if not side.peer:
        return sys.executable
    if not PEERS.is_file():
        raise SideError(f"{side.name} needs the peers' environment, and {PEERS} is not there: run `make peers`")
    return str(PEERS)


def environment(cores: int | None) -> dict[str, str]:
    """The variables of a side: no hub is asked, and it computes on ``cores`` cores (None: all that there are)."""
    count = cores or len(os.sched_getaffinity(0))
    threads = {name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    return os.environ | threads | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}


def stay_on(cores: int | None) -> None:
    """Keep this process, a side that is being started, on the first ``cores`` of those there are."""
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def tail(log: Path, lines: int = 15) -> str:
    """The end of what a side printed."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def slug(name: str) -> str:
    """A side's name as the name of a file."""
    return "".join(character if character.isalnum() else "_" for character in name)


def _filled(part: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        part = part.replace(word, value)
    return part


def _floor(floor: Floor | None, seconds: Sequence[float]) -> dict[str, Any] | None:
    if floor is None:
        return None
    return {"seconds": floor.seconds, "how": floor.how, "share": floor.seconds / statistics.median(seconds)}
