"""What a dataset and scores must be, checked where they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evalsuite.contracts import Example, Scores, Splits
from evalsuite.errors import DataError

ONE = Example("1", "text", (0,))


def splits(**changes: Any) -> Splits:
    return Splits(**{"labels": ("a", "b"), "train": [ONE], "validation": [], "test": [ONE], **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ("a",)}, r"two or more distinct labels, got \['a'\]"),
        ({"labels": ("a", "a")}, "two or more distinct labels"),
        ({"train": [ONE, ONE]}, "train: document id '1' occurs twice"),
        ({"test": [Example("7", "text", ())]}, "test: document '7' has 0 labels, expected exactly one"),
        ({"test": [Example("7", "text", (0, 1))]}, "has 2 labels, expected exactly one"),
        ({"validation": [Example("7", "text", (2,))]}, r"validation: document '7' has a label outside 0\.\.1"),
        ({"train": [Example("7", "text", (-1,))]}, r"outside 0\.\.1"),
    ],
)
def test_a_dataset_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        splits(**changes)


def test_a_dataset_may_have_one_id_in_two_splits_and_documents_without_labels() -> None:
    made = splits(multilabel=True, train=[Example("2", "", ()), Example("3", "", (0, 1))])
    assert made.split("test") == [ONE]


def test_scores_need_an_answer_and_a_state_for_each_document() -> None:
    logits = np.zeros((2, 3), np.float32)
    assert list(Scores(logits=logits).status) == ["ok", "ok"]
    assert len(Scores(predicted=np.zeros((4, 3), bool))) == 4
    with pytest.raises(ValueError, match="needs logits or predicted"):
        Scores()
    with pytest.raises(ValueError, match="2 documents, but 1 states"):
        Scores(logits=logits, status=["ok"])
    with pytest.raises(ValueError, match="2 documents"):
        Scores(logits=logits, raw=["one"])
