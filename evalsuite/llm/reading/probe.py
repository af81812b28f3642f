"""A linear probe: logistic regression on frozen features, its penalty chosen inside the training documents.

Shapes: n documents, h hidden, k labels. ``features @ weight.T (+ bias)`` are logits of the features as they come: the
scaling under which the problem was solved is folded into the weights.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.calibration import negative_log_likelihood, probabilities_of
from evalsuite.contracts import Bools, Floats
from evalsuite.errors import TrainingError

# scikit-learn's C, the inverse weight of the penalty, on features of unit variance: ten thousand features and few
# documents want the lower end, few features and many documents the upper one
GRID = tuple(float(c) for c in np.logspace(-5, 1, 13).round(7))
FALLBACK_C = 0.01
FOLDS = 4
SEARCH_DOCUMENTS = 2000  # the search reads at most so many, drawn by the seed
SEARCH_LABELS = 20  # multi-label: the search solves at most so many, drawn by the seed; all share their C
MAX_ITERATIONS = 1000
# Without an intercept the mean of the features has to do its work. Along its direction they are brought to this size:
# as large as they come (tens to hundreds), the problem is badly conditioned and takes ten times the iterations.
MEAN_SIZE = 3.0


@dataclass(frozen=True)
class Probe:
    """A fitted probe: weight float32 [k, h], bias float32 [k] or None, and how it was found.

    ``cv_scores`` maps each C that was tried to its mean log-loss on held-out folds, in nats; it is empty where there
    were too few documents to search, and ``c`` is then the fallback. The search goes up the grid and ends where
    two in a row are worse than the best. ``chosen_by`` says where ``c`` is from. ``converged`` is False where a fit ran
    out of iterations.
    """

    weight: Floats
    bias: Floats | None
    c: float
    chosen_by: str
    seconds: float
    cv_scores: Mapping[float, float]
    converged: bool

    def logits(self, features: Floats) -> Floats:
        """Logits, float32 [n, k]."""
        logits = features @ self.weight.T
        return np.asarray(logits if self.bias is None else logits + self.bias, np.float32)

    def facts(self) -> dict[str, Any]:
        """How it was found, for a run's facts."""
        return {
            "probe_c": self.c,
            "probe_chosen_by": self.chosen_by,
            "probe_cv_log_loss": {f"{c:g}": loss for c, loss in self.cv_scores.items()},
            "probe_converged": self.converged,
            "probe_seconds": self.seconds,
        }


def fit_probe(
    features: Floats,
    gold: Bools,
    *,
    multilabel: bool,
    seed: int,
    intercept: bool,
    c: float | None = None,
    count: Callable[[int], None] = lambda labels: None,
) -> Probe:
    """Fit logistic regression with an L2 penalty: multinomial, for multi-label tasks one label against the rest.

    A label that no document has is learned from one made-up document at the features' mean (several such labels share
    it), so that it becomes about as unlikely as one document in n; so is the absence of a label that all have.

    Args:
        features: float32 [n, h], n at least 1.
        gold: bool [n, k], k at least 2.
        multilabel: whether a document may have any number of labels.
        seed: draws the documents and labels of the search, and the folds.
        intercept: whether there is a bias. Without one, features are scaled and not centred.
        c: scikit-learn's C on features of unit variance; None: chosen by cross-validation in these documents.
        count: is told how many of the k labels are finished.

    Raises:
        TrainingError: no documents, or features that are not finite.
    """
    started = time.monotonic()
    if not len(features) or not np.isfinite(features).all():
        raise TrainingError(
            f"a probe needs finite features of one document or more, got {len(features)} documents"
            f" with {int((~np.isfinite(features)).sum())} values that are not finite; try dtype=float32"
        )
    scaling = Scaling.of(features, intercept)
    scaled = scaling.apply(features)
    scores: dict[float, float] = {}
    if c is not None:
        chosen_by = "option"
    elif len(gold) < FOLDS:
        c, chosen_by = FALLBACK_C, "fallback: fewer documents than folds"
    else:
        scores = _search(scaled, gold, multilabel, intercept, seed)
        c, chosen_by = min(scores, key=scores.__getitem__), "cross-validation"
    machines = _Machines(scaled, gold, multilabel, intercept)
    coefficients, intercepts = machines.fit(c, count)
    weight, bias = scaling.fold(coefficients, intercepts)
    seconds = time.monotonic() - started
    return Probe(weight, bias if intercept else None, c, chosen_by, seconds, scores, machines.converged)


