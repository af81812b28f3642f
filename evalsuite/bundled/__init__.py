"""The small language model that ships with the package, for first runs without a network or an account."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def path() -> Path:
    """The model's folder: plain transformers loads it, ``README.md`` in it is the model card."""
    return Path(str(files("evalsuite.bundled"))) / "lm"
