"""Row 6, our side: the embedder of the frozen method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import Outputs, Work, arithmetic, serve
from evalsuite.contracts import RunContext
from evalsuite.llm.embedder import Embedder
from evalsuite.llm.loading.backbone import load_base_model
from evalsuite.llm.loading.source import model_identity
from evalsuite.plugins.frozen import FrozenConfig
from evalsuite.progress import Silent


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: ``cached``, whether the texts have been embedded before; a new embedder reads them each time.

    max_length: tokens of a text that are read. device and dtype.
    """
    (device, dtype), longest = arithmetic(settings), settings["max_length"]
    config = FrozenConfig(model=str(job / "model"), dtype=dtype, load_in_4bit=False, max_length=longest)
    backbone = load_base_model(config, device)
    texts = json.loads((job / "texts.json").read_text(encoding="utf-8"))
    ctx = RunContext("t", ("a", "b"), False, 0, device, job, job / "cache", Silent())
    identity = model_identity(config) if settings["cached"] else ""

    def work() -> Outputs:
        embedder = Embedder(backbone, ctx, config, bidirectional=False)
        embedder.pooling, embedder.normalize, embedder.identity = "mean", True, identity
        embedded = embedder.embed(texts)
        (vectors,) = embedded.vectors.values()
        return {"vectors": vectors, **({"cached": np.array(embedded.cached)} if identity else {})}

    if identity:
        work()
    lengths = np.array(Embedder(backbone, ctx, config, bidirectional=False).reader.encode(texts).lengths)
    return lambda: {**work(), "lengths": lengths}


if __name__ == "__main__":
    serve(setup)
