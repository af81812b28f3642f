"""Row 5, our side: a saved run of the embedding method, opened as ``evalsuite predict`` opens it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import read_documents
from benchmarks.worker import Outputs, Work, serve
from evalsuite.contracts import RunContext
from evalsuite.plugins.embedding import Embedding, EmbeddingConfig
from evalsuite.progress import Silent


def method_of(job: Path, **options: Any) -> Embedding:
    """The row's method, without a model yet."""
    return Embedding(*_settings(job, **options))


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Open the run. There are no settings."""
    method = Embedding.load(job / "run", *_settings(job))
    texts = [document.text for document in read_documents(job / "documents.jsonl")]
    lengths = np.array(method._ready().encode(texts).lengths)

    def work() -> Outputs:
        logits = method.predict(texts).logits
        assert logits is not None
        return {"logits": logits, "lengths": lengths}

    return work


def _settings(job: Path, **options: Any) -> tuple[EmbeddingConfig, RunContext]:
    settings = json.loads((job / "settings.json").read_text(encoding="utf-8"))
    labels = tuple(settings["labels"])
    context = RunContext("row-5", labels, False, 0, "cpu", job / "work", job / "cache", Silent())
    return EmbeddingConfig(model=settings["model"], **options), context


if __name__ == "__main__":
    serve(setup)
