"""10,000 bootstrap resamples of macro-F1, beside scikit-learn's f1_score called for every resample.

The work: 7,600 documents (AG News' test split), 4 labels, a classifier that is right nine times in ten; the macro-F1 of
10,000 resamples of the documents with replacement.

The peer: scikit-learn's f1_score in a loop. A loop of 10,000 takes minutes, so that it does 100 resamples a round and
its seconds are multiplied by 100. evalsuite draws how often each pair of gold and predicted label comes up, which has
the distribution of drawing documents, and computes all macro-F1s of a block of draws at once.

Compared: the same statistic (for the documents that the peer drew, evalsuite's macro-F1 is f1_score's), and the same
distribution (Kolmogorov-Smirnov distance to the peer's resamples, and to 10,000 drawn document by document).

The floor: the random numbers alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.commands import main
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side
from evalsuite.counts import label_statistics, summaries

OURS = "evalsuite"
PEER = "scikit-learn f1_score, 100 resamples times 100"
LABELS = 4
DOCUMENTS, RESAMPLES = 7_600, 10_000
SMALL_DOCUMENTS = 500
SAME = 1e-12
# Distance that two samples of one distribution exceed once in a thousand times, times the root of their sizes' harmony.
KOLMOGOROV_SMIRNOV = 1.95


def prepare(job: Path, options: Options) -> None:
    """Gold and predicted labels, [n] each."""
    random = np.random.default_rng(0)
    n = SMALL_DOCUMENTS if options.small else DOCUMENTS
    gold = random.integers(LABELS, size=n)
    predicted = np.where(random.random(n) < 0.9, gold, random.integers(LABELS, size=n))
    np.savez(job / "labels.npz", gold=gold, predicted=predicted)


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """That statistic and distribution are the same."""
    with np.load(job / "labels.npz") as stored:
        gold, predicted = stored["gold"], stored["predicted"]
    ours, theirs = outputs[OURS]["f1"], outputs[PEER]
    again = np.array([macro_f1(gold[drawn], predicted[drawn]) for drawn in theirs["drawn"]])
    apart = float(np.abs(again - theirs["f1"]).max())
    plain = drawn_by_document(gold, predicted, len(ours))
    return [
        Check("macro-F1 of the same documents, largest difference", apart, SAME, apart <= SAME),
        distance("distribution, distance to the peer's", ours, theirs["f1"]),
        distance("distribution, distance to 10,000 drawn by document", ours, plain),
    ]


def macro_f1(gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> float:
    """evalsuite's macro-F1 of labels [n] each."""
    names = np.arange(LABELS)
    statistics = label_statistics(gold[:, None] == names, predicted[:, None] == names)
    return float(summaries(statistics.sum(axis=0), len(gold))["f1_macro"])


def drawn_by_document(
    gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], resamples: int
) -> npt.NDArray[np.float64]:
    """macro-F1 of resamples that are drawn document by document, from their tables of gold and predicted label."""
    random, pairs = np.random.default_rng(2), LABELS * gold + predicted
    draws = (pairs[random.integers(len(pairs), size=len(pairs))] for _ in range(resamples))
    tables = np.stack([np.bincount(drawn, minlength=LABELS**2) for drawn in draws]).reshape(-1, LABELS, LABELS)
    hits = tables.diagonal(axis1=1, axis2=2)
    macro: npt.NDArray[np.float64] = (2 * hits / (tables.sum(axis=1) + tables.sum(axis=2))).mean(axis=1)
    return macro


def distance(what: str, one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> Check:
    """The largest difference of two empirical distribution functions, held to what chance allows."""
    points = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (one, other)]
    value = float(np.abs(below[0] - below[1]).max())
    limit = float(KOLMOGOROV_SMIRNOV * np.sqrt(1 / len(one) + 1 / len(other)))
    return Check(what, value, limit, value <= limit)


def floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
    """Drawing the tables."""
    with np.load(job / "labels.npz") as stored:
        sizes = np.bincount(LABELS * stored["gold"] + stored["predicted"])
    n, random = sizes.sum(), np.random.default_rng(0)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        random.multinomial(n, sizes[sizes > 0] / n, size=len(outputs[OURS]["f1"]))
        taken.append(time.perf_counter() - started)
    return Floor(min(taken), "the multinomial draws alone, by numpy")


CASES = [
    Case(
        name="8",
        work="10,000 bootstrap resamples of macro-F1, 7,600 documents, 4 labels",
        prepare=prepare,
        sides=[
            Side(OURS, "benchmarks.ours.bootstrap", {"resamples": RESAMPLES}),
            Side(PEER, "benchmarks.peers.sklearn_f1", {"resamples": RESAMPLES // 100}, share=0.01),
        ],
        targets={PEER: 100},
        check=check,
        floor=floor,
        cores=1,
    )
]

if __name__ == "__main__":
    main(CASES)
