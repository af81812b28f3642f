"""A real SIGTERM in a real process: exit 75, the state saved, and the next run goes on from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training_setup import classifier, context, documents, objective, quick

from evalsuite.llm.training.interrupts import stop_on_signal
from evalsuite.llm.training.loop import train

TRAINING = """
import sys, time
from dataclasses import replace
from pathlib import Path

from training_setup import classifier, context, documents, objective, quick
from evalsuite.errors import Interrupted
from evalsuite.llm.training.loop import train

backbone = classifier(Path(sys.argv[1]))
goal = objective(backbone, documents(20))

def losses(model, batch):
    print("in a step", flush=True)
    time.sleep(0.5)
    return goal.losses(model, batch)

try:
    train(backbone, replace(goal, losses=losses), quick(), context(Path(sys.argv[2])))
except Interrupted as stop:
    print(stop)
    sys.exit(stop.exit_code)
"""
WAITING = """
import time
from evalsuite.llm.training.interrupts import stop_on_signal

with stop_on_signal() as request:
    print("ready", flush=True)
    while not request.asked:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        yield child
        child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_sigterm_in_training_saves_exits_75_and_goes_on(tiny_llama: Path, tmp_path: Path) -> None:
    """SIGTERM must not end with exit 0 and a half-trained model."""
    with process(TRAINING, tiny_llama, tmp_path) as child:
        assert line(child) == "in a step"
        child.send_signal(signal.SIGTERM)
        output, _ = child.communicate(timeout=60)
    assert child.returncode == 75
    assert "stopped after step 1 of 6; the state is saved" in output
    backbone = classifier(tiny_llama)
    goal = objective(backbone, documents(20))
    resumed = train(backbone, goal, quick(), context(tmp_path))
    whole = classifier(tiny_llama)
    expected = train(whole, objective(whole, documents(20)), quick(), context(tmp_path / "whole"))
    assert resumed.losses == pytest.approx(expected.losses, rel=1e-4)


def test_a_second_signal_stops_at_once() -> None:
    with process(WAITING) as child:
        assert line(child) == "ready"
        child.send_signal(signal.SIGTERM)
        assert line(child) == "asked"
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_old_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signal() as request:
        assert not request.asked
        os.kill(os.getpid(), number)
        assert request.asked
    assert signal.getsignal(number) is before
