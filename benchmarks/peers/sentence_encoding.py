"""Row 6, sentence-transformers: ``encode`` with its own sorting, pooling and normalisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from benchmarks.worker import Outputs, Work, arithmetic, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: ``batch_size``; max_length, tokens of a text that are read; device and dtype."""
    device, dtype = arithmetic(settings)
    model = SentenceTransformer(str(job / "model"), device=device, model_kwargs={"dtype": dtype})
    model.max_seq_length = settings["max_length"]
    texts = json.loads((job / "texts.json").read_text(encoding="utf-8"))

    def work() -> Outputs:
        vectors = model.encode(
            texts,
            batch_size=settings["batch_size"],
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return {"vectors": vectors}

    return work


if __name__ == "__main__":
    serve(setup)
