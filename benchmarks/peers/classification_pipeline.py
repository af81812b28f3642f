"""Row 5, the peer's side: transformers' text-classification pipeline on the merged model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import pipeline

from benchmarks.inputs import read_documents
from benchmarks.worker import Outputs, Work, arithmetic, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: batch_size, without it the pipeline's own, one text after the other; device and dtype."""
    device, dtype = arithmetic(settings)
    batch = {"batch_size": settings["batch_size"]} if "batch_size" in settings else {}
    labels = json.loads((job / "settings.json").read_text(encoding="utf-8"))["labels"]
    texts = [document.text for document in read_documents(job / "documents.jsonl")]
    model = pipeline(
        "text-classification",
        model=str(job / "merged"),
        device=device,
        dtype=dtype,
        top_k=None,
        function_to_apply="none",
    )

    def work() -> Outputs:
        rows = []
        for answer in model(texts, truncation=True, max_length=512, **batch):
            logits = {entry["label"]: entry["score"] for entry in answer}
            rows.append([logits[label] for label in labels])
        return {"logits": np.array(rows, dtype=np.float32)}

    return work


if __name__ == "__main__":
    serve(setup)
