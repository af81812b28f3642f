"""Confusion counts, the F1 family computed from them, and their bootstrap. Shapes: n documents, k labels, b resamples.

Every metric here is a function of sums over documents, so that one matrix product scores a thousand resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools

Array = npt.NDArray[np.float64]
Table = npt.NDArray[np.bool_] | npt.NDArray[np.float64]

# One draw of a document costs about 8 ns, one binomial of a multinomial draw about 130 ns (both measured).
_DOCUMENTS_PER_BINOMIAL = 16
_BLOCK_CELLS = 4_000_000

# A product with a sparse matrix takes a sixth of the time for 24 runs of 114 labels, 2% of whose cells are ones.
_LARGE = 5_000_000
_SPARSE = 0.05


def label_statistics(gold: Bools, predicted: Bools, invalid: Bools | None = None) -> Bools:
    """What each document adds to the counts: [n, 3k + 1] with columns hits (k), predicted (k), gold (k), exact match.

    ``invalid`` [n] marks answers outside the label set: they predict nothing and never match, not even a document
    without labels.
    """
    matches = (gold == predicted).all(axis=1)
    if invalid is not None:
        predicted = predicted & ~invalid[:, None]
        matches = matches & ~invalid
    return np.hstack([gold & predicted, predicted, gold, matches[:, None]])


def answered_statistics(gold: Bools, predicted: Bools, status: Sequence[str]) -> Bools:
    """What each document adds to a run's counts: [n, 3k + 2], :func:`label_statistics` and a one.

    A failed document, one without an answer, adds nothing, not even to the number of documents.
    """
    states = np.asarray(status, dtype=np.str_)
    answered = (states != "failed")[:, None]
    return np.hstack([label_statistics(gold, predicted, states == "invalid") & answered, answered])


def answered_summaries(sums: Array) -> dict[str, Array]:
    """:func:`summaries` of the answered documents, from sums [..., 3k + 2] of :func:`answered_statistics`."""
    return summaries(sums[..., :-1], sums[..., -1])


def summaries(sums: npt.ArrayLike, documents: npt.ArrayLike) -> dict[str, Array]:
    """Metrics by name from sums of :func:`label_statistics`, [3k + 1] or [b, 3k + 1]; arrays of shape [] or [b].

    ``documents``: how many the sums run over, one number or [b].

    Macro averages run over the labels that occur in gold or prediction; a precision or recall that divides by zero
    counts 0, as in scikit-learn. ``f1_macro_all_labels`` runs over all k labels, an absent one counting 0. NaN where
    no label occurs at all, or no document.
    """
    table = np.asarray(sums, dtype=np.float64)
    k = table.shape[-1] // 3
    hits, predicted, gold = table[..., :k], table[..., k : 2 * k], table[..., 2 * k : 3 * k]
    f1 = _ratio(2 * hits, predicted + gold)
    present = (predicted + gold > 0).sum(axis=-1)
    all_hits, all_predicted, all_gold = hits.sum(axis=-1), predicted.sum(axis=-1), gold.sum(axis=-1)
    some = present > 0
    return {
        "accuracy": _ratio(table[..., -1], documents, empty=np.nan),
        "f1_micro": np.where(some, _ratio(2 * all_hits, all_predicted + all_gold), np.nan),
        "f1_macro": _ratio(f1.sum(axis=-1), present, empty=np.nan),
        "f1_weighted": _ratio((f1 * gold).sum(axis=-1), all_gold, empty=np.nan),
        "f1_macro_all_labels": np.where(some, f1.sum(axis=-1) / k, np.nan),
        "precision_micro": np.where(some, _ratio(all_hits, all_predicted), np.nan),
        "precision_macro": _ratio(_ratio(hits, predicted).sum(axis=-1), present, empty=np.nan),
        "recall_micro": np.where(some, _ratio(all_hits, all_gold), np.nan),
        "recall_macro": _ratio(_ratio(hits, gold).sum(axis=-1), present, empty=np.nan),
    }


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, empty: float = 0.0) -> Array:
    """Elementwise quotient, ``empty`` where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient: Array = np.divide(top, bottom, out=np.full(top.shape, empty), where=bottom != 0)
    return quotient


