"""Few documents of train, balanced over labels and the same for a seed: to stand solved in a prompt, or to train on."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from hashlib import blake2b

from evalsuite.contracts import Example
from evalsuite.data.splits import text_hash


def draw_examples(
    train: Sequence[Example], count: int, seed: int, k: int, avoid: Collection[str] = ()
) -> list[Example]:
    """``count`` examples of ``train``: labels take turns, in random order, until enough are drawn or none is left.

    A smaller ``count`` gives the first of a larger one's. k: number of labels. avoid: hashes of texts that must not be
    drawn, since they are scored elsewhere.
    """
    dice = random.Random(seed)
    pools: list[list[int]] = [[] for _ in range(k)]
    for row, example in enumerate(train):
        for label in example.labels:
            pools[label].append(row)
    for pool in pools:
        dice.shuffle(pool)
    order = [label for label in range(k) if pools[label]]
    dice.shuffle(order)
    chosen: dict[int, None] = {}
    while len(chosen) < count and any(pools):
        for label in order:
            while pools[label] and (pools[label][-1] in chosen or text_hash(train[pools[label][-1]].text) in avoid):
                pools[label].pop()
            if pools[label] and len(chosen) < count:
                chosen[pools[label].pop()] = None
    return [train[row] for row in chosen]


def balanced_subset(train: Sequence[Example], size: int, seed: int, k: int) -> list[Example]:
    """``size`` documents of each label, in their old order: labels take turns until each has enough or has no more.

    With several labels a document counts for all of them; one without labels is never picked. A smaller ``size`` gives
    a subset of a larger one's, whatever order the file is in. k: number of labels.
    """

    def key(row: int) -> bytes:
        return blake2b(f"{seed} {train[row].id}".encode(), digest_size=8).digest()

    pools: list[list[int]] = [[] for _ in range(k)]
    for row in sorted(range(len(train)), key=key, reverse=True):
        for label in train[row].labels:
            pools[label].append(row)
    counts, chosen = [0] * k, set[int]()
    # A round brings every label to one document more; nothing in it depends on how many rounds follow.
    for wanted in range(1, min(size, len(train)) + 1):
        for label, pool in enumerate(pools):
            while pool and counts[label] < wanted:
                if (row := pool.pop()) not in chosen:
                    chosen.add(row)
                    for carried in train[row].labels:
                        counts[carried] += 1
    return [example for row, example in enumerate(train) if row in chosen]
