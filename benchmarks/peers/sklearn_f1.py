"""scikit-learn's side of ``bootstrap``: f1_score for every resample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from benchmarks.worker import Work, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """From labels [n] to macro-F1 [resamples], and the documents of each resample [resamples, n]."""
    with np.load(job / "labels.npz") as stored:
        gold, predicted = stored["gold"], stored["predicted"]
    labels, random = np.unique(gold), np.random.default_rng(1)

    def work() -> dict[str, Any]:
        scores, draws = [], []
        for _ in range(settings["resamples"]):
            drawn = random.integers(len(gold), size=len(gold))
            scores.append(f1_score(gold[drawn], predicted[drawn], labels=labels, average="macro"))
            draws.append(drawn)
        return {"f1": np.array(scores), "drawn": np.stack(draws)}

    return work


if __name__ == "__main__":
    serve(setup)
