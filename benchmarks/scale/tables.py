"""A curve as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsuite.report.markup import markdown_table

COLUMNS = ("stage", "sizes", "seconds", "exponent (95%)", "at the end", "peak MB", "bytes at the peak", "bytes held")


def markdown(found: Mapping[str, Any]) -> str:
    """Every stage at its smallest and its largest size; the last columns are bytes for each unit of what grows."""
    right = set(range(1, len(COLUMNS)))
    lines = [markdown_table(COLUMNS, [cells(stage) for stage in found["stages"]], right), ""]
    return "\n".join([*lines, f"Sizes are {found['unit']}; {found['fixed']}."])


def cells(stage: Mapping[str, Any]) -> list[str]:
    """One stage's row. At the end: the exponent between the two largest sizes alone."""
    first, last, line = stage["points"][0], stage["points"][-1], stage["seconds_fit"]
    exponent = end = ""
    if line is not None:
        interval = "" if line["low"] is None else f" ({line['low']:.2f} to {line['high']:.2f})"
        exponent, end = f"{line['exponent']:.2f}{interval}", f"{line['last']:.2f}"
    return [
        stage["name"],
        f"{first['size']:,} to {last['size']:,}",
        f"{first['seconds']:.3g} to {last['seconds']:.3g}",
        exponent,
        end,
        f"{first['peak_bytes'] / 1e6:.1f} to {last['peak_bytes'] / 1e6:.1f}",
        f"{stage['peak_bytes_each']:,.0f}",
        f"{stage['held_bytes_each']:,.0f}",
    ]
