"""Row 2, the peer's side: transformers' ``Trainer`` on a sequence classifier with peft's LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from benchmarks.adapters import trained
from benchmarks.peers.training import row_arguments, train_from
from benchmarks.worker import Outputs, Work, arithmetic, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: batch_size (documents a step), learning_rate, dropout, device_batch (documents at once).

    defaults: batches as they come; otherwise documents of like length, in steps that are given. device and dtype.
    """
    defaults = settings.get("defaults", False)
    items, steps, labels = (
        json.loads((job / f"{name}.json").read_text(encoding="utf-8")) for name in ("items", "steps", "labels")
    )
    model = load(job, len(labels), settings)
    first, before = trained(model), losses_of(model, items)
    if not defaults:
        # within a step, documents of like length are read together
        items = [items[at] for step in steps for at in sorted(step, key=lambda at: len(items[at][0]))]
    data = Dataset.from_dict({"input_ids": [ids for ids, _ in items], "labels": [kind for _, kind in items]})
    # what TrainingArguments have by themselves stays; rate, schedule and step are those of the row
    arguments = TrainingArguments(
        **row_arguments(job / "trainer", settings), lr_scheduler_type="cosine", max_grad_norm=0.3
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(job / "model")),
        compute_loss_func=None if defaults else mean_over_the_step,
    )

    def work() -> Outputs:
        return {"before": before, **train_from(first, trainer, model)}

    return work


def load(job: Path, labels: int, settings: dict[str, Any]) -> PeftModel:
    """The classifier with the first adapter, to be trained."""
    device, dtype = arithmetic(settings)
    base = AutoModelForSequenceClassification.from_pretrained(job / "model", dtype=dtype, num_labels=labels)
    base.score.float()  # a head of bfloat16 would round the steps of its training away
    config = PeftConfig.from_pretrained(job / "adapter")
    config.lora_dropout = settings["dropout"]
    return PeftModel.from_pretrained(base, job / "adapter", is_trainable=True, config=config).to(device)


def mean_over_the_step(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> Any:
    """The step's sum over its number of documents: what Trainer has by itself grows with accumulation."""
    count = len(labels) if num_items_in_batch is None else num_items_in_batch
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / count


def losses_of(model: PeftModel, items: list[list[Any]]) -> np.ndarray:
    """Every document's loss, read alone."""
    model.eval()
    half, device = model.dtype == torch.bfloat16, model.device
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        rows = [model(input_ids=torch.tensor([ids], device=device)).logits.float().cpu() for ids, _ in items]
    return F.cross_entropy(torch.cat(rows), torch.tensor([kind for _, kind in items]), reduction="none").numpy()


if __name__ == "__main__":
    serve(setup)
