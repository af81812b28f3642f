"""A plugin for the tests: tasks of made-up words, and a method that finds labels by word and reports what it was given.

Tests load it as a person would, by its path; one that needs a changed copy writes one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evalsuite import Example, MethodSpec, Metric, Options, RunContext, Scores, Splits, Task, option

LABELS = ("alpha", "beta", "gamma")
MARKER = "zxqv"
"""Part of every text, and of nothing else."""


class WordsOptions(Options):
    """How many documents, and what is special about them."""

    train: int = option(30, "training documents")
    validation: int = option(24, "validation documents")
    test: int = option(20, "test documents")
    word: str = option("", "a word more in every text")
    reverse_labels: bool = option(False, "the same documents, label names in reverse order")
    first_label: int | None = option(None, "gold label of the first training document, in place of its own")
    description: str = option("", "what the first label stands for")


def load_words(options: WordsOptions, cache: Path, multilabel: bool = False) -> Splits:
    """Texts that name their labels; every fifth names another one instead, so that no method is right everywhere."""
    order = sorted(range(len(LABELS)), reverse=options.reverse_labels)

    def document(split: str, row: int) -> Example:
        gold = {row % 3, (row // 3) % 3} if multilabel and row % 4 else set() if multilabel else {row % 3}
        if split == "train" and row == 0 and options.first_label is not None:
            gold = {options.first_label}
        named = {(row + 1) % 3} if row % 5 == 0 else gold
        words = [f"{MARKER}{split}{row}", *(LABELS[label] for label in sorted(named)), options.word]
        return Example(f"{split}-{row}", " ".join(words), tuple(sorted(order.index(label) for label in gold)))

    sizes = {"train": options.train, "validation": options.validation, "test": options.test}
    splits = {split: [document(split, row) for row in range(size)] for split, size in sizes.items()}
    labels = tuple(LABELS[index] for index in order)
    descriptions = {labels[0]: options.description} if options.description else {}
    return Splits(labels, **splits, multilabel=multilabel, descriptions=descriptions, findings={"odd rows": ["test-1"]})


def load_tags(options: WordsOptions, cache: Path) -> Splits:
    """The multi-label form."""
    return load_words(options, cache, multilabel=True)


class SpyOptions(Options):
    """What the method does wrong, and what it keeps to itself."""

    break_in: Literal["", "fit", "predict", "save", "load", "exit"] = option("", "where to raise, or exit in load")
    forget: bool = option(False, "a loaded method has lost its bias")
    logits: bool = option(True, "give logits, not decisions alone")
    states: tuple[Literal["ok", "invalid", "failed"], ...] = option(("ok",), "states of the documents, repeated")
    bias: float = option(0.0, "added to the logit of the first label")
    bar_seconds: float = option(0.0, "show a progress bar for so long")
    minutes: float = option(1.0, "changes nothing", identity=False)


class Spy:
    """logits [n, k]: 2 where the text has the label's name, -2 elsewhere; plus a bias."""

    def __init__(self, config: SpyOptions, ctx: RunContext, bias: float = 0.0) -> None:
        self.config, self.ctx, self.bias = config, ctx, bias
        self.given: dict[str, Any] = ctx.facts

    def _break(self, place: str) -> None:
        if self.config.break_in == place:
            raise RuntimeError(f"broken in {place}, as asked: {MARKER}")

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Take the bias over."""
        self.given.update(
            fitted_on=[example.id for example in train],
            stopped_on=[example.id for example in validation],
            noise=float(np.random.random()),
            trainable_parameters=1,
            array=np.arange(3),
            not_finite=float("nan"),
        )
        self._draw()
        self._break("fit")
        self.bias = self.config.bias

    def _draw(self) -> None:
        import time

        with self.ctx.progress.bar("spying", 4) as advance:
            for _ in range(4):
                time.sleep(self.config.bar_seconds / 4)
                advance(1)

    def predict(self, texts: Sequence[str]) -> Scores:
        """Look for the labels' names."""
        self._break("predict")
        self.given.setdefault("predicted_counts", []).append(len(texts))
        logits = np.array([[4.0 * (label in text) - 2 for label in self.ctx.labels] for text in texts], np.float32)
        logits = logits.reshape(len(texts), len(self.ctx.labels))  # none of a document too
        logits[:, 0] += self.bias
        states = [self.config.states[row % len(self.config.states)] for row in range(len(texts))]
        raw = [f"I read: {text}" for text in texts]
        if self.config.logits:
            return Scores(logits=logits, status=states, raw=raw)
        return Scores(predicted=logits >= logits.max(axis=1, keepdims=True), status=states, raw=raw)

    def save(self, directory: Path) -> None:
        """Write the bias."""
        self._break("save")
        (directory / "spy.json").write_text(json.dumps(self.bias), encoding="utf-8")


def load_spy(directory: Path, config: SpyOptions, ctx: RunContext) -> Spy:
    """Read the bias, or fail as asked."""
    if config.break_in == "load":
        raise RuntimeError(f"broken in load,\nas asked: {MARKER}")
    if config.break_in == "exit":
        os._exit(9)
    bias = json.loads((directory / "spy.json").read_text(encoding="utf-8"))
    return Spy(config, ctx, 0.0 if config.forget else bias)


def evalsuite_register_tasks() -> Iterable[Task]:
    secret = {"private": True, "description": "words that nobody may read"}
    return [
        Task("words", load_words, WordsOptions, description="made-up words"),
        Task("tags", load_tags, WordsOptions, multilabel=True, description="made-up words, any number of labels"),
        Task("secret", load_words, WordsOptions, **secret),
        Task("odd", load_words, WordsOptions, primary_metric="hit_any", description="scored by a plugin's metric"),
        Task("lost", load_words, WordsOptions, primary_metric="f1_marco", description="scored by nobody"),
    ]


def evalsuite_register_methods() -> Iterable[MethodSpec]:
    return [MethodSpec("spy", Spy, load_spy, SpyOptions, description="reports what it was given")]


def evalsuite_register_metrics() -> Iterable[Metric]:
    hits = Metric("hit_any", lambda gold, predicted, _: float((gold & predicted).any(axis=1).mean()))
    wrong = Metric("f1_wrong", lambda gold, predicted, _: float((gold != predicted).mean()), higher_is_better=False)
    return [hits, wrong]
