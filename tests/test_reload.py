"""The reload check: passes, finds a method that forgets, and reports a process that dies."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalsuite
from evalsuite import reload
from evalsuite.contracts import Scores
from evalsuite.forkserver import ForkServer
from evalsuite.reload import DOCUMENTS, TOLERANCE, choose_documents, compare
from evalsuite.store import open_run

SPY = Path(__file__).parent / "spy_plugin.py"
pytestmark = pytest.mark.usefixtures("few_resamples")
WAYS = ["a new interpreter", "a fork"] if sys.platform == "linux" else ["a new interpreter"]


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with reload.forking():
        yield reload._servers[0]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of a fresh process, the plain one and the fast one, which must not be told apart by what they say."""
    forks = request.param == "a fork"
    server = request.getfixturevalue("fork_server") if forks else None
    monkeypatch.setattr(reload, "_servers", [server] if server else [])
    if forks:
        monkeypatch.setattr(subprocess, "run", lambda *given, **options: pytest.fail("an interpreter was started"))
    return str(request.param)


def plugin_that(tmp_path: Path, line: str, more: str = "") -> Path:
    """The tests' method, which does something more as it is loaded."""
    source = SPY.read_text(encoding="utf-8").replace('if config.break_in == "load":', f"{line}\n    if False:")
    plugin = tmp_path / "other.py"
    plugin.write_text(source + more, encoding="utf-8")
    return plugin


def run(folder: Path, plugin: Path = SPY, **options: Any) -> evalsuite.RunResult:
    return evalsuite.run("words", "spy", plugins=[plugin], output_path=folder, **options)


def logits(*rows: list[float]) -> Scores:
    return Scores(logits=np.array(rows, np.float32))


def test_a_fresh_process_repeats_the_answers(tmp_path: Path, way: str) -> None:
    check = run(tmp_path, bias=1.0).results["reload_check"]
    assert check == {
        "passed": True,
        "documents": 20,
        "labels_differ": 0,
        "labels_differ_outside_tolerance": 0,
        "largest_logit_difference": 0.0,
        "tolerance": TOLERANCE,
    }


def test_a_method_that_forgets_is_kept_and_marked(tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "evalsuite"):
        result = run(tmp_path, bias=5.0, forget=True)
    assert result.results["reload_failed"] is True
    assert result.results["reload_check"]["labels_differ_outside_tolerance"] > 0
    assert result.results["reload_check"]["largest_logit_difference"] == pytest.approx(5)
    assert open_run(result.directory, verify=True).results["reload_failed"] is True
    assert (result.directory / "spy.json").read_text() == "5.0"
    # The same bias makes it collapse, which is said too.
    [warning] = [
        text for text in caplog.messages if text.startswith("the saved model does not repeat the trained one's")
    ]
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("break_in", "code", "message"),
    [("load", 1, "as asked: zxqv"), ("exit", 9, "no message")],
)
def test_a_process_that_dies_is_reported_in_one_line(
    tmp_path: Path, way: str, break_in: str, code: int, message: str
) -> None:
    check = run(tmp_path, break_in=break_in).results["reload_check"]
    assert check == {
        "passed": False,
        "reason": f"the fresh process ended with exit code {code}",
        "message": message,
    }


def test_a_process_that_hangs_is_reported(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "TIMEOUT_SECONDS", 2)
    check = run(tmp_path, plugin_that(tmp_path, "import time; time.sleep(600)")).results["reload_check"]
    assert check == {"passed": False, "reason": "the fresh process did not answer within 2 s"}


def test_a_process_that_is_killed_is_reported(tmp_path: Path, way: str) -> None:
    check = run(tmp_path, plugin_that(tmp_path, "os.kill(os.getpid(), 9)")).results["reload_check"]
    assert check["reason"] == "the fresh process ended with exit code -9"


def test_the_answer_is_alone_on_stdout_whatever_libraries_print(tmp_path: Path, way: str) -> None:
    plugin = plugin_that(tmp_path, 'os.write(1, b"noise of C code\\n"); print("noise")')
    assert run(tmp_path / "runs", plugin).results["reload_check"]["passed"] is True


LOOKS_AROUND = """
def look(directory):
    import random, sys, threading
    assert "left" not in vars(np), "something is left of another process"
    assert threading.active_count() == 1
    assert "evalsuite.runner" not in sys.modules
    np.left = True
    seen = {"python": random.random(), "numpy": np.random.random(), "hash": hash("a"), "folder": os.getcwd()}
    seen |= {"signals": sys.modules["signal"].getsignal(2) is sys.modules["signal"].default_int_handler}
    seen |= {"torch": sys.modules["torch"].initial_seed()} if "torch" in sys.modules else {}
    (directory.parents[3] / f"seen_{os.getpid()}").write_text(json.dumps(seen))
"""


