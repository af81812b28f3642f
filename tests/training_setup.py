"""Small real trainings for the tests: toy documents, a tiny classifier, and what a method tells the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.contracts import Example, RunContext
from evalsuite.llm.batching import encode, pad
from evalsuite.llm.loading.backbone import Backbone, load_sequence_classifier
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.reading.pooling import classify
from evalsuite.llm.training.loop import Objective
from evalsuite.llm.training.seeding import seed_everything
from evalsuite.progress import Silent

LABELS = ("Sports", "Business", "Science")
PHRASES = ("the team won the match ", "shares of the company fell ", "a method for separation of water ")


def documents(count: int, multilabel: bool = False) -> list[Example]:
    """Texts of unlike length whose label is plain to see; multi-label ones have none, one or two labels."""
    examples = []
    for index in range(count):
        labels = [index % 3]
        if multilabel:
            labels = [[], [0], [1], [2], [0, 1], [1, 2]][index % 6]
        text = "".join(PHRASES[label] for label in labels) * (1 + index % 4) + f"number {index}"
        examples.append(Example(f"doc-{index}", text, tuple(labels)))
    return examples


def context(folder: Path, multilabel: bool = False, seed: int = 0, **more: Any) -> RunContext:
    """A run's context on the CPU."""
    return RunContext("toy", LABELS, multilabel, seed, "cpu", folder, folder, Silent(), **more)


def classifier(
    folder: Path, seed: int = 0, lora: LoraOptions | None = None, load_in_4bit: bool = False, **options: Any
) -> Backbone:
    """A tiny model with a head and an adapter, without dropout unless asked."""
    seed_everything(seed)
    model = ModelOptions(model=str(folder), load_in_4bit=load_in_4bit, **options)
    backbone = load_sequence_classifier(model, LABELS, False, "cpu")
    attach_lora(backbone, lora or LoraOptions(lora_r=4, lora_dropout=0), modules_to_save=["score"])
    return backbone


def objective(
    backbone: Backbone, examples: Sequence[Example], validate: Callable[[], float] | None = None
) -> Objective:
    """Cross-entropy on the last token's logits."""
    encoded = encode(backbone.tokenizer, [example.text for example in examples], 64)
    targets = torch.tensor([example.labels[0] for example in examples])

    def collate(rows: Sequence[int]) -> dict[str, Tensor]:
        return {**pad([encoded.ids[row] for row in rows], backbone.tokenizer.pad_token_id), "targets": targets[rows]}

    def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(classify(model, batch, "last"), batch["targets"], reduction="none")

    ids = [example.id for example in examples]
    return Objective(range(len(examples)), encoded.lengths, collate, losses, validate, ids)


def quick(**more: Any) -> TrainingOptions:
    """A few steps at a step size that moves the weights."""
    settings = {"epochs": 2, "learning_rate": 5e-3, "batch_size": 8, "evaluations": 0, "max_grad_norm": 1.0}
    return TrainingOptions(**{**settings, **more})
