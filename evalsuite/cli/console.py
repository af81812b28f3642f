"""What the terminal shows: results on stdout, everything else on stderr; bars only where a person is looking."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Work that ends sooner is not worth a bar.
SECONDS_BEFORE_A_BAR = 2.0


def stderr() -> Console:
    """A rich console on stderr."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)


def out(text: str) -> None:
    """A line of result on stdout, unstyled, safe to pipe."""
    sys.stdout.write(text + "\n")


def error(message: str) -> None:
    """One line on stderr; red where it is a terminal."""
    prefix = "\x1b[1;31merror:\x1b[0m " if sys.stderr.isatty() else "error: "
    sys.stderr.write(prefix + message + "\n")


def note(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(message + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", right: Sequence[str] = ()) -> None:
    """A table on stdout; columns named in ``right`` are right-aligned. Plain columns where stdout is not a terminal."""
    if not sys.stdout.isatty():
        _plain_table(columns, rows, right)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # Text, not str: a label or a path in square brackets is no markup.
        grid.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(grid)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        out("  ".join(cells).rstrip())


class Bars:
    """A Progress that draws bars with rate and time left on stderr, and nothing where that is no terminal."""

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "docs") -> Iterator[Callable[[int], None]]:
        """Draw a bar for work that takes more than two seconds; ``total`` 0: nobody knows how much it is."""
        if not sys.stderr.isatty():
            yield lambda finished: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        bars = Progress(*columns, console=stderr(), transient=True)
        work = bars.add_task(title, total=total or None, rate="")
        start, done, shown = time.monotonic(), 0, False

        def advance(finished: int) -> None:
            nonlocal done, shown
            done += finished
            elapsed = time.monotonic() - start
            if not shown and elapsed > SECONDS_BEFORE_A_BAR:
                bars.start()
                shown = True
            bars.update(work, completed=done, rate=f"{done / max(elapsed, 1e-9):.1f} {unit}/s")

        try:
            yield advance
        finally:
            if shown:
                bars.stop()


def show_log() -> None:
    """Print the package's log lines on stderr as plain notes; once, however often it is asked."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("evalsuite")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
