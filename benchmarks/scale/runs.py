"""Finished runs by the number: the copy of a real one for every cell of a sweep, with predictions of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.report.grouping import Group
from evalsuite.samples import Samples, read_samples, write_samples
from evalsuite.spec import RunResult
from evalsuite.store import RESULTS, RunDirectory, write_json


def real_run(folder: Path) -> RunResult:
    """One run on the sample of AG News."""
    import evalsuite

    return evalsuite.run("ag_news", "majority", output_path=folder)


def altered(results: dict[str, Any], number: int, **identity: Any) -> dict[str, Any]:
    """The results of a run as those of another one, told apart by what ``identity`` names."""
    other = deepcopy(results)
    method = {name: value for name, value in identity.items() if name != "seed"}
    other["seed"] = other["identity"]["seed"] = identity.get("seed", 0)
    other["identity"]["method_options"] |= method
    other["options"]["method"] |= method
    summary = other["metrics"]["summary"]["f1_macro"]
    summary["value"] = 0.5 + 1e-4 * number
    summary["interval"] = [summary["value"] - 0.02, summary["value"] + 0.02]
    return other


def write_copy(run: RunResult, samples: Samples, place: RunDirectory, number: int, **identity: Any) -> None:
    """A complete directory at ``place`` with what ``run`` says, altered, and predictions that are right more often the
    higher the ``number``."""
    dice = np.random.default_rng(number)
    right = dice.random(len(samples.ids)) < 0.6 + 0.3 * (number % 64) / 64
    guessed = np.eye(len(samples.labels), dtype=np.bool_)[dice.integers(0, len(samples.labels), len(right))]
    own = replace(samples, predicted=np.where(right[:, None], samples.gold, guessed))
    with place.claim() as folder:
        write_json(folder / RESULTS, altered(dict(run.results), number, **identity))
        write_samples(folder, run.results["task"], own, None, None)
        place.finish()


def samples_of(run: RunResult) -> Samples:
    """The scored documents of a run."""
    return read_samples(run.directory, run.results["labels"])


def compared(tables: Sequence[Samples], **settings: Any) -> Callable[[], Any]:
    """The comparison of systems of one run each, given by their scored documents."""
    from evalsuite.compare.comparison import Settings, compare_groups

    return lambda: compare_groups(groups_of(tables), Settings(**settings))


def groups_of(tables: Sequence[Samples]) -> list[Group]:
    """One system a table, in memory."""
    results = {
        "task": "scale",
        "primary_metric": "f1_macro",
        "labels": list(tables[0].labels),
        "multilabel": False,
        "seed": 0,
        "options": {"task": {}},
        "data": {"sizes": {"test": len(tables[0].ids)}, "synthetic": False},
        "environment": {},
    }
    groups = []
    for number, samples in enumerate(tables):
        group = Group({"task": "scale", "method": f"system {number}"}, (RunResult(Path(str(number)), results),))
        group.__dict__["samples"] = [samples]  # what would be read from its directory
        groups.append(group)
    return groups


def with_labels(folder: Path, tables: Sequence[Samples]) -> None:
    """A complete run a table, of as many labels as the tables have."""
    from evalsuite.metrics import Bootstrap, evaluate
    from evalsuite.reliability import reliability

    run = real_run(folder.parent / "real")
    for number, samples in enumerate(tables):
        rows = (samples.gold, samples.predicted, samples.probabilities, samples.status)
        report = evaluate(*rows, multilabel=False, bootstrap=Bootstrap(resamples=0))
        results = altered(dict(run.results), number, smoothing=1.0 + number)
        entries = report.to_json()["labels"]
        assert samples.probabilities is not None
        sure = reliability(samples.probabilities, samples.gold, False)
        results |= {
            "labels": list(samples.labels),
            "metrics": {
                "summary": report.summary(),
                "labels": [{"label": name, **entry} for name, entry in zip(samples.labels, entries, strict=True)],
                "counts": report.counts,
            },
            "calibration": {"before": sure, "after": sure, "reason": None},
        }
        place = RunDirectory.place(folder, results["task"], "majority", "none", str(number))
        with place.claim() as workdir:
            write_json(workdir / RESULTS, results)
            write_samples(workdir, results["task"], samples, None, None)
            place.finish()
