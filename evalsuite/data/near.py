"""Near copies: documents that share most of their wording with another.

Definition: two texts are near copies when the sets of their shingles (runs of three words of the normalised text) have
a Jaccard similarity of at least the threshold. Candidates are found by MinHash (64 permutations in 16 bands of 4) and
every candidate is compared exactly, so nothing is reported wrongly, and a pair at similarity 0.8 is overlooked with
probability (1 - 0.8^4)^16 = 0.0002. https://doi.org/10.1109/SEQUEN.1997.666900
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from evalsuite.data.splits import normalise

BANDS, ROWS = 16, 4
SHINGLE = 3

Hashes = npt.NDArray[np.uint64]

_random = np.random.default_rng(0)
_FACTORS = _random.integers(0, 2**63, (BANDS * ROWS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _random.integers(0, 2**63, (BANDS * ROWS, 1), dtype=np.uint64)
_POSITIONS = (_random.integers(0, 2**63, SHINGLE, dtype=np.uint64) * np.uint64(2)) + np.uint64(1)


def near_copies(texts: Sequence[str], references: Iterable[str], threshold: float = 0.8) -> list[int]:
    """Positions in ``texts`` that have a near copy among ``references``. References are read once and not kept."""
    shingles = [_shingles(text) for text in texts]
    buckets: dict[bytes, list[int]] = defaultdict(list)
    for position, own in enumerate(shingles):
        for key in _band_keys(own):
            buckets[key].append(position)
    found: set[int] = set()
    for reference in references:
        other = _shingles(reference)
        candidates = {position for key in _band_keys(other) for position in buckets.get(key, ())}
        found.update(position for position in candidates - found if _jaccard(shingles[position], other) >= threshold)
    return sorted(found)


def _shingles(text: str) -> Hashes:
    """The distinct shingle hashes of a text; a text of fewer words than a shingle has one, an empty one none."""
    words = [zlib.crc32(word.encode()) for word in re.findall(r"\w+", normalise(text))]
    if not words:
        return np.empty(0, dtype=np.uint64)
    hashed = np.array(words + [0] * (SHINGLE - len(words)), dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(hashed, SHINGLE)
    mixed = (windows * _POSITIONS).sum(axis=1, dtype=np.uint64)
    return np.unique(mixed ^ (mixed >> np.uint64(29)))


def _band_keys(shingles: Hashes) -> Iterator[bytes]:
    if not len(shingles):
        return
    signature = ((shingles * _FACTORS + _OFFSETS) >> np.uint64(32)).min(axis=1)
    for band, rows in enumerate(signature.reshape(BANDS, ROWS)):
        yield band.to_bytes(1, "big") + rows.tobytes()


def _jaccard(left: Hashes, right: Hashes) -> float:
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)
