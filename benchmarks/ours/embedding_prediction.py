"""Row 5, our side: a saved run of the embedding method, opened as ``evalsuite predict`` opens it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import read_documents
from benchmarks.worker import Outputs, Work, arithmetic, serve
from evalsuite.contracts import RunContext
from evalsuite.plugins.embedding import Embedding, EmbeddingConfig
from evalsuite.progress import Silent


def method_of(job: Path, settings: Mapping[str, Any], **options: Any) -> Embedding:
    """The row's method, without a model yet. Settings: device and dtype."""
    return Embedding(*_config(job, settings, **options))


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Open the run. Settings: device and dtype."""
    method = Embedding.load(job / "run", *_config(job, settings))
    texts = [document.text for document in read_documents(job / "documents.jsonl")]
    lengths = np.array(method._ready().encode(texts).lengths)

    def work() -> Outputs:
        logits = method.predict(texts).logits
        assert logits is not None
        return {"logits": logits, "lengths": lengths}

    return work


def _config(job: Path, settings: Mapping[str, Any], **options: Any) -> tuple[EmbeddingConfig, RunContext]:
    device, dtype = arithmetic(settings)
    row = json.loads((job / "settings.json").read_text(encoding="utf-8"))
    context = RunContext("row-5", tuple(row["labels"]), False, 0, device, job / "work", job / "cache", Silent())
    return EmbeddingConfig(model=row["model"], dtype=dtype, load_in_4bit=False, **options), context


if __name__ == "__main__":
    serve(setup)
