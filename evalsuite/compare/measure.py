"""Metrics that are functions of sums over documents, so that documents can be resampled for all runs at once.

Shapes: n documents, m columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evalsuite import calibration
from evalsuite.counts import Array, Table, answered_statistics, answered_summaries
from evalsuite.errors import UsageError
from evalsuite.metrics import LOWER_IS_BETTER
from evalsuite.report.grouping import Group
from evalsuite.samples import Samples

OF_COUNTS = (
    "accuracy",
    "f1_micro",
    "f1_macro",
    "f1_weighted",
    "f1_macro_all_labels",
    "precision_micro",
    "precision_macro",
    "recall_micro",
    "recall_macro",
)
OF_PROBABILITIES = {"brier": calibration.brier, "nll": calibration.negative_log_likelihood}


@dataclass(frozen=True)
class Measure:
    """A metric as sums: ``columns``: what each document adds, [n, m]; ``value``: the metric of sums [..., m]."""

    name: str
    columns: Callable[[Samples], Table]
    value: Callable[[Array], Array]

    @property
    def higher_is_better(self) -> bool:
        return self.name not in LOWER_IS_BETTER


def find_measure(name: str, groups: Sequence[Group]) -> Measure:
    """The metric by its name, for these groups of runs.

    Raises:
        UsageError: a metric that is no function of sums over documents, such as the ECE or a plugin's, or one of
            probabilities, which a run does not have.
    """
    if name in OF_COUNTS:

        def columns(samples: Samples) -> Table:
            return answered_statistics(samples.gold, samples.predicted, samples.status)

        return Measure(name, columns, lambda sums: answered_summaries(sums)[name])
    if name in OF_PROBABILITIES:
        _require_probabilities(name, groups)
        multilabel = groups[0].runs[0].results["multilabel"]
        return Measure(name, lambda samples: _losses(name, samples, multilabel), _mean)
    known = ", ".join((*OF_COUNTS, *OF_PROBABILITIES))
    raise UsageError(f"metric {name!r} cannot be compared, only sums over documents can; choose with --metric: {known}")


def _require_probabilities(name: str, groups: Sequence[Group]) -> None:
    for group in groups:
        for run, samples in zip(group.runs, group.samples, strict=True):
            if samples.probabilities is None:
                raise UsageError(f"metric {name!r} needs probabilities, which {run.directory} does not have")


def _mean(sums: Array) -> Array:
    total, count = sums[..., 0], sums[..., 1]
    mean: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _losses(name: str, samples: Samples, multilabel: bool) -> Table:
    """The loss of each document with probabilities, and a one: [n, 2]; zeros for the others."""
    assert samples.probabilities is not None  # see _require_probabilities
    ok = np.asarray(samples.status, dtype=np.str_) == "ok"
    columns = np.zeros((len(ok), 2))
    columns[ok, 0] = OF_PROBABILITIES[name](samples.probabilities[ok], samples.gold[ok], multilabel)
    columns[ok, 1] = 1
    return columns
