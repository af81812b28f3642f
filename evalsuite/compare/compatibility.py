"""Whether groups of runs can be compared at all: the same task, split, labels, documents and gold labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.report.grouping import Group
from evalsuite.samples import difference


def require_same_test(groups: Sequence[Group]) -> None:
    """Refuse runs that did not score the same documents by the same labels.

    Raises:
        UsageError: it names the first two runs that differ, and the first difference.
    """
    first = groups[0].runs[0]
    for group in groups:
        for run, samples in zip(group.runs, group.samples, strict=True):
            told = _scored(first.results, run.results) or difference(groups[0].samples[0], samples)
            if told:
                raise UsageError(
                    f"{first.directory} and {run.directory} cannot be compared: {told}; name runs of one test"
                )


def _scored(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    for name, default in (("task", None), ("split", "test")):
        one, other = first.get(name, default), second.get(name, default)
        if one != other:
            return f"{name} is {one} and {other}"
    return None
