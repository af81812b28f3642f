"""Folders of generated sample files, made on first use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from evalsuite.errors import StoreError


def sample_folder(cache: Path, name: str, write: Callable[[Path], None]) -> Path:
    """``cache/samples/name``, filled by ``write(folder)`` unless it is there: complete or absent, never half-written.

    Change ``name`` whenever ``write`` changes what it writes. Raises ``StoreError`` where ``cache`` cannot be written.
    """
    folder = cache / "samples" / name
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            write(building)
            building.rename(folder)
        except OSError:
            shutil.rmtree(building, ignore_errors=True)
            if not folder.is_dir():  # otherwise another process was quicker, with the same content
                raise
    except OSError as error:
        raise StoreError(f"cannot write the sample to {folder}: {error.strerror or error}") from error
    return folder
