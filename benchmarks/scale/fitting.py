"""The exponent of a cost: the slope of a straight line through the logarithms of sizes and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fit:
    """cost = constant * size^exponent, by least squares of the logarithms.

    low, high: 95% of the exponent, by Student's t; None for fewer than three sizes. last: the exponent between the two
    largest sizes alone, where a fixed cost weighs least.
    """

    exponent: float
    constant: float
    low: float | None
    high: float | None
    last: float


def fit(sizes: Sequence[int], costs: Sequence[float]) -> Fit | None:
    """The line through the points; None for fewer than two sizes, or where a cost is 0."""
    if len(sizes) < 2 or min(costs) <= 0:
        return None
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(costs, np.float64))
    slope, height = np.polyfit(x, y, 1)
    last = float((y[-1] - y[-2]) / (x[-1] - x[-2]))
    low = high = None
    if len(sizes) > 2:
        from scipy.special import stdtrit

        rest = y - (slope * x + height)
        error = np.sqrt((rest @ rest) / (len(x) - 2) / ((x - x.mean()) @ (x - x.mean())))
        reach = float(stdtrit(len(x) - 2, 0.975)) * float(error)
        low, high = float(slope) - reach, float(slope) + reach
    return Fit(float(slope), float(np.exp(height)), low, high, last)
