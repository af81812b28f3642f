"""The answers of k labels as one tree of tokens, so that what they share is read and scored once.

The root is the prompt's last token. Every edge is a token to be predicted from its source; a node is a token that must
be read because more follows it. An answer's last token, the end mark, is predicted and never read: it is no node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelTree:
    """A tree of m nodes and e edges over k answers. Sources count from 0, the root; node i is source i + 1.

    answers: the k token sequences it was made of.
    tokens, depths: m each; a child of the root has depth 1.
    sees: bool [m, m], node i attends to j, an ancestor or itself.
    sources, targets: e each, where an edge starts and which token it predicts.
    children: of every source, its (edge, node) pairs; node None at the end of an answer.
    paths: float32 [k, e], 1 where an answer takes an edge.
    """

    answers: list[list[int]]
    tokens: list[int]
    depths: list[int]
    sees: npt.NDArray[np.bool_]
    sources: list[int]
    targets: list[int]
    children: list[list[tuple[int, int | None]]]
    paths: npt.NDArray[np.float32]


def build_tree(answers: Sequence[Sequence[int]]) -> LabelTree:
    """The tree of ``answers`` (token ids, each at least one, none twice)."""
    nodes: dict[tuple[int, ...], int] = {(): -1}
    edges: dict[tuple[int, ...], int] = {}
    for answer in answers:
        for length in range(1, len(answer) + 1):
            prefix = tuple(answer[:length])
            edges.setdefault(prefix, len(edges))
            if length < len(answer):
                nodes.setdefault(prefix, len(nodes) - 1)
    sees = np.eye(len(nodes) - 1, dtype=bool)
    children: list[list[tuple[int, int | None]]] = [[] for _ in nodes]
    for prefix, edge in edges.items():
        node, parent = nodes.get(prefix), nodes[prefix[:-1]]
        children[parent + 1].append((edge, node))
        if node is not None and parent >= 0:
            sees[node] |= sees[parent]
    paths = np.zeros((len(answers), len(edges)), dtype=np.float32)
    for row, answer in enumerate(answers):
        paths[row, [edges[tuple(answer[:length])] for length in range(1, len(answer) + 1)]] = 1
    inner = list(nodes)[1:]
    return LabelTree(
        answers=[list(answer) for answer in answers],
        tokens=[prefix[-1] for prefix in inner],
        depths=[len(prefix) for prefix in inner],
        sees=sees,
        sources=[nodes[prefix[:-1]] + 1 for prefix in edges],
        targets=[prefix[-1] for prefix in edges],
        children=children,
        paths=paths,
    )


def blocks(answers: Sequence[Sequence[int]], limit: int) -> Iterator[slice]:
    """Cut k answers into runs whose trees have at most ``limit`` nodes each; one answer always fits."""
    start, seen = 0, set[tuple[int, ...]]()
    for index, answer in enumerate(answers):
        prefixes = {tuple(answer[:length]) for length in range(1, len(answer))}
        if index > start and len(seen | prefixes) > limit:
            yield slice(start, index)
            start, seen = index, set()
        seen |= prefixes
    yield slice(start, len(answers))
