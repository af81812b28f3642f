"""Training state on disk: complete or not there, and the newest complete one wins.

A checkpoint is a folder ``step_<number>`` with the state and, written last, a marker with the state's size and hash. It
is made under another name and renamed, so that a kill at any moment leaves the one before it whole. It holds the
trainable tensors and what the optimizer knows of them, never the base: accelerate's ``save_state`` writes all of the
quantised base and cannot read it back.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import StoreError

STATE = "state.pt"
MARKER = "COMPLETE"
KEPT = 2


def trainable_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A copy on the CPU of every tensor that training changes, by name."""
    # clone: on the CPU, .cpu() would be the live tensor itself
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


def restore_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what ``trainable_tensors`` copied.

    Raises:
        StoreError: the names or shapes are those of another model.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if parameters.keys() != tensors.keys() or any(p.shape != tensors[name].shape for name, p in parameters.items()):
        raise StoreError("the checkpoint belongs to another model or adapter; remove the run's checkpoints folder")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write one checkpoint and remove all but the newest two.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    final = folder / f"step_{step:08d}"
    draft = folder / f".{final.name}.draft"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        torch.save(state, draft / STATE)
        _flush(draft / STATE)
        size, digest = _fingerprint(draft / STATE)
        (draft / MARKER).write_text(json.dumps({"step": step, "bytes": size, "sha256": digest}))
        _flush(draft / MARKER)
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        shutil.rmtree(draft, ignore_errors=True)
        raise StoreError(f"cannot write a checkpoint to {folder}: {error}; free some space and run again") from error
    for old in sorted(folder.glob("step_*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the newest complete checkpoint, or None. What a kill cut short is passed over."""
    for candidate in sorted(folder.glob("step_*"), reverse=True):
        if _is_complete(candidate):
            state: dict[str, Any] = torch.load(candidate / STATE, map_location="cpu", weights_only=True)
            return state
    return None


def _is_complete(candidate: Path) -> bool:
    try:
        marker = json.loads((candidate / MARKER).read_text())
        return (marker["bytes"], marker["sha256"]) == _fingerprint(candidate / STATE)
    except (OSError, ValueError, KeyError):
        return False


def _fingerprint(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Make the bytes survive a power cut before the marker says that they are there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
