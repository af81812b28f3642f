"""Cost against the number of labels: scoring them, asking about each, heads, metrics, tables and the report page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.documents import table as table_of
from benchmarks.scale.making import (
    embedding,
    instruction,
    label_names,
    labelled,
    long_texts,
    model_folder,
    scores,
    untrained,
)
from benchmarks.scale.measuring import Curve, Inputs, Stage
from evalsuite.calibration import probabilities_of
from evalsuite.contracts import Example, Scores
from evalsuite.samples import Samples, write_samples

MODEL = (2, 128)  # layers, width
PROMPTS, WORDS = 8, 64
SCORED = 5_000  # documents of the stages without a model


def score_labels(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The log-likelihood of every label after 8 prompts: one pass over the tree of all labels."""
    method = instruction(model_folder(inputs, *MODEL), label_names(size), max_length=256, decode="score")
    texts = long_texts(PROMPTS, WORDS)
    return lambda: method.predict(texts)


def ask_labels(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Yes or no to every label after 8 prompts (decode=per_label)."""
    method = instruction(model_folder(inputs, *MODEL), label_names(size), max_length=256, decode="per_label")
    texts = long_texts(PROMPTS, WORDS)
    return lambda: method.predict(texts)


def embedding_head(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The logits of 64 documents by a head over all labels."""
    method = embedding(model_folder(inputs, *MODEL), label_names(size), max_length=128)
    texts = long_texts(8 * PROMPTS, WORDS)
    method.fit(list(labelled(texts[:16], size)), [])
    return lambda: method.predict(texts)


def fit_tfidf(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The reference method on 2,000 documents: a linear machine a label, six times."""
    names = label_names(size)
    texts = long_texts(2_000, 12)
    documents = [Example(str(at), f"{names[at % size]} {text}", (at % size,)) for at, text in enumerate(texts)]

    def work() -> Any:
        method = untrained("tfidf", names)
        method.fit(documents, [])
        return method

    return work


def scored(size: int, documents: int = SCORED, seed: int = 0) -> Samples:
    """Scored documents with so many labels."""
    gold, logits = scores(documents, size, seed)
    plain = table_of([Example(str(at), str(at), (0,)) for at in range(documents)])
    return replace(
        plain,
        gold=gold,
        predicted=np.eye(size, dtype=np.bool_)[logits.argmax(axis=1)],
        probabilities=probabilities_of(logits, False),
        labels=label_names(size),
    )


def metrics(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Every metric of 5,000 documents, with intervals of 9,999 resamples and a table of the labels."""
    from evalsuite.metrics import evaluate

    found = scored(size)
    rows = (found.gold, found.predicted, found.probabilities, found.status)
    return lambda: evaluate(*rows, multilabel=False)


def thresholds(size: int, inputs: Inputs) -> Callable[[], Any]:
    """A threshold a label and a temperature, fitted on 5,000 documents with any number of labels each."""
    from evalsuite.decision import DecisionOptions, fit_decision

    gold, logits = scores(SCORED, size)
    gold[np.arange(SCORED), np.random.default_rng(0).integers(0, size, SCORED)] = True
    options = DecisionOptions(threshold="per_label")
    given = Scores(logits=logits - np.float32(2.5))
    return lambda: fit_decision(given, gold, multilabel=True, options=options)


def compare(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Two runs on 5,000 documents, with McNemar's test on every label."""
    from benchmarks.scale.runs import compared

    return compared([scored(size, seed=seed) for seed in range(2)], per_label=True)


def write(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The table of predictions of 5,000 documents."""
    found = scored(size)
    folder = Path(tempfile.mkdtemp(dir=inputs.folder))
    return lambda: write_samples(folder, "scale", found, None, None)


def page(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The report page of four runs on 1,000 documents."""
    from benchmarks.scale.cells import page_of
    from benchmarks.scale.runs import with_labels
    from evalsuite.store import find_runs

    folder = Path(tempfile.mkdtemp(dir=inputs.folder))
    with_labels(folder, [scored(size, 1_000, seed) for seed in range(4)])
    return page_of(find_runs(folder))


CURVE = Curve(
    name="labels",
    unit="labels",
    fixed=f"a Llama of {MODEL[0]} layers, width {MODEL[1]}, random weights; names of two words",
    sizes=(4, 20, 77, 200, 500),
    small=(4, 20),
    stages=(
        Stage("score labels, 8 prompts", score_labels),
        Stage("ask each label, 8 prompts", ask_labels),
        Stage("embedding head, 64 documents", embedding_head),
        Stage("train tf-idf, 2,000 documents", fit_tfidf),
        Stage("metrics, intervals", metrics),
        Stage("fit thresholds", thresholds),
        Stage("compare two runs", compare),
        Stage("write predictions", write),
        Stage("report page, 4 runs", page),
    ),
)
