"""What a page is made of, as plain data: text that is safe to show, tables, figures, parts and sections."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "–"
LONGEST_NAME = 60
# Marks that turn the direction of what follows them: a label could rearrange the words around it.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NOT_TEXT = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")


def safe(text: str) -> str:
    """Text without what no page can show: control characters, halves of characters, marks of direction."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_safe_character, text))


def _safe_character(character: str) -> str:
    if character in "\t\n\r":
        return " "
    broken = character in _TURNING or unicodedata.category(character) in _NOT_TEXT
    return "\N{REPLACEMENT CHARACTER}" if broken else character


def short(text: str, most: int = LONGEST_NAME) -> str:
    """Safe text on one line, at most ``most`` characters long."""
    line = " ".join(safe(str(text)[: 4 * most]).split())
    return line if len(line) <= most and len(str(text)) <= 4 * most else line[: most - 1].rstrip() + "…"


def sentence_case(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names as a sentence has them: a, b and c; at most ``most`` of them."""
    if len(names) > most:
        rest = len(names) - most
        return ", ".join(names[:most]) + f" and {rest} other{'s' if rest > 1 else ''}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def slug(text: str) -> str:
    """A name for an anchor or a figure: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", short(text).lower()).strip("-") or "x"


@dataclass(frozen=True)
class Cell:
    """One cell. ``key`` is what it is sorted by, None for its text. ``kind``: how it looks, a class of the style sheet.

    note: more about it, shown where the pointer rests. mark: the number of the system whose sign stands before the
    text. strip: low, middle and high of an interval as shares of the column's scale, drawn after the text.
    """

    text: str
    key: float | str | None = None
    kind: str = ""
    note: str = ""
    mark: int | None = None
    strip: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """Rows under ``columns``, the first ``heads`` of which say what a row is; the others are aligned to the right.

    name: of the table, for its caption and for those who do not see it. sortable: by a click on a column's head.
    words: columns after the heads that hold words, not numbers.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heads: int = 1
    sortable: bool = False
    words: frozenset[str] = frozenset()


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], heads: int = 1, **more: Any) -> Table:
    """A table of cells, strings or None."""
    return Table(name, tuple(columns), tuple(tuple(map(_cell, row)) for row in rows), heads, **more)


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(ABSENT, key=float("-inf")) if value is None else Cell(str(value))


def number(value: float | None, show: Callable[[float], str] = "{:.3f}".format) -> Cell:
    """A cell that is sorted by its value; absent where there is none."""
    return Cell(ABSENT, key=float("-inf")) if value is None else Cell(show(value), key=float(value))


def brief(value: float) -> str:
    """A large number in three digits: 30, 1,500, 22.7M."""
    for size, sign in ((1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    if value >= 1e4:
        return f"{value / 1e3:.3g}k" if value < 999_500 else "1M"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Figure:
    """A plot, drawn when it is asked for. ``size``: width and height in CSS pixels. ``table``: its numbers.
    ``bright``: its words have a rim in the page's colour, to be read before lines.

    name: unique on the page; ``--plot`` takes it. title: what is shown, in a few words; caption: how to read it.
    """

    name: str
    title: str
    caption: str
    table: Table
    draw: Callable[[Any], None]
    size: tuple[int, int] = (400, 296)
    bright: bool = True


@dataclass(frozen=True)
class Part:
    """A part of a section under a heading of its own."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    folded: tuple[Table, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.tables or self.figures or self.folded)


@dataclass(frozen=True)
class Chapter:
    """All about one task and one set of scored documents. ``answer``: what a person wants to know first, in sentences.

    warnings are to be read before the numbers are believed; facts: (what, value) about the data.
    """

    name: str
    title: str
    answer: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Page:
    """A whole report. ``command`` makes it again; ``notes`` are about all of it."""

    title: str
    command: str
    version: str
    notes: tuple[str, ...]
    chapters: tuple[Chapter, ...]

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by its name."""
        parts = (part for chapter in self.chapters for part in chapter.parts)
        return {figure.name: figure for part in parts for figure in part.figures}
