"""Run directories for the tests of reports: everything that a page reads, made in a few milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import finished_runs
import numpy as np

from evalsuite.calibration import measures, probabilities_of, reliability_bins
from evalsuite.metrics import Bootstrap, evaluate
from evalsuite.samples import Samples, write_samples
from evalsuite.spec import RunResult
from evalsuite.store import MARKER, RESULTS, digest_of, file_digest, open_run, write_json


def scores(n: int, k: int, seed: int, right: float, multilabel: bool = False) -> tuple[Any, Any]:
    """Gold labels, the same for every seed, and logits that find them with a signal of strength ``right``."""
    dice, gold_dice = np.random.default_rng(seed), np.random.default_rng(1)
    gold = gold_dice.random((n, k)) < 1.5 / k if multilabel else np.eye(k, dtype=bool)[gold_dice.integers(0, k, n)]
    return gold, dice.normal(size=(n, k)) + right * (gold - (0.5 if multilabel else 0.0))


def write_run(
    folder: Path, seed: int = 0, method: str = "net", right: float = 2.0, n: int = 60, **parts: Any
) -> RunResult:
    """A complete run directory. ``parts`` replace entries of ``results.json``; further ones change the run itself.

    labels, multilabel, status and texts are of its documents; probabilities=False: the method gives none; options are
    of the method, interval is drawn unless it is False.
    """
    labels = tuple(parts.pop("labels", ("World", "Sports", "Business", "Sci/Tech")))
    multilabel, status = parts.pop("multilabel", False), parts.pop("status", ["ok"] * n)
    texts, options = parts.pop("texts", None), parts.pop("options", {})
    shift = parts.pop("shift", 0)
    gold, logits = scores(n, len(labels), 100 + seed + shift, right, multilabel)
    probabilities = probabilities_of(logits, multilabel) if parts.pop("probabilities", True) else None
    predicted = logits > 0 if multilabel else np.eye(len(labels), dtype=bool)[logits.argmax(axis=1)]
    hashes = tuple(f"{row + shift * 10**6:032x}" for row in range(n))
    samples = Samples(tuple(map(str, range(n))), hashes, gold, predicted, probabilities, tuple(status), labels)
    results = _results(samples, seed, method, options, multilabel, parts.pop("interval", True)) | parts
    for name in ("limit", "train_size"):
        if name in options:
            results["identity"][name] = options[name]
    directory = folder / f"{method}-{seed}-{len(list(folder.glob('*')))}"
    directory.mkdir(parents=True)
    write_json(directory / RESULTS, results)
    written = write_samples(directory, results["task"], samples, texts, None)
    (directory / "config.yaml").write_text("method: net\n")
    files = {path.name: path for path in (directory / RESULTS, written)}
    write_json(
        directory / MARKER,
        {name: {"bytes": path.stat().st_size, "blake2b": file_digest(path)} for name, path in files.items()},
    )
    return open_run(directory)


def _results(
    samples: Samples, seed: int, method: str, options: dict[str, Any], multilabel: bool, interval: bool
) -> dict[str, Any]:
    bootstrap = Bootstrap(resamples=200 if interval else 0)
    table = (samples.gold, samples.predicted, samples.probabilities, samples.status)
    report = evaluate(*table, multilabel=multilabel, bootstrap=bootstrap)
    known = report.to_json()
    results = finished_runs.results_of(samples, seed, method, options, multilabel=multilabel)
    entry: dict[str, Any] = {"ece": None, "brier": None, "nll": None, "bins": None}
    if samples.probabilities is not None:
        seen = (samples.probabilities, samples.gold, multilabel)
        entry = {**measures(*seen), "bins": reliability_bins(*seen)}
    size = len(samples.ids)
    results |= {
        "run_id": digest_of([method, seed, options]),
        "metrics": {
            "summary": report.summary(),
            "labels": [{"label": name, **row} for name, row in zip(samples.labels, known["labels"], strict=True)],
            "counts": report.counts,
        },
        "calibration": {"before": entry, "after": entry, "reason": None},
        "collapse": {"collapsed": False},
        "notices": [],
        "reload_failed": False,
        "higher_is_better": {results["task"]: {"f1_macro": True}},
        "facts": {"validation_curve": [[10, 0.4], [20, 0.5 + 0.01 * seed], [30, 0.6]], "truncated_share": 0.25},
    }
    results["identity"]["code"] = "0.1.0+abcdef"
    results["environment"]["packages"] = {"torch": "2.13.0"}
    results["data"] |= {
        "fingerprint": "0123456789abcdef",
        "source": "https://example.org/words",
        "licence": "CC0",
        "private": False,
        "sizes": {"train": 400, "validation": 100, "test": size},
    }
    return results