def bootstrap_sums(statistics: Table, resamples: int, seed: int) -> Array:
    """Column sums of ``statistics`` [n, m] over resamples of its rows with replacement: [resamples, m].

    Stack the statistics of several runs side by side to resample their documents jointly. Documents with equal rows are
    pooled first: a resample is then one multinomial draw over the distinct rows, which has the same distribution as
    drawing documents. Where the distinct rows are many, documents are drawn. Works in blocks of bounded memory.
    """
    return np.concatenate(list(bootstrap_blocks(statistics, resamples, seed)) or [np.empty((0, statistics.shape[1]))])


def bootstrap_blocks(statistics: Table, resamples: int, seed: int) -> Iterator[Array]:
    """The rows of :func:`bootstrap_sums` in blocks [<= resamples, m], for those who need not have all at once."""
    n = len(statistics)
    rows, pattern_of, sizes = _distinct_rows(statistics)
    # Counts below 2**24 are exact in float32, whose matrix products take half the time.
    exact = rows.dtype == np.bool_ and n < 2**24
    multiply = _sparse_product(rows) if exact and _is_sparse(rows) else _product(rows, np.float32 if exact else float)
    # Neither the weights of a block nor its sums are many, however few the documents or many the runs.
    block = max(1, _BLOCK_CELLS // max(rows.shape))
    for weights in _weights(np.random.default_rng(seed), pattern_of, sizes, resamples, block):
        yield multiply(weights).astype(np.float64)


def _is_sparse(rows: Table) -> bool:
    return rows.size >= _LARGE and int(np.count_nonzero(rows)) < _SPARSE * rows.size


def _product(rows: Table, kind: type) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]:
    factors: npt.NDArray[Any] = rows.astype(kind)
    return lambda weights: weights.astype(factors.dtype) @ factors


def _sparse_product(rows: Table) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]]:
    from scipy.sparse import csr_matrix

    factors = csr_matrix(rows.T, dtype=np.float32)
    # The transpose has one resample after another in a row, which is what the product walks along.
    return lambda weights: (factors @ np.ascontiguousarray(weights.T, dtype=np.float32)).T


def _distinct_rows(table: Table) -> tuple[Table, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The distinct rows of ``table``, the row of each document among them, and how many documents share each."""
    raw = np.ascontiguousarray(table).view(np.uint8)
    packed = np.packbits(raw, axis=1) if table.dtype == np.bool_ else raw
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, pattern_of, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return table[first], pattern_of, sizes


def _weights(
    rng: np.random.Generator,
    pattern_of: npt.NDArray[np.intp],
    sizes: npt.NDArray[np.intp],
    resamples: int,
    block: int,
) -> Iterator[npt.NDArray[np.int64]]:
    """Blocks [<= block, patterns] of how often each distinct row is drawn in a resample of n documents."""
    n, patterns = len(pattern_of), len(sizes)
    few = patterns * _DOCUMENTS_PER_BINOMIAL <= n
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        if few:
            yield rng.multinomial(n, sizes / n, size=count)
        else:
            # One resample at a time stays in the processor's cache, which makes it five times as fast.
            draws = (pattern_of[rng.integers(0, n, size=n, dtype=np.int32)] for _ in range(count))
            yield np.stack([np.bincount(drawn, minlength=patterns) for drawn in draws])


def percentile_interval(values: Array, level: float = 0.95) -> tuple[float, float] | None:
    """The central ``level`` of bootstrap ``values`` [b], None where none is a number.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    usable = values[~np.isnan(values)]
    if not len(usable):
        return None
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
