"""What a run will need, and whether there is enough of it: asked before any heavy work."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsuite.contracts import RunContext
from evalsuite.errors import StoreError
from evalsuite.memory import free_memory
from evalsuite.preparation import Prepared
from evalsuite.store import find_runs, open_run

log = logging.getLogger("evalsuite")


def estimate(prepared: Prepared, context: RunContext) -> dict[str, Any]:
    """The method's own estimate (bytes and parameters), and ``seconds`` of training where finished runs tell.

    Raises:
        ModelError: a model that is absent or gated.
        OptionError: options that do not fit each other or the task.
    """
    ask = prepared.method.preflight
    found = dict(ask(prepared.options, context, prepared.splits.train)) if ask else {}
    if (seconds := _seconds(prepared)) is not None:
        found["seconds"] = seconds
    return found


def _seconds(prepared: Prepared) -> float | None:
    """Training time from complete runs of this task, method and model: median seconds a document and epoch, scaled."""
    paces = []
    for directory in find_runs(prepared.directory.final.parent):
        try:
            results = open_run(directory).results
        except StoreError as error:  # what became of another run is no reason not to do this one
            log.info("left out of the time estimate: %s", error)
            continue
        epochs = results["options"]["method"].get("epochs", 1) * max(1, len(results.get("attempts", ())))
        paces.append(results["cost"]["train"]["seconds"] / results["data"]["sizes"]["train"] / epochs)
    if not paces:
        return None
    return float(statistics.median(paces) * len(prepared.splits.train) * getattr(prepared.options, "epochs", 1))


def check(needed: Mapping[str, Any], prepared: Prepared) -> None:
    """Refuse a run that has no room on disk; warn of one that the estimate does not fit into memory.

    Memory only warns: the estimate is one, and the micro-batch shrinks where memory runs out.

    Raises:
        StoreError: less free space than a checkpoint and its successor take.
    """
    place = _existing(prepared.directory.final)
    free, wanted = shutil.disk_usage(place).free, 2 * needed.get("checkpoint_bytes", 0)
    if free < wanted:
        raise StoreError(
            f"{place} has {_gib(free)} free, the run needs {_gib(wanted)} for its checkpoints; "
            "free space or choose another --output_path"
        )
    memory = needed.get("memory_bytes", 0)
    if memory > (available := free_memory(prepared.device)):
        log.warning("this run may need %s of memory, %s is free: an estimate", _gib(memory), _gib(available))


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
