"""Commands that only list start fast."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

# What every one of them needs: numbers, options, a command line.
FLOOR = ["-c", "import numpy, pydantic, typer, rich.console"]


def cpu_seconds(arguments: list[str]) -> float:
    """Processor time of a Python process: on a busy machine it says more than the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("command", ["ls tasks", "--help", "plugins"])
def test_a_listing_costs_little_more_than_its_libraries(command: str) -> None:
    floor = min(cpu_seconds(FLOOR) for _ in range(3))
    own = min(cpu_seconds(["-m", "evalsuite", *command.split()]) for _ in range(3))
    assert own < 3 * floor, f"{own:.2f} s, its libraries alone {floor:.2f} s; see: python -X importtime -m evalsuite"
