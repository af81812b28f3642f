"""evalsuite's side of ``bootstrap``: resamples by counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import Work, serve
from evalsuite.counts import bootstrap_sums, label_statistics, summaries


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """From labels [n] to macro-F1 [resamples]."""
    with np.load(job / "labels.npz") as stored:
        gold, predicted = stored["gold"], stored["predicted"]

    def work() -> dict[str, Any]:
        names = np.unique(gold)
        statistics = label_statistics(gold[:, None] == names, predicted[:, None] == names)
        sums = bootstrap_sums(statistics, settings["resamples"], seed=0)
        return {"f1": summaries(sums, len(gold))["f1_macro"]}

    return work


if __name__ == "__main__":
    serve(setup)
