"""Tuning: the same number of trials for every method, each scored on validation, and the best one's options chosen.

A trial is a run with ``split="validation"`` (see ``evalsuite.preparation.limited``), so no choice has seen a test
document. Random search, since it finds as good options as a grid with fewer trials: Bergstra and Bengio, JMLR 2012.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalsuite.config import RUN_FIELDS
from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.metrics import LOWER_IS_BETTER
from evalsuite.registry import Registry
from evalsuite.store import digest_of

KEYS = ("trials", "seed", "space")
RANGE_KEYS = ("low", "high", "log")
# Run options that say how a document is put to a model. The others say what is trained on, what is scored, or where.
TUNABLE = ("template", "apply_chat_template", "num_fewshot")

MOST_TRIALS = 10_000
MOST_REPEATED = 1000  # draws in a row that find nothing new
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")

Point = dict[str, Any]


@dataclass(frozen=True)
class Choices:
    """The values that an option may take."""

    values: tuple[Any, ...]

    @property
    def count(self) -> float:
        return len(self.values)

    @property
    def even(self) -> bool:
        """Whether all values are listed and equally likely."""
        return True

    def draw(self, dice: random.Random) -> Any:
        return dice.choice(self.values)


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, whole ones where both are; with ``log``, every factor of two is as likely."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def even(self) -> bool:
        """Whether all values are listed and equally likely."""
        return self.whole and not self.log

    @property
    def count(self) -> float:
        return self.high - self.low + 1 if self.whole else math.inf

    @property
    def values(self) -> Sequence[Any]:
        """All whole numbers of the range; only asked where there are few."""
        return range(int(self.low), int(self.high) + 1)

    def draw(self, dice: random.Random) -> Any:
        if self.log:
            drawn = math.exp(dice.uniform(math.log(self.low), math.log(self.high)))
        elif self.whole:
            return dice.randint(int(self.low), int(self.high))
        else:
            drawn = dice.uniform(self.low, self.high)
        # Three digits say all that a trial can tell, and can be typed again.
        return round(drawn) if self.whole else min(max(float(f"{drawn:.3g}"), self.low), self.high)


@dataclass(frozen=True)
class Tune:
    """The ``tune`` block of a sweep file: ``space`` maps a method to what its options may be."""

    trials: int
    seed: int
    space: Mapping[str, Mapping[str, Choices | Range]]

    def points(self, method: str) -> list[Point]:
        """The options of every trial of ``method``: a sample of its space without repetition, the same everywhere.

        All of the space where it has no more points than there are to be trials; none for a method without a space.
        """
        if not (axes := self.space.get(method)):
            return []
        total = math.prod(axis.count for axis in axes.values())
        if total <= self.trials:
            combinations = itertools.product(*(axis.values for axis in axes.values()))
            return [dict(zip(axes, values, strict=True)) for values in combinations]
        # The method's name keeps its trials as they are when another method joins.
        dice = random.Random(f"{self.seed} {method}")
        if all(axis.even for axis in axes.values()):
            return [_at(axes, place) for place in dice.sample(range(int(total)), self.trials)]
        found: dict[str, Point] = {}
        repeated = 0
        # A narrow range may hold fewer numbers of three digits than there are to be trials.
        while len(found) < self.trials and repeated < MOST_REPEATED:
            point = {name: axis.draw(dice) for name, axis in axes.items()}
            repeated = repeated + 1 if digest_of(point) in found else 0
            found.setdefault(digest_of(point), point)
        return list(found.values())


def _at(axes: Mapping[str, Choices | Range], place: int) -> Point:
    """The point with this number, from 0, in the product of axes that have a list of values each."""
    point = {}
    for name, axis in axes.items():
        place, own = divmod(place, len(axis.values))
        point[name] = axis.values[own]
    return point


def read_tune(block: Any, methods: Iterable[str], where: str) -> Tune | None:
    """The ``tune`` block of a sweep over ``methods``; None where there is none.

    Raises:
        UnknownNameError: a key that the block does not have, or a method that the sweep does not have.
        UsageError: no trials, an empty space, or values that are neither a list nor a range.
    """
    if block is None:
        return None
    given = _named(block, KEYS, f"tune of {where}")
    trials, seed = given.get("trials", 0), given.get("seed", 0)
    if not _is_whole(trials) or not 1 <= trials <= MOST_TRIALS:
        raise UsageError(
            f"{where}: trials of its tune is {trials!r}, expected a whole number from 1 to {MOST_TRIALS:,}"
        )
    if not _is_whole(seed) or seed < 0:
        raise UsageError(f"{where}: seed of its tune is {seed!r}, expected a whole number from 0")
    space, known = given.get("space"), sorted(set(methods))
    if not isinstance(space, Mapping) or not space:
        raise UsageError(f"{where}: its tune has no space; name methods, and what their options may be")
    for method in space:
        if method not in known:
            raise UnknownNameError("method", str(method), known, f"in the tune of {where}, which has no cell of it")
    return Tune(trials, seed, {str(name): dict(_axes(str(name), axes, where)) for name, axes in space.items()})


def _axes(method: str, axes: Any, where: str) -> Iterator[tuple[str, Choices | Range]]:
    if not isinstance(axes, Mapping) or not axes:
        raise UsageError(f"{where}: the space of {method} is empty; leave it out to run the method with its defaults")
    for key, value in axes.items():
        name = str(key)
        if name.partition(".")[0] == "task" or (name in RUN_FIELDS and name not in TUNABLE):
            raise UsageError(f"{where}: {name} cannot be tuned: options of the method, the decision or the prompt can")
        yield name, _axis(value, f"{where}: {name} in the space of {method}")


def _axis(value: Any, where: str) -> Choices | Range:
    if isinstance(value, Mapping):
        given = _named(value, RANGE_KEYS, where)
        low, high, log = (
            _number(given.get("low", math.nan)),
            _number(given.get("high", math.nan)),
            given.get("log", False),
        )
        if not (_is_number(low) and _is_number(high) and isinstance(log, bool)) or low >= high or (log and low <= 0):
            raise UsageError(f"{where} is {dict(value)!r}, expected low < high, and with log: true a low above 0")
        return Range(low, high, log)
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where} is {value!r}, expected a list of values, or {{low: 1e-5, high: 1e-3, log: true}}")
    if len({digest_of(entry) for entry in value}) < len(value):
        raise UsageError(f"{where} is {value!r}: a value is there twice")
    return Choices(tuple(map(_number, value)))


def _named(data: Any, known: Sequence[str], where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} holds {type(data).__name__}, expected {', '.join(known)}")
    for key in data:
        if key not in known:
            raise UnknownNameError("key", str(key), known, f"in {where}")
    return data


def _number(value: Any) -> Any:
    """YAML reads ``1e-4`` as text, and takes ``1.0e-4`` for a number: both are meant as one here."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def choose(registry: Registry, tried: Sequence[Point], results: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """The record of a tuning, as ``results.json`` keeps it: the point of ``tried`` with the best primary metric.

    ``results``: what came of each trial, None where its training could not go on; such a trial counts, and is never
    chosen. Of equal scores the first wins.

    Raises:
        UsageError: no trial has a score.
    """
    finished = [entry for entry in results if entry is not None]
    scores = [None if entry is None else _score(entry) for entry in results]
    usable = [score for score in scores if score is not None]
    if not usable:
        raise UsageError(f"none of {len(tried)} trials has a score to choose by; widen the space")
    metric = str(finished[0]["primary_metric"])
    own = registry.metrics.get(metric)
    lower = metric in LOWER_IS_BETTER or (own is not None and not own.higher_is_better)
    best = scores.index(min(usable) if lower else max(usable))
    return {
        "trials": len(tried),
        "metric": metric,
        "tried": [dict(point) for point in tried],
        "scores": scores,
        "chosen": dict(tried[best]),
    }


def _score(results: Mapping[str, Any]) -> float | None:
    value: float | None = results["metrics"]["summary"][results["primary_metric"]]["value"]
    return value
