"""The columns that a table of runs may have: each one number, or a few, of a group of runs that differ in the seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsuite.counts import answered_statistics, answered_summaries, bootstrap_sums, percentile_interval
from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.metrics import Bootstrap
from evalsuite.report.grouping import Group

ABSENT = "-"
DOTTED = ("facts", "references", "cost", "data", "decision", "calibration", "collapse")


@dataclass(frozen=True)
class Column:
    """``compute`` gives plain data, None where there is none; ``show`` makes text of what is not None."""

    meaning: str
    compute: Callable[[Group], Any]
    show: Callable[[Any], str]


def metric(value: float) -> str:
    """A number of the size of an F1."""
    return f"{value:.3f}"


def amount(value: float) -> str:
    """Three digits, and never fewer than the whole number has."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def seconds(value: float) -> str:
    """Seconds; what took under a tenth of one is not worth its digits."""
    return "0 s" if value < 0.1 else f"{amount(value)} s"


def mebibytes(value: float) -> str:
    """Bytes, in MiB."""
    return f"{value / 2**20:,.0f} MiB"


def interval_text(bounds: Sequence[float]) -> str:
    """Both ends of an interval."""
    return f"{metric(bounds[0])} to {metric(bounds[1])}"


def look_up(results: Mapping[str, Any], path: str) -> Any:
    """``facts.steps`` or ``references.teacher.f1_macro``: the value at a dotted path, None where there is none.

    Within a reference, the name of a metric or a ratio may follow at once.
    """
    found: Any = results
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        inner = [found[key] for key in ("metrics", "ratios") if isinstance(found.get(key), Mapping)]
        found = next((level[name] for level in (found, *inner) if name in level), None)
    return found["value"] if isinstance(found, Mapping) and "value" in found else found


def _each(group: Group, path: str) -> list[Any]:
    return [value for results in group.results if (value := look_up(results, path)) is not None]


def _median(path: str) -> Callable[[Group], float | None]:
    return lambda group: float(np.median(values)) if (values := _each(group, path)) else None


def _mean(path: str) -> Callable[[Group], float | None]:
    return lambda group: float(np.mean(values)) if (values := _each(group, path)) else None


def _distinct(path: str) -> Callable[[Group], list[Any] | None]:
    return lambda group: list(dict.fromkeys(map(str, values))) if (values := _each(group, path)) else None


def _across(measure: Callable[[Sequence[float]], float], least: int = 1) -> Callable[[Group], float | None]:
    return lambda group: float(measure(values)) if len(values := group.values(group.primary)) >= least else None


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))


def interval(group: Group) -> list[float] | None:
    """95% bootstrap over documents of the primary metric's mean over seeds, for these seeds.

    Every resample draws the same documents for all runs. A single run has its own interval already.
    """
    if len(group.runs) == 1:
        return group.runs[0].results["metrics"]["summary"][group.primary]["interval"] or None
    blocks = [answered_statistics(samples.gold, samples.predicted, samples.status) for samples in group.samples]
    bootstrap = Bootstrap()
    drawn = bootstrap_sums(np.hstack(blocks), bootstrap.resamples, bootstrap.seed)
    scores = []
    for sums in np.split(drawn, len(group.runs), axis=1):
        found = answered_summaries(sums)
        if group.primary not in found:
            return None
        scores.append(found[group.primary])
    bounds = percentile_interval(np.mean(scores, axis=0))
    return list(bounds) if bounds else None


def _trials(group: Group) -> int:
    """All runs of a group were tuned alike, or none was: ``trials`` is one of its fields."""
    return int(group.fields.get("trials", 0))


def _memory(group: Group) -> float | None:
    peaks = [results["cost"]["peak_memory_bytes"] for results in group.results]
    used = [peak["gpu"] or peak["cpu"] for peak in peaks]
    return float(np.median(used)) if used and None not in used else None


def _collapsed(group: Group) -> list[int] | None:
    verdicts = _each(group, "collapse.collapsed")
    return [sum(map(bool, verdicts)), len(verdicts)] if verdicts else None


