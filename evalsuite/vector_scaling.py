"""Vector scaling: calibrated logits = scale * logits + bias, a scale and a bias for each label.

Shapes: n documents, k labels. Source: Guo et al. 2017, arXiv 1706.04599, section 4.2. For multi-label it is Platt's
scaling (1999) of each label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalsuite.calibration import AnyFloats, Array, log_probabilities
from evalsuite.contracts import Bools

# Far past what the prior lets through; it only keeps trial steps of the search from overflowing.
_LARGEST_LOG_SCALE = 5.0


def fit_vector(
    logits: AnyFloats, gold: Bools, parts: Sequence[Bools], multilabel: bool, temperature: float
) -> tuple[Array, Array]:
    """Scale [k] and bias [k] that minimise the negative log-likelihood of ``gold``, in all labels at once.

    2k numbers are many for few documents, so the search starts at ``temperature`` for every label and pays for leaving
    it: half a nat, once and not a document, for a scale off by a factor of e or a label's mean logit moved by 1. That
    is a unit normal prior; a label with dozens of documents hardly feels it, one that never or always occurs, or is
    separated perfectly, stays finite. Scales are positive, so that none turns a label's ranking of documents around.

    Each of ``parts`` (masks [n]) is fitted alone, and what they say is averaged: logarithms of scales, and biases as
    moved at the labels' mean logits. (At logit 0, which may lie far from all data, biases depend on the scales.)
    """
    start = np.asarray(logits, np.float64) / temperature
    centre = start[np.any(parts, axis=0)].mean(axis=0)
    fitted = [_fit(start[part] - centre, centre, gold[part], multilabel) for part in parts]
    log_scale, shift = np.mean(fitted, axis=0)
    scale = np.exp(log_scale)
    return scale / temperature, centre * (1 - scale) + shift


def _fit(deviations: Array, centre: Array, gold: Bools, multilabel: bool) -> Array:
    """Log-scales and shifts [2, k] of exp(log_scale) * deviations + centre + shift."""
    from scipy.optimize import minimize

    n, k = deviations.shape
    sign = np.where(gold, 1.0, -1.0)

    def loss_and_gradient(parameters: Array) -> tuple[float, Array]:
        log_scale, shift = parameters.reshape(2, k)
        scaled = np.exp(log_scale) * deviations
        moved = scaled + centre + shift
        logs = log_probabilities(moved, multilabel)
        loss = np.logaddexp(0, -sign * moved).sum() if multilabel else -logs[gold].sum()
        # The derivative of either likelihood by a logit is probability minus gold.
        slope = np.exp(logs) - gold
        gradient = np.concatenate([(slope * scaled).sum(axis=0), slope.sum(axis=0)]) + parameters
        return (loss + parameters @ parameters / 2) / n, gradient / n

    bounds = [(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE)] * k + [(None, None)] * k
    options = {"maxiter": 2_000, "maxfun": 4_000, "ftol": 1e-13, "gtol": 1e-7}
    found = minimize(loss_and_gradient, np.zeros(2 * k), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    best: Array = found.x.reshape(2, k)
    return best
