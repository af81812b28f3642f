"""Probabilities from logits, how far they can be trusted, and the temperature that mends them.

Shapes: n documents, k labels. Single label: softmax over k. Multi-label: one sigmoid a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools

Array = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating[Any]]

BINS = 15
MIN_DOCUMENTS = 20
TEMPERATURE_BOUNDS = (0.01, 100.0)
_SIMULATED_OUTCOMES = 20_000_000


def probabilities_of(logits: AnyFloats, multilabel: bool, temperature: float = 1.0) -> Array:
    """Probabilities [n, k] in float64 of ``logits`` [n, k] divided by ``temperature``."""
    return np.exp(log_probabilities(np.asarray(logits, np.float64) / temperature, multilabel))


def log_probabilities(logits: Array, multilabel: bool) -> Array:
    """Natural logarithms [n, k] of the probabilities of ``logits``, exact where the probabilities underflow."""
    if multilabel:
        log_sigmoid: Array = -np.logaddexp(0, -logits)
        return log_sigmoid
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def brier(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> Array:
    """Brier score of each document, [n].

    Single label: squared errors summed over labels, 0 to 2, as Brier defined it in 1950. Multi-label: their mean over
    labels, 0 to 1.
    """
    errors = (np.asarray(probabilities, np.float64) - gold) ** 2
    return np.asarray(errors.mean(axis=1) if multilabel else errors.sum(axis=1))


def negative_log_likelihood(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> Array:
    """Negative log-likelihood of each document in nats, [n]; multi-label: mean binary cross-entropy over labels.

    Probabilities are kept 1e-15 away from 0 and 1, so that one sure and wrong answer costs 34.5 nats, not infinity.
    """
    chances = np.clip(np.asarray(probabilities, np.float64), 1e-15, 1 - 1e-15)
    if multilabel:
        return np.asarray(-np.where(gold, np.log(chances), np.log1p(-chances)).mean(axis=1))
    return np.asarray(-np.log(chances[gold]))


def measures(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> dict[str, float]:
    """``ece``, ``brier`` and ``nll`` of one or more documents: the one place where a result gets them from."""
    return {
        "ece": calibration_error(probabilities, gold, multilabel),
        "brier": float(brier(probabilities, gold, multilabel).mean()),
        "nll": float(negative_log_likelihood(probabilities, gold, multilabel).mean()),
    }


def calibration_error(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> float:
    """Expected calibration error over 15 equal-width bins, each open below and closed above.

    Single label: of the likeliest label (Guo et al. 2017, arXiv 1706.04599). Multi-label: of the probability of each
    label, averaged over labels.
    """
    confidence, outcome = _confidence(probabilities, gold, multilabel)
    return _binned_gap(_bins(confidence), outcome - confidence)


def reliability_bins(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> list[dict[str, Any]]:
    """For each of the 15 bins of :func:`calibration_error`: ``count``, mean ``confidence``, and ``accuracy``.

    Single label: documents, by the likeliest label's probability; accuracy is the share where it is right. Multi-label:
    all n k probabilities pooled over labels; accuracy is the share of gold labels among them. Means of an empty bin are
    None.
    """
    confidence, outcome = _confidence(probabilities, gold, multilabel)
    cells = (_bins(confidence) % BINS).ravel()
    counts, confidences, outcomes = (
        np.bincount(cells, weights=values, minlength=BINS).tolist()
        for values in (None, confidence.ravel(), outcome.ravel())
    )
    return [
        {"count": count, "confidence": sure / count if count else None, "accuracy": right / count if count else None}
        for count, sure, right in zip(counts, confidences, outcomes, strict=True)
    ]


def calibrated_error(probabilities: AnyFloats, multilabel: bool, seed: int) -> float:
    """What :func:`calibration_error` reads on average where these very probabilities are true.

    It is above 0 at any finite n, so ECE is to be read against it. Outcomes are drawn from the probabilities: 20 to
    1,000 draws, fewer where n k is large and the mean is steady anyway.
    """
    confidence, _ = _confidence(probabilities, np.zeros(probabilities.shape, np.bool_), multilabel)
    cells, rng = _bins(confidence), np.random.default_rng(seed)
    draws = int(np.clip(_SIMULATED_OUTCOMES // confidence.size, 20, 1_000))
    drawn = (_binned_gap(cells, (rng.random(confidence.shape) < confidence) - confidence) for _ in range(draws))
    return float(np.mean(list(drawn)))


def _confidence(probabilities: AnyFloats, gold: Bools, multilabel: bool) -> tuple[Array, Array]:
    """Confidence and outcome, [n, k] for multi-label, [n, 1] of the likeliest label otherwise."""
    chances = np.asarray(probabilities, np.float64)
    if multilabel:
        return chances, gold.astype(np.float64)
    top = chances.argmax(axis=1)[:, None]
    return np.take_along_axis(chances, top, axis=1), np.take_along_axis(gold, top, axis=1).astype(np.float64)


def _bins(confidence: Array) -> npt.NDArray[np.intp]:
    """The bin of each confidence [n, m], numbered through all m columns."""
    inner_edges = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.searchsorted(inner_edges, confidence, side="left") + BINS * np.arange(confidence.shape[1])


def _binned_gap(cells: npt.NDArray[np.intp], gaps: Array) -> float:
    """Mean over columns of sum over bins |sum of outcome - confidence| / n, which is ECE's definition rearranged."""
    n, columns = gaps.shape
    sums = np.bincount(cells.ravel(), weights=gaps.ravel(), minlength=BINS * columns)
    return float(np.abs(sums).sum() / (n * columns))


def fit_temperature(logits: AnyFloats, gold: Bools, multilabel: bool) -> tuple[float, str | None]:
    """The temperature that minimises the negative log-likelihood of ``gold``, and a reason where it was kept at 1.

    Guo et al. 2017, arXiv 1706.04599; for multi-label the binary cross-entropy takes the likelihood's place. One number
    changes no argmax. It is kept at 1 with fewer than 20 documents, or where the search ends at a bound (0.01, 100):
    labels that are separated perfectly, or logits that say nothing.
    """
    if len(logits) < MIN_DOCUMENTS:
        return 1.0, f"{len(logits)} documents are too few to fit a temperature (at least {MIN_DOCUMENTS})"
    from scipy.optimize import minimize_scalar

    loss = _loss_of_log_temperature(np.asarray(logits, np.float64), gold, multilabel)
    low, high = np.log(TEMPERATURE_BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    if loss(0.0) - found.fun < 1e-12:
        return 1.0, None
    # By the loss, as perfectly separated labels bring it to 0 long before the bound.
    for bound in (low, high):
        if loss(bound) - found.fun < 1e-9:
            return 1.0, f"the temperature ran to {np.exp(bound):g}, the bound of the search"
    return float(np.exp(found.x)), None


def _loss_of_log_temperature(logits: Array, gold: Bools, multilabel: bool) -> Callable[[float], float]:
    # -log sigmoid(z) of a gold label and -log sigmoid(-z) of another are one expression in the signed logit.
    signed = np.where(gold, logits, -logits)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        if multilabel:
            return float(np.logaddexp(0, -signed / temperature).mean())
        return float(-log_probabilities(logits / temperature, False)[gold].mean())

    return loss
