"""What the paper has published figures of, and how the same is had from finished runs.

The paper's F1 is of an average that is not known, so ours is always told in three: micro, macro and weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evalsuite.report.columns import columns_of, look_up, metric
from evalsuite.report.grouping import Group

AVERAGES = ("micro", "macro", "weighted")
Values = dict[str, float]


@dataclass(frozen=True)
class Quantity:
    """``compute`` takes the groups of a system and of the one it is compared with, and gives a value for each average,
    or one under the empty name where ``averaged`` is False; None where the runs do not tell. share: a share of 1,
    whose difference counts in points; of anything else the ratio is told. text: a value as a person reads it."""

    name: str
    compute: Callable[[Sequence[Group], Sequence[Group]], Values | None]
    text: Callable[[float], str]
    averaged: bool = False
    share: bool = True


def _averages(compute: Callable[[str], float | None]) -> Values | None:
    found = {average: value for average in AVERAGES if (value := compute(average)) is not None}
    return found if len(found) == len(AVERAGES) else None


def _f1(groups: Sequence[Group], against: Sequence[Group]) -> Values | None:
    return _averages(lambda average: groups[0].mean(f"f1_{average}")) if len(groups) == 1 else None


def _f1_gain(groups: Sequence[Group], against: Sequence[Group]) -> Values | None:
    ours, theirs = _f1(groups, ()), _f1(against, ())
    return {average: ours[average] - theirs[average] for average in AVERAGES} if ours and theirs else None


def _f1_spread(groups: Sequence[Group], against: Sequence[Group]) -> Values | None:
    def spread(average: str) -> float | None:
        means = [mean for group in groups if (mean := group.mean(f"f1_{average}")) is not None]
        return max(means) - min(means) if len(means) > 1 else None

    return _averages(spread)


def _f1_kept(groups: Sequence[Group], against: Sequence[Group]) -> Values | None:
    def kept(average: str) -> float | None:
        ours = groups[0].mean(f"f1_{average}")
        theirs = [look_up(results, f"references.teacher.f1_{average}") for results in groups[0].results]
        return ours * len(theirs) / sum(theirs) if ours is not None and all(theirs) else None

    return _averages(kept) if len(groups) == 1 else None


def _column(name: str) -> Callable[[Sequence[Group], Sequence[Group]], Values | None]:
    column = columns_of()[name]

    def compute(groups: Sequence[Group], against: Sequence[Group]) -> Values | None:
        value = column.compute(groups[0]) if len(groups) == 1 else None
        return None if value is None else {"": float(value)}

    return compute


def _collapsed(groups: Sequence[Group], against: Sequence[Group]) -> Values | None:
    found = columns_of()["collapsed"].compute(groups[0]) if len(groups) == 1 else None
    return None if found is None else {"": found[0] / found[1]}


def _nothing(groups: Sequence[Group], against: Sequence[Group]) -> None:
    return None


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _parameters(value: float) -> str:
    return f"{value / 1e6:.4g}M" if value >= 1e6 else f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


QUANTITIES: Mapping[str, Quantity] = {
    "f1": Quantity("F1", _f1, metric, averaged=True),
    "f1_gain": Quantity("F1 above that of last pooling", _f1_gain, _signed, averaged=True),
    "f1_spread": Quantity("F1, best verbalizer above worst", _f1_spread, metric, averaged=True),
    "f1_kept": Quantity("F1 over the teacher's", _f1_kept, metric, averaged=True),
    "trainable": Quantity("trainable parameters", _column("trainable"), _parameters, share=False),
    "ece": Quantity("ECE", _column("ece_before"), metric),
    "collapsed": Quantity("seeds that learn nothing", _collapsed, _percent),
    "documents_per_second": Quantity("documents a second", _column("predict"), _rate, share=False),
    "speedup": Quantity("times the teacher's speed", _column("speedup"), _rate, share=False),
    "mcnemar_p": Quantity("p of a paired McNemar test", _nothing, metric),
    "f1_difference_interval": Quantity("95% interval of the difference of F1", _nothing, metric),
}
