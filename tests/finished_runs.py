"""Finished runs for tests: groups in memory, and directories that open_run reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.metrics import Bootstrap, evaluate
from evalsuite.report.grouping import Group, fields_of
from evalsuite.samples import Samples, write_samples
from evalsuite.spec import RunResult
from evalsuite.store import RESULTS, SCHEMA_VERSION, RunDirectory, file_name, write_json

LABELS = ("a", "b", "c")


def one_hot(classes: Any, k: int = len(LABELS)) -> Any:
    return np.eye(k, dtype=bool)[np.asarray(classes)]


def samples_of(gold: Any, predicted: Any, status: Sequence[str] = (), probabilities: Any = None) -> Samples:
    """A table of scored documents from gold labels and predictions, bool [n, k] each."""
    n, k = gold.shape
    labels = LABELS if k == len(LABELS) else tuple(f"label {place}" for place in range(k))
    names = tuple(map(str, range(n)))
    hashes = tuple(f"{row:032x}" for row in range(n))
    return Samples(names, hashes, gold, predicted, probabilities, tuple(status) or ("ok",) * n, labels)


def results_of(samples: Samples, seed: int, method: str, options: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """What ``results.json`` says of such a table; ``parts`` replace whole entries."""
    multilabel = bool((samples.gold.sum(axis=1) != 1).any())
    report = evaluate(
        samples.gold,
        samples.predicted,
        samples.probabilities,
        samples.status,
        multilabel=multilabel,
        bootstrap=Bootstrap(resamples=0),
    )
    task = parts.get("task", "words")
    phase = {"seconds": 10.0 + seed, "documents_per_second": 100.0}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": f"{task}-{method}-{seed}",
        "task": task,
        "method": method,
        "model": None,
        "seed": seed,
        "primary_metric": "f1_macro",
        "labels": list(samples.labels),
        "multilabel": multilabel,
        "prompt": None,
        "metrics": {"summary": report.summary()},
        "incomplete": "failed" in samples.status,
        "parameters": {"trainable": 12345, "total": 10**6},
        "cost": {"train": phase, "predict": phase, "peak_memory_bytes": {"cpu": 3 * 2**20, "gpu": None}, "usd": None},
        "data": {"sizes": {"test": len(samples.ids)}, "revision": "1", "synthetic": False},
        "identity": {"task": task, "method": method, "seed": seed, "method_options": options, "decision_options": {}},
        "options": {"task": {}, "method": dict(options)},
        "environment": {"evalsuite": "0.1.0"},
        "finished": "2026-01-02T00:00:00",
        "facts": {},
        **parts,
    }


def group_of(tables: Sequence[Samples], method: str = "net", first_seed: int = 0, **parts: Any) -> Group:
    """One system in memory: a table of scored documents for every seed."""
    options = parts.pop("options", {})
    runs = tuple(
        RunResult(Path(f"{method}-{seed}"), results_of(samples, seed, method, options, **parts))
        for seed, samples in enumerate(tables, first_seed)
    )
    fields = {name: value for name, value in fields_of(runs[0].results).items() if name != "seed"}
    group = Group(fields, runs)
    group.__dict__["samples"] = list(tables)  # what would be read from their directories
    return group


def write_run(folder: Path, samples: Samples, seed: int = 0, method: str = "net", **parts: Any) -> Path:
    """A complete run directory below ``folder``."""
    options = parts.pop("options", {})
    results = results_of(samples, seed, method, options, **parts)
    name = file_name("-".join([str(seed), *map(str, options.values())]))
    directory = RunDirectory.place(folder, results["task"], method, "none", name)
    with directory.claim() as workdir:
        write_json(workdir / RESULTS, results)
        write_samples(workdir, results["task"], samples, None, None)
        directory.finish()
    return directory.final
