"""Row 4, our side: the answerer of the instruction method, from texts to labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import read_documents
from benchmarks.label_prompts import label_prompts, read_prompts
from benchmarks.worker import Outputs, Work, arithmetic, serve
from evalsuite.contracts import RunContext
from evalsuite.llm.answering import Answerer
from evalsuite.llm.loading.backbone import load_causal_lm
from evalsuite.llm.lora.adapters import attach_adapter
from evalsuite.llm.options import AnsweringOptions
from evalsuite.progress import Silent


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: ``decode``; device and dtype."""
    decode, found = settings["decode"], read_prompts(job)
    device, dtype = arithmetic(settings)
    config = AnsweringOptions(model=str(job / "model"), dtype=dtype, load_in_4bit=False, max_length=2048, decode=decode)
    backbone = load_causal_lm(config, device)
    if (job / "adapter").exists():
        attach_adapter(backbone, job / "adapter")
    prompts = label_prompts(found["corpus"], found["labels"])
    ctx = RunContext("t", tuple(found["labels"]), False, 0, device, job, job / "cache", Silent(), prompts=prompts)
    answerer, texts = Answerer(backbone, ctx, config), [one.text for one in read_documents(job / "documents.jsonl")]

    def work() -> Outputs:
        scores = answerer.predict(texts)
        found = scores.logits if scores.logits is not None else scores.predicted
        assert found is not None
        labels = np.where(np.array(scores.status or ["ok"] * len(texts)) == "ok", found.argmax(axis=1), -1)
        return {"labels": labels, "greedy": np.array(decode == "constrained")}

    return work


if __name__ == "__main__":
    serve(setup)
