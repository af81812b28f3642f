"""Row 1, lm-eval: its hf model, asked with token ids, so that the end mark is part of every continuation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.models.huggingface import HFLM

from benchmarks.worker import Outputs, Work, arithmetic, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: ``batch_size``; device and dtype."""
    device, dtype = arithmetic(settings)
    model = HFLM(pretrained=str(job / "model"), device=device, dtype=dtype, batch_size=settings["batch_size"])
    found = json.loads((job / "prompts.json").read_text(encoding="utf-8"))
    prompts, answers = found["ids"], found["answer_ids"]
    requests = [(("", ""), prompt, answer) for prompt in prompts for answer in answers]
    otherwise = sum(
        model._encode_pair(text, answer) != (prompt, ids[:-1])
        for text, prompt in zip(found["texts"], prompts, strict=True)
        for answer, ids in zip(found["answers"], answers, strict=True)
    )

    def work() -> Outputs:
        scored = model._loglikelihood_tokens(requests, disable_tqdm=True)
        scores = np.array([score for score, _ in scored]).reshape(len(prompts), len(answers))
        return {"scores": scores, "cut_otherwise": np.array(otherwise)}

    return work


if __name__ == "__main__":
    serve(setup)
