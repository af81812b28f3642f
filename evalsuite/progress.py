"""Progress that says nothing: for Python callers, tests and child processes. The command line has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Silent:
    """A Progress that shows nothing."""

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "docs") -> Iterator[Callable[[int], None]]:
        """Count and forget."""
        yield lambda finished: None
