"""A side whose work is to sleep: for tests of the harness."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import Work, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Sleep for ``seconds`` a round, hold ``megabytes``, and answer what the job's input says."""
    text = (job / "input.txt").read_text(encoding="utf-8")
    if "broken" in settings:
        raise ValueError(settings["broken"])
    sys.stdout.write("a library that talks\n")  # must not reach the harness's channel

    def work() -> dict[str, Any]:
        held = np.ones(settings.get("megabytes", 0) * 125_000)
        time.sleep(settings["seconds"])
        return {"answer": np.array([len(text), settings.get("off", 0)]), "held": held[:1]}

    return work


if __name__ == "__main__":
    serve(setup)
