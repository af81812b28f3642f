"""Answers as a tree: what is shared is read once."""

from __future__ import annotations

import numpy as np

from evalsuite.llm.answers.label_tree import blocks, build_tree

END = 9
ANSWERS = [[1, END], [1, 2, END], [1, 2, 3, END], [4, 2, END]]


def test_shared_beginnings_are_one_node_and_the_end_mark_is_none() -> None:
    tree = build_tree(ANSWERS)
    assert list(zip(tree.tokens, tree.depths, strict=True)) == [(1, 1), (2, 2), (3, 3), (4, 1), (2, 2)]
    assert len(tree.targets) == 5 + 4  # every node, and an end mark an answer


def test_a_node_sees_its_ancestors_and_itself() -> None:
    sees = build_tree(ANSWERS).sees
    expected = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]])
    assert np.array_equal(sees, expected.astype(bool))


def test_paths_spell_the_answers() -> None:
    tree = build_tree(ANSWERS)
    for answer, path in zip(ANSWERS, tree.paths, strict=True):
        edges = np.flatnonzero(path)
        assert [tree.targets[edge] for edge in edges] == answer
        assert tree.sources[edges[0]] == 0
    assert sorted(edge for pairs in tree.children for edge, _ in pairs) == list(range(len(tree.targets)))


def test_blocks_hold_every_answer_once_within_the_limit() -> None:
    answers = [[i % 7, i, i + 1, END] for i in range(100)]
    cut = list(blocks(answers, limit=20))
    assert [answer for block in cut for answer in answers[block]] == answers
    assert len(cut) > 3
    assert all(len(build_tree(answers[block]).tokens) <= 20 for block in cut)
    assert list(blocks([[1, 2, 3, 4, END]], limit=1)) == [slice(0, 1)]
