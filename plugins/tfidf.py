"""``tfidf``: words and pairs of words, weighted by rarity, and one linear support vector machine a label.

The floor that a language model has to beat. Shapes: n documents, k labels, f features.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.calibration import fit_temperature
from evalsuite.contracts import Bools, Example, Floats, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError, TrainingError
from evalsuite.hookspecs import hookimpl
from evalsuite.metrics import one_hot
from evalsuite.options import Options, option

VOCABULARY = "vocabulary.json"
WEIGHTS = "tfidf.npz"
FOLDS = 3


class TfidfOptions(Options):
    """Options of ``tfidf``."""

    ngrams: int = option(
        2, "longest run of words that is a feature", unit="words", ge=1, le=5, source="arXiv 1607.01759"
    )
    min_df: int = option(2, "a feature occurs in at least so many training documents", unit="documents", ge=1)
    max_features: int = option(200_000, "the most frequent features are kept", unit="features", ge=1)
    sublinear_tf: bool = option(True, "count a repeated word as 1 + log of its count", source="scikit-learn user guide")
    svm_c: float = option(
        1.0, "penalty of a training error; smaller is smoother", gt=0, source="scikit-learn's default"
    )


class Tfidf:
    """Linear scores of tf-idf features: logits [n, k] = features [n, f] @ weights [f, k] + bias [k].

    A margin says on which side a document lies, not how surely, so weights and bias are divided by the temperature that
    makes probabilities of margins on held-out folds of the training split.
    """

    def __init__(self, config: TfidfOptions, ctx: RunContext) -> None:
        self.config, self.ctx = config, ctx
        self.vectorizer: Any = None
        self.weights: Floats = np.zeros((0, len(ctx.labels)), np.float32)
        self.bias: Floats = np.zeros(len(ctx.labels), np.float32)

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Learn vocabulary and weights from ``train``; there is nothing to stop early.

        Raises:
            TrainingError: no word occurs in enough documents.
        """
        self.vectorizer = make_vectorizer(self.config)
        try:
            features = self.vectorizer.fit_transform([example.text for example in train])
        except ValueError as error:
            raise TrainingError(
                f"no words to learn from in {len(train)} documents ({error}); try --set min_df=1"
            ) from None
        gold = one_hot(train, len(self.ctx.labels))
        fold = np.random.default_rng(self.ctx.seed).permutation(len(train)) % FOLDS
        margins = np.zeros(gold.shape)
        with self.ctx.progress.bar("tfidf: labels", gold.shape[1] * (FOLDS + 1), "labels") as advance:
            for held_out in (fold == number for number in range(FOLDS)):
                weights, bias = self._separate(features[~held_out], gold[~held_out], advance)
                margins[held_out] = features[held_out] @ weights + bias
            weights, bias = self._separate(features, gold, advance)
        temperature, _ = fit_temperature(margins, gold, self.ctx.multilabel)
        self.weights, self.bias = weights / np.float32(temperature), bias / np.float32(temperature)
        size = self.weights.size + self.bias.size
        self.ctx.facts.update(features=len(self.weights), trainable_parameters=size, total_parameters=size)

    def _separate(self, features: Any, gold: Bools, advance: Any) -> tuple[Floats, Floats]:
        """One label against the rest, each: weights [f, k] and bias [k]."""
        from sklearn.svm import LinearSVC

        weights = np.zeros((features.shape[1], gold.shape[1]), np.float32)
        bias = np.zeros(gold.shape[1], np.float32)
        for label, positive in enumerate(gold.T):
            if positive.all() or not positive.any():
                bias[label] = 1 if positive.any() else -1  # the margin of a clear yes or no
            else:
                machine = LinearSVC(C=self.config.svm_c, max_iter=10_000, random_state=self.ctx.seed)
                machine.fit(features, positive)
                weights[:, label], bias[label] = machine.coef_[0], machine.intercept_[0]
            advance(1)
        return weights, bias

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits [n, k]; a text without a known word gets the bias alone."""
        if not texts:  # scikit-learn refuses an empty list
            return Scores(logits=np.zeros((0, len(self.ctx.labels)), np.float32))
        features = self.vectorizer.transform(texts)
        return Scores(logits=np.asarray(features @ self.weights + self.bias, np.float32))

    def save(self, directory: Path) -> None:
        """Write numbers and words, no pickle: reading a run never executes what is in it."""
        words = self.vectorizer.get_feature_names_out().tolist()
        (directory / VOCABULARY).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        np.savez(directory / WEIGHTS, weights=self.weights, bias=self.bias, idf=self.vectorizer.idf_)


def make_vectorizer(config: TfidfOptions, vocabulary: Sequence[str] | None = None) -> Any:
    """scikit-learn's vectorizer with these options; one that is to be fitted, or one with a known vocabulary."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, config.ngrams),
        min_df=config.min_df,
        max_features=config.max_features,
        sublinear_tf=config.sublinear_tf,
        vocabulary=vocabulary,
        dtype=np.float32,
    )


def load(directory: Path, config: TfidfOptions, ctx: RunContext) -> Tfidf:
    """Read what ``save`` wrote.

    Raises:
        ModelError: a file is absent, damaged, or of other labels.
    """
    method = Tfidf(config, ctx)
    try:
        words = json.loads((directory / VOCABULARY).read_text(encoding="utf-8"))
        with (directory / WEIGHTS).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            method.weights, method.bias = arrays["weights"], arrays["bias"]
            method.vectorizer = make_vectorizer(config, words)
            method.vectorizer.idf_ = arrays["idf"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{directory} holds no readable tfidf model ({error}); train again with --overwrite always"
        ) from None
    if method.weights.shape != (len(words), len(ctx.labels)):
        raise ModelError(
            f"{directory / WEIGHTS} holds weights of shape {method.weights.shape}, expected {len(words)} features by "
            f"{len(ctx.labels)} labels; train again with --overwrite always"
        )
    return method


@hookimpl
def evalsuite_register_methods() -> Iterable[MethodSpec]:
    """Register ``tfidf``."""
    return [MethodSpec("tfidf", Tfidf, load, TfidfOptions, description="tf-idf of words and a linear SVM a label")]
