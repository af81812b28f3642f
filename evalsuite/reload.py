"""The reload check: a fresh process opens the saved run and must say what the trained method said.

Run as ``python -m evalsuite.reload DIRECTORY DEVICE``: texts come as JSON on stdin, scores go as JSON to stdout:
private text never touches the disk. Where many runs are checked one after the other, the process may be a fork of one
that has imported the libraries: see ``evalsuite.forkserver``.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Scores
from evalsuite.data.splits import text_hash
from evalsuite.environment import without_launcher
from evalsuite.errors import EvalsuiteError
from evalsuite.forkserver import FLAG, ForkServer, forked
from evalsuite.memory import collector_paused, leave_alone_what_is_here

DOCUMENTS = 64
# Twice the largest logit difference measured between a 4-bit model and its reload by plain transformers + peft, 0.009,
# rounded up: a label may change only where its logit is nearer than this to where it would change.
TOLERANCE = 0.02
TIMEOUT_SECONDS = 1800
LIBRARIES = (
    "evalsuite.opening",
    "evalsuite.progress",
    "evalsuite.llm.loading.backbone",
)  # with all that is slow to import

_servers: list[ForkServer] = []  # at most one


def margins(scores: Scores, multilabel: bool) -> npt.NDArray[np.float64] | None:
    """How far each document's decision is from flipping, in logits [n]; None without logits."""
    if scores.logits is None:
        return None
    logits = scores.logits.astype(np.float64)
    if multilabel:
        nearest: npt.NDArray[np.float64] = np.abs(logits).min(axis=1)
        return nearest
    best = np.sort(logits, axis=1)
    gap: npt.NDArray[np.float64] = best[:, -1] - best[:, -2]
    return gap


