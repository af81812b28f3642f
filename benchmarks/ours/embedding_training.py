"""Row 2, our side: the training loop with the objective of the embedding method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks.adapters import fill, trained
from benchmarks.worker import Outputs, Work, arithmetic, serve
from evalsuite.contracts import RunContext
from evalsuite.llm.batching import Encoded
from evalsuite.llm.classifier import TextClassifier
from evalsuite.llm.loading.backbone import load_sequence_classifier
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.training.footprint import count_parameters
from evalsuite.llm.training.loop import train
from evalsuite.progress import Silent


class Sizes(ModelOptions, TrainingOptions):
    """What a classifier reads of a method's options."""


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: batch_size (documents a step), learning_rate, dropout; device, dtype and load_in_4bit."""
    device, dtype = arithmetic(settings)
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    labels = tuple(json.loads((job / "labels.json").read_text(encoding="utf-8")))
    ctx = RunContext("row-2", labels, False, 0, device, job, job, Silent())
    options = Sizes(
        model=str(job / "model"),
        dtype=dtype,
        load_in_4bit=settings.get("load_in_4bit", False),
        gradient_checkpointing=False,
        epochs=1,
        warmup_ratio=0,
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
    )
    backbone = load_sequence_classifier(options, labels, False, device)
    lora = LoraOptions(lora_r=8, lora_alpha=16, lora_dropout=settings["dropout"])
    attach_lora(backbone, lora, modules_to_save=backbone.head)
    set_peft_model_state_dict(backbone.model, load_file(job / "adapter" / "adapter_model.safetensors"))
    classifier = TextClassifier(backbone, ctx, options, "last")
    encoded, targets = Encoded.of((ids, False) for ids, _ in items), torch.tensor([kind for _, kind in items])
    objective = classifier.objective(
        encoded,
        {"targets": targets},
        lambda logits, batch: F.cross_entropy(logits, batch["targets"], reduction="none"),
        validation=[],
        ids=[str(at) for at in range(len(items))],
    )
    first = trained(backbone.model)
    before = F.cross_entropy(torch.from_numpy(classifier.logits(encoded)), targets, reduction="none").numpy()

    def work() -> Outputs:
        fill(backbone.model, first)
        summary = train(backbone, objective, options, ctx)
        return {
            "before": before,
            "losses": np.array(summary.losses),
            "first": first,
            "adapter": trained(backbone.model),
            "parameters": np.array(count_parameters(backbone.model).trainable),
            "steps": np.array(summary.steps),
        }

    return work


if __name__ == "__main__":
    serve(setup)