@dataclass(frozen=True)
class Scaling:
    """A linear change of features under which the fit is well conditioned: ((x - centre) / scale) shrunk along a line.

    centre, scale, direction: [h]; ``direction`` has length 1 and is where the scaled features' mean points, ``shrink``
    what they are multiplied by along it.
    """

    centre: Floats
    scale: Floats
    direction: Floats
    shrink: float

    @classmethod
    def of(cls, features: Floats, intercept: bool) -> Scaling:
        """Unit variance; with an intercept also mean 0, without one a mean of moderate length."""
        mean = features.mean(axis=0, dtype=np.float64)
        deviation = features.std(axis=0, dtype=np.float64)
        # a constant feature tells nothing apart: left as it is, rounding noise is not blown up into one
        scale = np.where(deviation > 1e-6 * np.abs(mean), deviation, np.maximum(1.0, np.abs(mean)))
        centre = mean if intercept else np.zeros_like(mean)
        length = float(np.linalg.norm((mean - centre) / scale))
        direction = (mean - centre) / scale / length if length else np.zeros_like(mean)
        shrink = min(1.0, MEAN_SIZE / length) if length else 1.0
        return cls(centre.astype(np.float32), scale.astype(np.float32), direction.astype(np.float32), shrink)

    def apply(self, features: Floats) -> Floats:
        """Scaled features, float32 [n, h]."""
        scaled = (features - self.centre) / self.scale
        scaled += np.outer(scaled @ self.direction, np.float32(self.shrink - 1) * self.direction)
        return np.asarray(scaled, np.float32)

    def fold(self, coefficients: Floats, intercepts: Floats) -> tuple[Floats, Floats]:
        """The weight [k, h] and bias [k] for unscaled features that give the logits of these for scaled ones."""
        exact = coefficients.astype(np.float64)
        exact += np.outer(exact @ self.direction, (self.shrink - 1) * self.direction)
        weight = exact / self.scale
        return weight.astype(np.float32), (intercepts - weight @ self.centre).astype(np.float32)