def test_every_process_is_fresh(tmp_path: Path, way: str) -> None:
    """Nothing is left of the one before or of the run, and what is random is drawn anew."""
    plugin = plugin_that(tmp_path, "look(directory)", LOOKS_AROUND)
    for seed in (0, 1):
        check = run(tmp_path / "runs", plugin, seed=seed).results["reload_check"]
        assert check["passed"] is True, check
    first, second = (json.loads(path.read_text()) for path in tmp_path.glob("seen_*"))
    assert first["python"] != second["python"]
    assert first["numpy"] != second["numpy"]
    assert hash("a") not in (first["hash"], second["hash"])  # of this process, which trained
    # a fork minds Ctrl-C; a new interpreter does what the one that started it does
    minds = way == "a fork" or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    assert first["signals"] is second["signals"] is minds
    assert first["folder"] == second["folder"] == str(Path.cwd())
    if way == "a fork":
        assert first["torch"] != second["torch"]


def test_without_its_server_a_fresh_process_is_an_interpreter(tmp_path: Path) -> None:
    """On a GPU, and once the server has died."""
    with reload.forking():
        server = reload._servers[0]
        assert reload._fresh_process([str(tmp_path), "cuda"], "[]").returncode == 1
        os.kill(server._process.pid, signal.SIGKILL)
        assert run(tmp_path / "runs").results["reload_check"]["passed"] is True
        assert reload._servers == []


def test_the_process_refuses_what_is_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evalsuite.reload", str(tmp_path), "cpu"]
    child = subprocess.run(command, input=json.dumps([]), capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert child.stderr.startswith("StoreError: ")
    assert len(child.stderr.splitlines()) == 1


def test_a_label_may_differ_within_the_tolerance_only() -> None:
    near, far = [0.0, TOLERANCE / 2, -9], [0.0, TOLERANCE * 2, -9]
    flipped = [TOLERANCE / 2, 0.0, -9]
    assert compare(logits(near), logits(flipped), False)["passed"] is True
    assert compare(logits(near), logits(flipped), False)["labels_differ"] == 1
    assert compare(logits(far), logits(flipped), False)["passed"] is False
    assert compare(logits(far, far), logits(far, flipped), False)["labels_differ_outside_tolerance"] == 1
    assert compare(logits(near), logits([0.0, TOLERANCE / 2, 9]), False)["passed"] is False


def test_one_close_call_does_not_excuse_another_label() -> None:
    assert compare(logits([0.01, 5]), logits([-0.01, 5]), True)["passed"] is True
    assert compare(logits([0.01, 5]), logits([0.01, -5]), True)["passed"] is False
    assert compare(logits([1, 5]), logits([-1, 5]), True)["passed"] is False


def test_decisions_alone_must_be_equal() -> None:
    one = Scores(predicted=np.array([[True, False], [False, True]]))
    other = Scores(predicted=np.array([[True, False], [True, False]]))
    assert compare(one, one, False)["passed"] is True
    assert compare(one, other, False)["passed"] is False
    assert compare(one, other, False)["largest_logit_difference"] is None


def test_logits_that_are_no_numbers_any_more_fail() -> None:
    assert compare(logits([1, 0]), logits([float("nan"), float("nan")]), False)["passed"] is False


def test_the_documents_are_the_closest_calls_and_a_fixed_draw() -> None:
    n = 500
    texts = [f"text {row}" for row in range(n)]
    gaps = np.random.default_rng(0).permutation(n)
    scores = Scores(logits=np.stack([gaps, np.zeros(n)], axis=1).astype(np.float32))
    chosen = choose_documents(texts, scores, False)
    assert len(chosen) == len(set(chosen)) == DOCUMENTS
    assert set(np.argsort(gaps)[: DOCUMENTS // 2]) <= set(chosen)
    without = choose_documents(texts, Scores(predicted=np.zeros((n, 2), bool)), False)
    assert len(without) == DOCUMENTS
    assert set(chosen[DOCUMENTS // 2 :]) <= set(without)
    assert choose_documents(texts[:3], Scores(logits=np.zeros((3, 2), np.float32)), False) == [0, 1, 2]


def test_documents_without_an_answer_are_not_asked_for_again() -> None:
    states = ["ok", "failed", "invalid", "failed"]
    texts = ["a", "b", "c", "d"]
    written = Scores(predicted=np.zeros((4, 2), bool), status=states)
    assert sorted(choose_documents(texts, written, False)) == [0, 2]
    scored = Scores(logits=np.zeros((4, 2), np.float32), status=states)
    assert sorted(choose_documents(texts, scored, False)) == [0, 2]
