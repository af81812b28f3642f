"""Short names of systems: the options in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsuite.report.grouping import Group, row_fields

SELF_EVIDENT = ("task", "method", "model")


def titles(groups: Sequence[Group]) -> list[str]:
    """One title a group: ``bert``, ``embedding pooling=mean``; different groups have different titles."""
    names = [name for name in row_fields(groups) if name != "task"]
    if len(groups) > 1 and "method" not in names and len({group.fields["method"] for group in groups}) > 1:
        names.insert(0, "method")
    return [_title(group, names) or str(group.fields["method"]) for group in groups]


def _title(group: Group, names: Sequence[str]) -> str:
    parts = [(name, group.fields[name]) for name in names if name in group.fields]
    return " ".join(_text(value) if name in SELF_EVIDENT else f"{name}={_text(value)}" for name, value in parts)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)
