"""The synthetic samples are hard enough: a strong linear baseline is good on them, and far from perfect."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from evalsuite.contracts import Example


@pytest.mark.parametrize("name", ["ag_news", "wipo", "clv"])
def test_a_linear_model_is_good_but_not_perfect(name: str, tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    (task,) = import_module(f"evalsuite.tasks.{name}").evalsuite_register_tasks()
    splits = task.load(task.config(), tmp_path)

    def gold(examples: Sequence[Example]) -> np.ndarray:
        matrix = np.zeros((len(examples), len(splits.labels)), dtype=int)
        for row, example in enumerate(examples):
            matrix[row, list(example.labels)] = 1
        return matrix

    vectors = TfidfVectorizer(sublinear_tf=True)
    train = vectors.fit_transform([example.text for example in splits.train])
    model = OneVsRestClassifier(LinearSVC(class_weight="balanced")).fit(train, gold(splits.train))
    test = vectors.transform([example.text for example in splits.test])
    scores = model.decision_function(test)
    predicted = scores > 0 if splits.multilabel else np.eye(len(splits.labels))[scores.argmax(1)]
    score = f1_score(gold(splits.test), predicted.astype(int), average="macro", zero_division=0)
    assert 0.7 < score < 0.92
    majority = np.zeros_like(gold(splits.test))
    majority[:, gold(splits.train).sum(0).argmax()] = 1
    assert f1_score(gold(splits.test), majority, average="macro", zero_division=0) < score - 0.3
