"""Keeps the base model that was read last, for processes that run several cells of a sweep one after the other.

Off unless ``keep_base_models`` was called. What is kept is never used: each run gets a copy of its own, so that nothing
one run does to its model reaches the next. One model is kept, beside the copy in use: twice the memory of its weights.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from evalsuite.memory import release_memory

Model = TypeVar("Model")


class _Shelf:
    """Room for one model, with the key that it was read under. ``open``: whether anything is put there; ``used``:
    whether anything was."""

    open: bool = False
    used: bool = False
    key: Hashable = None
    model: Any = None


_shelf = _Shelf()


def keep_base_models(on: bool = True) -> None:
    """Keep the base model that is read last in this process, or (``on=False``) forget it and keep none."""
    _shelf.open, _shelf.used = on, False
    _shelf.key = _shelf.model = None
    gc.unfreeze()


def read_once(key: Hashable, read: Callable[[], Model], copy: Callable[[Model], Model]) -> tuple[Model, bool]:
    """What ``read`` gives, and whether it is a copy of what was read before under the same ``key``."""
    if not _shelf.open:
        return read(), False
    again = _shelf.key == key
    if not again:
        _shelf.key = _shelf.model = None
        release_memory()  # two bases may not fit
        if not _shelf.used:
            gc.freeze()  # libraries, some million objects: every run after this collects its garbage without them
            _shelf.used = True
        _shelf.model, _shelf.key = read(), key
    return copy(_shelf.model), again
