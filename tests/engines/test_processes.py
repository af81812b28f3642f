"""Ending the processes that run cells."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from evalsuite.engines.processes import end

STARTS_ANOTHER = """
import signal, subprocess, sys
{ignored}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize(
    "ignored", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["goes when asked", "does not listen"]
)
def test_what_a_process_has_started_ends_with_it(ignored: str) -> None:
    command = [sys.executable, "-c", STARTS_ANOTHER.format(ignored=ignored)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        started = psutil.Process(int(process.stdout.readline()))
        process.terminate()
        end(process, 1.0)
    deadline = time.monotonic() + 10
    while _alive(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(started)


def _alive(process: psutil.Process) -> bool:
    """An orphan that nobody has waited for yet is dead all the same."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
