"""Eight short cells of one model as a sweep, beside the same eight as processes of their own, one after the other.

The work: the embedding method on AG News with the bundled model, two poolings, two learning rates and two seeds, 128
training documents and 128 scored ones a cell. Everything that a run does is done in each: the model's files are hashed,
the run is trained, calibrated, scored with intervals, saved, opened again in a fresh process, and reported.

The peers are evalsuite itself: `evalsuite run` eight times (10a), and `evalsuite sweep --no-reuse-model`, which gives
every cell a process of its own (10b). Sides are timed from the start of the command to its exit.

Compared: run ids, every metric with its interval, and the files of predictions: the same to the last
byte.

The floor: what the cells spend in training and predicting, as they report it themselves.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.commands import main
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side

GRID: dict[str, list[Any]] = {"pooling": ["last", "mean"], "learning_rate": [1e-3, 5e-4]}
SEEDS = [0, 1]
BASE = {"task": "ag_news", "method": "embedding", "model": "bundled", "epochs": 1, "evaluations": 0, "device": "cpu"}
DOCUMENTS, SMALL = 128, 16
SWEPT, ALONE = "swept", "alone"
PHASES = ("train", "calibrate", "predict")
RUNS_PEER, CELLS_PEER = "evalsuite run, 8 times", "evalsuite sweep, a process a cell"


def prepare(job: Path, options: Options) -> None:
    """The sweep's file, and a configuration of each of its cells; two cells where it is a small try."""
    documents, seeds = (SMALL, SEEDS[:1]) if options.small else (DOCUMENTS, SEEDS)
    grid = {**GRID, "learning_rate": GRID["learning_rate"][: len(seeds)]}
    sizes = dict.fromkeys(("train_limit", "validation_limit", "limit"), documents)
    base: dict[str, Any] = {**BASE, **sizes}
    if options.data is not None:
        base["task.data"] = str(options.data / "ag_news")
    sweep = {"base": base, "grid": grid, "seeds": seeds}
    (job / "cells.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False), encoding="utf-8")
    (job / "configs").mkdir()
    for number, (*point, seed) in enumerate(itertools.product(*grid.values(), seeds)):
        cell = {**base, **dict(zip(grid, point, strict=True)), "seed": seed}
        cell |= {"output_path": str(job / ALONE), "overwrite": "always"}
        (job / "configs" / f"{number}.yaml").write_text(yaml.safe_dump(cell), encoding="utf-8")


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """That both have made the same runs."""
    ours, theirs = told(job / SWEPT), told(job / ALONE)
    lacking = len(set(ours) ^ set(theirs))
    apart = [name for name in set(ours) & set(theirs) if ours[name] != theirs[name]]
    failed = [name for runs in (ours, theirs) for name, run in runs.items() if not run["reload_check"]["passed"]]
    return [
        Check("runs that one side alone has", lacking, 0, bool(ours) and not lacking),
        Check("runs whose metrics or predictions differ", len(apart), 0, not apart),
        Check("runs that a fresh process did not repeat", len(failed), 0, not failed),
    ]


def told(folder: Path) -> dict[str, dict[str, Any]]:
    """By run id: what a run says of its labels, all but its costs."""
    return {
        results["run_id"]: {
            **{key: results[key] for key in ("metrics", "decision", "calibration", "reload_check")},
            "predictions": [path.read_bytes() for path in directory.glob("samples_*")],
        }
        for directory, results in _runs(folder)
    }


def floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
    """What the cells spend in their own work."""
    costs = [results["cost"] for _, results in _runs(job / SWEPT)]
    seconds = median(sum(cost[phase]["seconds"] for phase in PHASES) for cost in costs) * len(costs)
    return Floor(seconds, "training, calibrating and predicting alone: the median cell's, times the cells")


def _runs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.rglob("results.json")):
        yield path.parent, json.loads(path.read_text(encoding="utf-8"))


def _swept(folder: str, *more: str) -> list[str]:
    where = ["{job}/cells.yaml", "--output-path", f"{{job}}/{folder}", "--overwrite", "always"]
    return ["{python}", "-m", "evalsuite", "sweep", *where, *more]


def _case(name: str, work: str, peer: Side) -> Case:
    return Case(
        name=name,
        work=f"8 short cells of one model, beside {work}",
        prepare=prepare,
        sides=[Side("evalsuite sweep", command=_swept(SWEPT)), peer],
        targets={peer.name: 1.5},
        check=check,
        floor=floor,
    )


CASES = [
    _case(
        "10a",
        "8 processes one after another",
        Side(RUNS_PEER, command=["{python}", "-m", "benchmarks.ours.separate_runs", "{job}/configs"]),
    ),
    _case("10b", "a sweep that gives each a process", Side(CELLS_PEER, command=_swept(ALONE, "--no-reuse-model"))),
]

if __name__ == "__main__":
    main(CASES)