def choose_documents(texts: Sequence[str], scores: Scores, multilabel: bool) -> list[int]:
    """At most 64 documents: the half with the smallest margins, the other half by a hash of the text.

    A document that got no answer has nothing to repeat, and asking a hosted model again would cost.
    """
    answered = [row for row, status in enumerate(scores.status) if status != "failed"]
    by_hash = sorted(answered, key=lambda row: text_hash(texts[row]))
    gaps = margins(scores, multilabel)
    closest = [] if gaps is None else sorted(answered, key=lambda row: gaps[row])[: DOCUMENTS // 2]
    return list(dict.fromkeys([*closest, *by_hash]))[:DOCUMENTS]


def decisions(scores: Scores, multilabel: bool) -> npt.NDArray[np.bool_]:
    """Plain decisions bool [n, k]: argmax; multi-label: a logit above 0; without logits the method's own."""
    if scores.logits is None:
        assert scores.predicted is not None
        return scores.predicted
    if multilabel:
        return np.asarray(scores.logits > 0)
    return np.asarray(scores.logits == scores.logits.max(axis=1, keepdims=True))


def _close_calls(scores: Scores, multilabel: bool) -> npt.NDArray[np.bool_]:
    """bool [n, k]: labels whose logit is within the tolerance of the best one, for multi-label of 0."""
    if scores.logits is None:
        return np.zeros((len(scores), 1), dtype=bool)
    logits = scores.logits.astype(np.float64)
    border = 0.0 if multilabel else logits.max(axis=1, keepdims=True)
    return np.asarray(np.abs(logits - border) <= TOLERANCE)


def compare(expected: Scores, reloaded: Scores, multilabel: bool) -> dict[str, Any]:
    """Agreement of two scores of the same documents, as plain numbers; ``passed`` is the verdict."""
    differs = decisions(expected, multilabel) != decisions(reloaded, multilabel)
    wrong = (differs & ~_close_calls(expected, multilabel)).any(axis=1)
    largest = None
    if expected.logits is not None and reloaded.logits is not None and len(expected):
        wrong |= np.isfinite(expected.logits).all(axis=1) & ~np.isfinite(reloaded.logits).all(axis=1)
        largest = float(np.abs(expected.logits - reloaded.logits).max())
    return {
        "passed": not wrong.any(),
        "documents": len(expected),
        "labels_differ": int(differs.any(axis=1).sum()),
        "labels_differ_outside_tolerance": int(wrong.sum()),
        "largest_logit_difference": largest,
        "tolerance": TOLERANCE,
    }


def check_reload(
    directory: Path, texts: Sequence[str], expected: Scores, multilabel: bool, device: str
) -> dict[str, Any]:
    """Open ``directory`` in a fresh process and compare. A failed reload is reported, not raised: the run is kept.

    ``message`` in what comes back, where there is one, is the process's own last line and may quote a document.
    """
    try:
        child = _fresh_process([str(directory), device], json.dumps(list(texts)))
    except subprocess.TimeoutExpired:
        return {"passed": False, "reason": f"the fresh process did not answer within {TIMEOUT_SECONDS} s"}
    if child.returncode:
        lines = child.stderr.strip().splitlines() or ["no message"]
        reason = f"the fresh process ended with exit code {child.returncode}"
        return {"passed": False, "reason": reason, "message": lines[-1]}
    answer = json.loads(child.stdout)
    reloaded = Scores(
        logits=None if answer["logits"] is None else np.array(answer["logits"], dtype=np.float32),
        predicted=None if answer["predicted"] is None else np.array(answer["predicted"], dtype=bool),
    )
    if len(reloaded) != len(expected):
        return {"passed": False, "reason": f"{len(reloaded)} answers came back for {len(expected)} documents"}
    return compare(expected, reloaded, multilabel)


@contextmanager
def forking() -> Iterator[None]:
    """Meanwhile, runs on the CPU are checked in forks of one process; does nothing where that cannot be."""
    if sys.platform != "linux":
        yield
        return
    server = ForkServer("evalsuite.reload")
    _servers.append(server)
    try:
        yield
    finally:
        _servers.clear()
        server.close()


def _fresh_process(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    """Run this module in a process of its own. Raises: TimeoutExpired."""
    if _servers and arguments[-1] == "cpu":
        try:
            return _servers[0].run(arguments, text, TIMEOUT_SECONDS)
        except ConnectionError:
            _servers.clear()
    return subprocess.run(
        [sys.executable, "-m", "evalsuite.reload", *arguments],
        input=text,
        env=without_launcher(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def main(arguments: Sequence[str]) -> int:
    """The fresh process: ``DIRECTORY DEVICE``."""
    from evalsuite.opening import open_method, read_request
    from evalsuite.progress import Silent
    from evalsuite.registry import build_registry

    directory, device = Path(arguments[0]), arguments[1]
    texts = json.load(sys.stdin)
    # Libraries print on stdout as they like, those in C too; the answer must be the only thing there.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    registry = build_registry(read_request(directory).spec.plugins)
    with collector_paused():
        method = open_method(directory, registry, Silent(), device)
    scores = method.predict(texts)
    answer = {
        "logits": None if scores.logits is None else scores.logits.astype(float).tolist(),
        "predicted": None if scores.predicted is None else scores.predicted.tolist(),
    }
    with answers:
        json.dump(answer, answers)
    return 0


def serve(number: int) -> None:
    """Import, and be the fork server on socket ``number``; each fork is the fresh process."""
    from evalsuite.registry import BUILT_IN

    with collector_paused():
        for name in (*LIBRARIES, *BUILT_IN):
            importlib.import_module(name)
    leave_alone_what_is_here()  # the forks need not go through it, nor copy it
    arguments = forked(number)
    np.random.seed()  # as in a new interpreter; Python's own generator does so itself
    sys.modules["torch"].seed()
    code = main(arguments)
    sys.stderr.flush()
    os._exit(code)  # at once: what is left is to take apart what was imported


if __name__ == "__main__":
    try:
        if sys.argv[1] == FLAG:
            serve(int(sys.argv[2]))
        sys.exit(main(sys.argv[1:]))
    except EvalsuiteError as error:
        sys.exit(f"{type(error).__name__}: {error}")
