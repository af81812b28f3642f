"""Runs a command in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from evalsuite.cli.app import main

SPY = Path(__file__).parent.parent / "spy_plugin.py"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """``cli("ls", "tasks")`` -> exit code and what was printed. The package's logger is put back as it was."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    log = logging.getLogger("evalsuite")
    before = log.handlers[:], log.level, log.propagate
    yield call
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture
def spy() -> tuple[str, ...]:
    """The flags that name the plugin of the tests."""
    return ("--plugin", str(SPY))
