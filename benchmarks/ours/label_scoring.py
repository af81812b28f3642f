"""Row 1, our side: the scorer behind decode=score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.label_prompts import read_prompts
from benchmarks.worker import Work, arithmetic, serve
from evalsuite.llm.answers.label_scoring import LabelScorer
from evalsuite.llm.loading.backbone import load_causal_lm
from evalsuite.llm.options import ModelOptions


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: device and dtype."""
    device, dtype = arithmetic(settings)
    options = ModelOptions(model=str(job / "model"), dtype=dtype, load_in_4bit=False)
    backbone = load_causal_lm(options, device)
    found = read_prompts(job)
    scorer = LabelScorer(backbone, found["answer_ids"], max_length=max(map(len, found["ids"])))
    return lambda: {"scores": scorer.score(found["ids"])}


if __name__ == "__main__":
    serve(setup)
