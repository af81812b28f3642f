"""What a sweep shows while it runs: a live table of its cells where a person is looking, a line a cell elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evalsuite.cli import console
from evalsuite.engines.local import Finished, Watcher
from evalsuite.store import digest_of
from evalsuite.sweep import Cell

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

REFRESH_SECONDS = 0.5
LAST_BYTES = 4096  # of a log, in which its newest line is looked for
FRAME = 6  # lines of the terminal that are no rows: title, head, rules, counts, prompt
STYLES = {"waiting": "dim", "running": "cyan", "done": "green", "there": "green", "failed": "red"}
# Where not all rows fit, these are shown first.
ORDER = ("running", "failed", "done", "waiting", "there")


def result_line(outcome: Finished) -> str:
    """What came of a cell, in a few words."""
    if outcome.results is None:
        return f"failed after {outcome.seconds:.0f} s"
    when = f"in {outcome.seconds:.0f} s" if outcome.state == "done" else "(complete before)"
    return f"{score_of(outcome)} {when}"


def score_of(outcome: Finished) -> str:
    """The primary metric and its value, of a cell that has results."""
    assert outcome.results is not None
    primary = outcome.results["primary_metric"]
    value = outcome.results["metrics"]["summary"][primary]["value"]
    return f"{primary} {'-' if value is None else format(value, '.4f')}"


def newest_line(log: Path) -> str:
    """The last line of a log that holds something, "" where there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - LAST_BYTES))
        text = stream.read().decode("utf-8", errors="replace")
    lines = (" ".join(line.split()) for line in reversed(text.splitlines()))
    # What would move the cursor is no text.
    return next(("".join(c for c in line if c.isprintable()) for line in lines if line), "")


@dataclass
class _Row:
    cell: Cell
    state: str = "waiting"
    start: float = 0.0
    seconds: float | None = None
    told: str = ""
    log: Path | None = None


class _Lines:
    """Prints a line on stderr for every cell that has ended."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._total, self._ended = len(cells), set[str]()

    def started(self, cell: Cell, log: Path) -> None:
        """A line comes when it has ended."""

    def finished(self, outcome: Finished) -> None:
        self._ended.add(digest_of(dict(outcome.cell.values)))
        console.note(f"[{len(self._ended)}/{self._total}] {outcome.cell.title}: {result_line(outcome)}")

    def tick(self) -> None:
        """Nothing moves."""


class _LiveTable:
    """Draws the rows again and again in place."""

    def __init__(self, title: str, cells: Sequence[Cell], live: Live) -> None:
        self._title, self._live, self._drawn = title, live, 0.0
        self._rows = {digest_of(dict(cell.values)): _Row(cell) for cell in cells}

    def started(self, cell: Cell, log: Path) -> None:
        row = self._rows[digest_of(dict(cell.values))]
        row.state, row.start, row.log, row.told = "running", time.monotonic(), log, ""

    def finished(self, outcome: Finished) -> None:
        row = self._rows[digest_of(dict(outcome.cell.values))]
        row.state, row.seconds = outcome.state, outcome.seconds if outcome.state != "there" else None
        row.told = outcome.problem if outcome.state == "failed" else score_of(outcome)
        self.tick()

    def tick(self) -> None:
        if time.monotonic() - self._drawn > REFRESH_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw what is known now."""
        self._live.update(self._table(), refresh=True)
        self._drawn = time.monotonic()

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        rows, states = list(self._rows.values()), [row.state for row in self._rows.values()]
        room = max(3, self._live.console.size.height - FRAME)
        ranked = sorted(range(len(rows)), key=lambda place: (ORDER.index(rows[place].state), place))
        shown = sorted(ranked[:room])
        counts = ", ".join(f"{states.count(state)} {_word(state)}" for state in STYLES if state in states)
        hidden = f"; {len(rows) - len(shown)} not shown" if len(shown) < len(rows) else ""
        table = Table(box=box.SIMPLE_HEAD, title=self._title, title_justify="left", caption=counts + hidden)
        table.caption_justify = "left"
        for name, justify in (("cell", "left"), ("state", "left"), ("time", "right"), ("result", "left")):
            wide = name in ("cell", "result")
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", ratio=1 if wide else None)  # type: ignore[arg-type]
        table.expand = True
        for row in (rows[place] for place in shown):
            told = newest_line(row.log) if row.state == "running" and row.log else row.told
            cells = (row.cell.title, _word(row.state), _clock(row), told)
            table.add_row(*(Text(text, style=STYLES[row.state] if text == _word(row.state) else "") for text in cells))
        return table


def _word(state: str) -> str:
    return "complete before" if state == "there" else state


def _clock(row: _Row) -> str:
    if row.state == "running":
        return _duration(time.monotonic() - row.start)
    return "" if row.seconds is None else _duration(row.seconds)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Board:
    """Shows a sweep phase by phase; a phase's table stays on the terminal when the next one begins."""

    _tables: list[tuple[Live, _LiveTable]] = field(default_factory=list)

    def phase(self, title: str, cells: Sequence[Cell]) -> Watcher:
        """Begin with the trials, or with the cells."""
        self._stop()
        if not sys.stderr.isatty():
            return _Lines(cells)
        from rich.live import Live

        live = Live(console=console.stderr(), auto_refresh=False)
        table = _LiveTable(title, cells, live)
        live.start()
        self._tables.append((live, table))
        table.draw()
        return table

    def _stop(self) -> None:
        while self._tables:
            live, table = self._tables.pop()
            table.draw()
            live.stop()


@contextmanager
def board() -> Iterator[Board]:
    """A board that leaves the terminal as it was, whatever happens."""
    shown = Board()
    try:
        yield shown
    finally:
        shown._stop()