def _epochs_to(reach: float | None) -> Callable[[Group], list[Any] | None]:
    def compute(group: Group) -> list[Any] | None:
        if reach is None:
            raise UsageError("column epochs_to: which score is to be reached? name it with --reach 0.6")
        trained = [results["facts"] for results in group.results if results["facts"].get("validation_curve")]
        if not trained:
            return None
        epochs = [
            first * facts["epochs"] / facts["steps"]
            for facts in trained
            if (first := next((step for step, score in facts["validation_curve"] if score >= reach), None)) is not None
        ]
        return [float(np.median(epochs)) if epochs else None, len(epochs), len(trained)]

    return compute


def columns_of(reach: float | None = None) -> dict[str, Column]:
    """Name -> column, beside every metric and every dotted path. ``reach``: the score that epochs_to looks for."""
    return {
        "seeds": Column("runs that the row stands on, one a seed", lambda group: len(group.runs), str),
        "trials": Column("options that were tried on validation to choose the row's, 0: none", _trials, str),
        "sd": Column("standard deviation over seeds of the primary metric", _across(_deviation, 2), metric),
        "lowest": Column("lowest primary metric of a seed", _across(min), metric),
        "highest": Column("highest primary metric of a seed", _across(max), metric),
        "interval": Column(
            "95% bootstrap over documents of the primary metric's mean over these seeds", interval, interval_text
        ),
        "trainable": Column("trainable parameters", _median("parameters.trainable"), lambda value: f"{value:,.0f}"),
        "total": Column("parameters", _median("parameters.total"), lambda value: f"{value:,.0f}"),
        "train": Column("median seconds of training", _median("cost.train.seconds"), seconds),
        "predict": Column(
            "median documents a second", _median("cost.predict.documents_per_second"), lambda v: f"{amount(v)} docs/s"
        ),
        "memory": Column(
            "median peak memory, of the GPU where there is one", _memory, lambda v: f"{v / 2**20:,.0f} MiB"
        ),
        "usd": Column("mean US dollars that a run spent on requests", _mean("cost.usd"), lambda v: f"${amount(v)}"),
        **{
            f"{name}_{when}": Column(
                f"{name} {when} calibration, mean over seeds", _mean(f"calibration.{when}.{name}"), metric
            )
            for name in ("ece", "brier")
            for when in ("before", "after")
        },
        "collapsed": Column(
            "runs that learned nothing, of those that were judged", _collapsed, lambda v: f"{v[0]} of {v[1]}"
        ),
        "epochs_to": Column(
            "median epochs until validation first reached the score of --reach, and how many runs did",
            _epochs_to(reach),
            lambda v: f"{ABSENT if v[0] is None else amount(v[0])} ({v[1]} of {v[2]})",
        ),
        "kept": Column("primary metric over the teacher's", _mean("references.teacher.primary"), metric),
        "speedup": Column("documents a second over the teacher's", _median("references.teacher.speed"), amount),
        "layer_used": Column("layers that the runs chose", _distinct("facts.layer"), ", ".join),
        "speed_gain": Column("speed gained by dropping layers", _median("facts.speed_gain"), amount),
        "truncated": Column(
            "mean share of test documents cut to fit", _mean("facts.truncated_share"), lambda v: f"{v:.1%}"
        ),
    }


def find_columns(names: Sequence[str], groups: Sequence[Group], reach: float | None = None) -> dict[str, Column]:
    """The named columns. Raises: UnknownNameError for a name that is no column, metric or dotted path."""
    known = columns_of(reach)
    metrics = {name for group in groups for results in group.results for name in results["metrics"]["summary"]}
    found = {}
    for name in names:
        if name in known:
            found[name] = known[name]
        elif name in metrics:
            found[name] = Column("mean over seeds", lambda group, name=name: group.mean(name), metric)  # type: ignore[misc]
        elif name.partition(".")[0] in DOTTED and "." in name:
            found[name] = Column("mean over seeds, or each value", _any(name), _any_text)
        else:
            raise UnknownNameError("column", name, [*known, *metrics], f"or a path such as {DOTTED[0]}.NAME")
    return found


def _any(path: str) -> Callable[[Group], Any]:
    def compute(group: Group) -> Any:
        values = _each(group, path)
        if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return float(np.mean(values))
        return list(dict.fromkeys(map(str, values))) or None

    return compute


def _any_text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else amount(value)