class _Machines:
    """scikit-learn's solvers for one set of documents; each fit starts from the last one's solution."""

    def __init__(self, scaled: Floats, gold: Bools, multilabel: bool, intercept: bool) -> None:
        from sklearn.linear_model import LogisticRegression

        self.gold, self.multilabel, self.converged = gold, multilabel, True
        self.absent = [] if multilabel else [int(label) for label in np.flatnonzero(~gold.any(axis=0))]
        made_up = int((gold.all(axis=0) | ~gold.any(axis=0)).any()) if multilabel else len(self.absent)
        mean = scaled.mean(axis=0, keepdims=True)
        self.features = np.concatenate([scaled, *[mean] * made_up]) if made_up else scaled
        self.solvers = [
            LogisticRegression(fit_intercept=intercept, max_iter=MAX_ITERATIONS, warm_start=True)
            for _ in range(gold.shape[1] if multilabel else 1)
        ]
        if intercept and not multilabel:
            self._start_from_shares(scaled.shape[1])

    def _start_from_shares(self, width: int) -> None:
        """Begin where every document gets the labels' shares: intercepts are not penalised, and rare labels' are large.

        From 0, a strong penalty takes hundreds of iterations to get there, and may stop on the way.
        """
        classes, weights = self._classes()
        shares = np.log(np.bincount(classes, weights=weights, minlength=self.gold.shape[1]) / weights.sum())
        intercepts = np.diff(shares) if len(shares) == 2 else shares - shares.mean()
        self.solvers[0].coef_ = np.zeros((len(intercepts), width), np.float32)
        self.solvers[0].intercept_ = intercepts.astype(np.float32)

    def fit(self, c: float, count: Callable[[int], None] = lambda labels: None) -> tuple[Floats, Floats]:
        """Coefficients [k, h] and intercepts [k] (zeros where there is none) for the penalty 1 / ``c``."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        if not self.multilabel:
            coefficients, intercepts = self._solve(0, c, *self._classes())
            count(self.gold.shape[1])
            if len(coefficients) == 1:  # two classes: scikit-learn gives their difference
                sides = np.array([-0.5, 0.5], np.float32)
                return sides[:, None] * coefficients, sides * intercepts
            return coefficients, intercepts
        solved = []
        # one thread: a product with a single vector gains nothing from more, and waiting for them costs thirty times it
        with threadpool_limits(1):
            for label in range(self.gold.shape[1]):
                solved.append(self._solve(label, c, *self._one_against_the_rest(label)))
                count(1)
        return np.concatenate([rows for rows, _ in solved]), np.concatenate([bias for _, bias in solved])

    def _classes(self) -> tuple[npt.NDArray[np.int64], Floats]:
        classes = np.concatenate([self.gold.argmax(axis=1), np.array(self.absent, np.int64)])
        weights = np.ones(len(classes), np.float32)
        weights[len(self.gold) :] = 1 / max(1, len(self.absent))
        return classes, weights

    def _one_against_the_rest(self, label: int) -> tuple[npt.NDArray[np.int64], Floats]:
        positive = self.gold[:, label]
        if positive.any() and not positive.all():
            return positive.astype(np.int64), np.ones(len(positive), np.float32)
        both = np.append(positive, not positive[0]).astype(np.int64)
        return both, np.ones(len(both), np.float32)

    def _solve(self, which: int, c: float, classes: npt.NDArray[np.int64], weights: Floats) -> tuple[Floats, Floats]:
        from sklearn.exceptions import ConvergenceWarning

        solver = self.solvers[which].set_params(C=c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported as ``converged``
            # few documents and many labels are what they are
            warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
            solver.fit(self.features[: len(classes)], classes, sample_weight=weights)
        self.converged = self.converged and int(solver.n_iter_.max()) < MAX_ITERATIONS
        coefficients = np.array(solver.coef_, np.float32)
        return coefficients, np.zeros(len(coefficients), np.float32) + np.asarray(solver.intercept_, np.float32)


def _search(scaled: Floats, gold: Bools, multilabel: bool, intercept: bool, seed: int) -> dict[float, float]:
    """Mean log-loss over the folds for every C of the grid, until two in a row are worse than the best."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(gold))[:SEARCH_DOCUMENTS]
    if multilabel and gold.shape[1] > SEARCH_LABELS:
        there = np.flatnonzero(gold[rows].any(axis=0) | ~gold[rows].any())
        gold = gold[:, np.sort(random.permutation(there)[:SEARCH_LABELS])]
    fold = np.arange(len(rows)) % FOLDS
    if not multilabel:  # stratified: the documents of a label are dealt out in turn
        fold[np.argsort(gold[rows].argmax(axis=1), kind="stable")] = np.arange(len(rows)) % FOLDS
    held_out = [rows[fold == number] for number in range(FOLDS)]
    kept = [rows[fold != number] for number in range(FOLDS)]
    machines = [_Machines(scaled[part], gold[part], multilabel, intercept) for part in kept]
    scores: dict[float, float] = {}
    for c in GRID:
        losses = []
        for machine, part in zip(machines, held_out, strict=True):
            coefficients, intercepts = machine.fit(c)
            logits = scaled[part] @ coefficients.T + intercepts
            losses.append(negative_log_likelihood(probabilities_of(logits, multilabel), gold[part], multilabel).mean())
        scores[c] = float(np.mean(losses))
        if min(list(scores.values())[-2:]) > min(scores.values()):
            break
    return scores
