"""What was found about a pair, in words. A point is a hundredth of a metric between 0 and 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

Interval = tuple[float, float]

WIDE = 0.02
"""An interval wider than two points leaves open what most people would want to know."""


@dataclass(frozen=True)
class Finding:
    """What a sentence is made of.

    better, worse: titles. gap: by how much the one is better, with its interval. documents: those that were scored.
    seeds_drawn: the interval is over seeds, too. across_seeds: the paired t-interval of the gap, where there is one.
    """

    better: str
    worse: str
    gap: float
    interval: Interval
    certified: bool
    alpha: float
    same_direction: tuple[int, int] | None
    across_seeds: Interval | None
    documents: int
    seeds_drawn: bool


def verdict(found: Finding) -> str:
    """The finding in a few words.

    certified: Holm's p is at most alpha. Else, where the interval is not wider than two points, a tie within it; where
    it is, nobody can tell, and what points in one direction in every seed is said to.
    """
    if found.interval == (0, 0):
        return "no difference: the metric cannot tell them apart on any document"
    if found.certified:
        return f"certified at {100 * found.alpha:.3g}%"
    low, high = found.interval
    if high - low <= WIDE:
        return f"a tie within {_in_points(max(abs(low), abs(high)))}, not certified"
    more = (
        "more documents or more seeds would narrow it"
        if found.seeds_drawn
        else f"about {documents_to_settle(found.documents, found.interval):,} documents would settle it"
    )
    if found.same_direction and found.same_direction[0] == found.same_direction[1]:
        alike, seeds = found.same_direction
        return f"same direction in {alike} of {seeds} seeds, not certified; {more}"
    return f"cannot tell: the interval is wider than {_in_points(WIDE)}; {more}"


def sentence(found: Finding) -> str:
    """The finding as one sentence with the numbers it rests on."""
    if found.interval == (0, 0):
        return f"{found.better} and {found.worse}: {verdict(found)}."
    low, high = (_points(end) for end in found.interval)
    if _points(found.gap) == "0":
        told = f"{found.better} and {found.worse} differ by less than 0.1 points"
    else:
        told = f"{found.better} is {_in_points(found.gap)} better than {found.worse}"
    return f"{told} (95% interval {low} to {high}): {verdict(found)}{_other_seeds(found)}."


def _other_seeds(found: Finding) -> str:
    """What is certified for these seeds, and may still turn with others, is said to."""
    if not found.certified or found.seeds_drawn or found.across_seeds is None or found.across_seeds[0] > 0:
        return ""
    low, high = (_points(end) for end in found.across_seeds)
    return f" for these seeds; other seeds may turn it, as across seeds the interval is {low} to {high}"


def documents_to_settle(documents: int, interval: Interval) -> int:
    """How many test documents would make the interval two points wide, to two digits.

    An interval over documents narrows with the square root of their number: n (width / 0.02)^2. Whether the difference
    is then certified depends on how large it is. It says nothing of the uncertainty across seeds.
    """
    needed = documents * ((interval[1] - interval[0]) / WIDE) ** 2
    unit = int(10 ** max(0, math.floor(math.log10(needed)) - 1))
    return math.ceil(needed / unit) * unit


def _in_points(value: float) -> str:
    return f"{_points(value)} point" + ("" if _points(value) == "1" else "s")


def _points(value: float) -> str:
    """A difference in points, with one decimal where it has one."""
    return f"{round(100 * value, 1) + 0:g}"
