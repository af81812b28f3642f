"""When two sides said the same, by what their precision can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BFLOAT16 = 2.0**-7  # the distance of neighbouring values over their size


def same_labels(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], tie: float = 0.0) -> npt.NDArray[np.bool_]:
    """Whether both scores [n, k] have the same largest label, [n]; of labels that are ``tie`` apart, either is it."""
    picked = ours[np.arange(len(ours)), theirs.argmax(axis=1)]
    return np.asarray(ours.max(axis=1) - picked <= tie)
