"""Solved examples for the front of a prompt: drawn from train alone, balanced over labels, the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from evalsuite.contracts import Example


def draw_examples(train: Sequence[Example], count: int, seed: int, k: int) -> list[Example]:
    """``count`` examples of ``train``: labels take turns, in random order, until enough are drawn or none is left.

    A smaller ``count`` gives the first of a larger one's. k: number of labels.
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
            while pools[label] and pools[label][-1] in chosen:
                pools[label].pop()
            if pools[label] and len(chosen) < count:
                chosen[pools[label].pop()] = None
    return [train[row] for row in chosen]
