"""Data as Markdown: text that cannot break out of its line, and tables of it."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence


def escaped(text: str) -> str:
    """Data within Markdown: it may not start a tag, a link, an image or code, and not break the line."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]])", r"\\\1", line)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """A table of escaped cells; the columns at the places ``right`` are aligned to the right."""
    rule = ["---:" if place in right else "---" for place in range(len(columns))]
    lines = [_cells(columns), rule, *map(_cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(texts: Iterable[str]) -> list[str]:
    return [escaped(text).replace("|", "\\|") for text in texts]
