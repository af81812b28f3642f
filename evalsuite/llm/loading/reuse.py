"""Keeps the base model that was read last, for processes that run several cells of a sweep one after the other.

Off unless ``keep_base_models`` was called. What is kept is never used: each run gets a copy of its own, so that nothing
one run does to its model reaches the next. One model is kept, beside the copy in use, and only a small one: a run must
not get into want of memory, and train with other micro-batches, for what lies beside it. Reading a large one again
takes little of the time that its run takes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from evalsuite.memory import release_memory

Model = TypeVar("Model")
SHARE = 0.1  # of the free memory, which a model that is kept may take at most


@dataclass(frozen=True)
class Held:
    """Memory that a model takes on ``device``, "cpu" or a GPU, and what is free there now, in bytes."""

    device: str
    size: int
    free: int


class _Shelf:
    """Room for one model, with the key that it was read under; ``open`` says whether anything is put there."""

    open: bool = False
    key: Hashable = None
    model: Any = None
    held: Held | None = None


_shelf = _Shelf()


def keep_base_models(on: bool = True) -> None:
    """Keep the base model that is read last in this process, or (``on=False``) forget it and keep none."""
    _shelf.open = on
    _shelf.key = _shelf.model = _shelf.held = None


def kept_bytes(device: str) -> int:
    """What is kept on "cpu" or "gpu": of the memory in use there, the share that is no run's."""
    held = _shelf.held
    return held.size if held is not None and (held.device == "cpu") == (device == "cpu") else 0


def read_once(
    key: Hashable, read: Callable[[], Model], copy: Callable[[Model], Model], weigh: Callable[[Model], Held]
) -> tuple[Model, bool]:
    """What ``read`` gives, and whether it is a copy of what was read before under the same ``key``."""
    if not _shelf.open:
        return read(), False
    again = _shelf.key == key
    if not again:
        _shelf.key = _shelf.model = _shelf.held = None
        release_memory()  # two bases may not fit
        model = read()
        held = weigh(model)
        if held.size > SHARE * held.free:
            return model, False
        _shelf.model, _shelf.key, _shelf.held = model, key, held
    return copy(_shelf.model), again
