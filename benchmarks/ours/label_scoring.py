"""Row 1, our side: the scorer behind decode=score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.label_prompts import read_prompts
from benchmarks.worker import Work, serve
from evalsuite.llm.backbone import load_causal_lm
from evalsuite.llm.label_scoring import LabelScorer
from evalsuite.llm.options import ModelOptions


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """No settings."""
    backbone = load_causal_lm(ModelOptions(model=str(job / "model"), dtype="float32", load_in_4bit=False), "cpu")
    found = read_prompts(job)
    scorer = LabelScorer(backbone, found["answer_ids"], max_length=max(map(len, found["ids"])))
    return lambda: {"scores": scorer.score(found["ids"])}


if __name__ == "__main__":
    serve(setup)
