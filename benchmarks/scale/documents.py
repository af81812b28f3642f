"""Cost against the number of documents: every stage of a run that sees the corpus."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale.making import (
    LABELS,
    embedding,
    examples,
    instruction,
    model_folder,
    scores,
    untrained,
    write_documents,
)
from benchmarks.scale.measuring import Curve, Done, Inputs, Stage
from evalsuite.calibration import probabilities_of
from evalsuite.contracts import Example
from evalsuite.data.splits import fingerprint, text_hash
from evalsuite.samples import Samples, read_samples, write_samples

STEPS = 20  # of training, whatever the number of documents
BATCH = 16
MODEL = (2, 64)  # layers, width


def read(size: int, inputs: Inputs) -> Callable[[], Any]:
    """A JSONL table to splits, hashed for its copies and cut by hash."""
    from evalsuite.data import TableOptions, load_table

    options = TableOptions(data=str(write_documents(size, inputs)))
    return lambda: load_table(options, inputs.folder)


def identify(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The fingerprint of all splits, which names the run."""
    splits = read(size, inputs)()
    return lambda: fingerprint(splits)


def tokenise(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Texts to token ids."""
    from transformers import AutoTokenizer

    from evalsuite import bundled
    from evalsuite.llm.batching import encode

    texts = [example.text for example in examples(size, inputs)]
    tokenizer = AutoTokenizer.from_pretrained(bundled.path())
    return lambda: encode(tokenizer, texts, 512)


def fit_tfidf(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The reference method, trained."""
    documents = examples(size, inputs)

    def work() -> Any:
        method = untrained("tfidf")
        method.fit(documents, [])
        return method

    return work


def train_steps(size: int, inputs: Inputs) -> Callable[[], Any]:
    """A fixed number of training steps out of a corpus of any size: the seconds of the steps alone."""
    documents = examples(size, inputs)
    model = model_folder(inputs, *MODEL)

    def work() -> Done:
        method = embedding(model, batch_size=BATCH, epochs=STEPS * BATCH / len(documents), max_length=64)
        method.fit(documents, [])
        return Done(method.ctx.facts["train_seconds"], {"steps": method.ctx.facts["steps"]})

    return work


def predict(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Logits of all documents by a small model, tokenising included."""
    method = embedding(model_folder(inputs, *MODEL), max_length=64)
    documents = examples(size, inputs)
    method.fit(documents[:BATCH], [])
    texts = [example.text for example in documents]
    return lambda: method.predict(texts)


def score_labels(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The log-likelihood of 4 labels after a prompt for every document, by a small model, tokenising included."""
    method = instruction(model_folder(inputs, *MODEL), max_length=96, decode="score")
    texts = [example.text for example in examples(size, inputs)]
    return lambda: method.predict(texts)


def table(documents: Sequence[Example], seed: int = 0) -> Samples:
    """The documents as scored ones."""
    gold, logits = scores(len(documents), len(LABELS), seed)
    return Samples(
        ids=tuple(example.id for example in documents),
        hashes=tuple(text_hash(example.text) for example in documents),
        gold=gold,
        predicted=np.eye(len(LABELS), dtype=np.bool_)[logits.argmax(axis=1)],
        probabilities=probabilities_of(logits, False),
        status=("ok",) * len(documents),
        labels=LABELS,
    )


def metrics(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Every metric of the scored documents, with intervals of 9,999 resamples."""
    from evalsuite.metrics import evaluate

    found = table(examples(size, inputs))
    rows = (found.gold, found.predicted, found.probabilities, found.status)
    return lambda: evaluate(*rows, multilabel=False)


def compare(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Two runs: paired bootstrap of 10,000 resamples and McNemar's test."""
    from benchmarks.scale.runs import compared

    documents = examples(size, inputs)
    return compared([table(documents, seed) for seed in range(2)])


def write(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The table of predictions, with texts."""
    documents = examples(size, inputs)
    found, texts = table(documents), [example.text for example in documents]
    folder = Path(tempfile.mkdtemp(dir=inputs.folder))
    return lambda: write_samples(folder, "scale", found, texts, None)


def read_back(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The table of predictions, as a comparison reads it."""
    folder = write(size, inputs)().parent
    return lambda: read_samples(folder, LABELS)


def whole_run(size: int, inputs: Inputs) -> Callable[[], Any]:
    """A run of the simplest method, top to bottom: what the suite itself costs, and holds, beside any model."""
    import evalsuite

    data = write_documents(size, inputs)
    folder = Path(tempfile.mkdtemp(dir=inputs.folder))

    def work() -> Any:
        shutil.rmtree(folder)
        return evalsuite.run("table", "majority", task_options={"data": str(data)}, output_path=folder)

    return work


CURVE = Curve(
    name="documents",
    unit="documents",
    fixed="news items of about 40 words, 4 labels, one thread",
    sizes=(1_000, 3_000, 10_000, 30_000, 100_000),
    small=(100, 300),
    stages=(
        Stage("read a table", read),
        Stage("fingerprint", identify),
        Stage("tokenise", tokenise),
        Stage("train tf-idf", fit_tfidf, largest=30_000),
        Stage(f"train {STEPS} steps", train_steps),
        Stage("predict with embedding", predict),
        Stage("score labels", score_labels),
        Stage("metrics, intervals", metrics),
        Stage("compare two runs", compare),
        Stage("write predictions", write),
        Stage("read predictions", read_back),
        Stage("whole run, majority", whole_run),
    ),
)
