"""Row 3, TRL's side: ``SFTTrainer`` on prompts and completions that are token ids already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from benchmarks.adapters import trained
from benchmarks.peers.training import row_arguments, train_from
from benchmarks.worker import Outputs, Work, arithmetic, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: batch_size (documents a step), learning_rate, device_batch (documents at once).

    defaults: batches as they come, activations recomputed; otherwise documents of like length in steps that are given,
    nothing recomputed. padding_free: no padding between documents. device, dtype, load_in_4bit: as on our side.
    """
    defaults, free = settings.get("defaults", False), settings.get("padding_free", False)
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    if not defaults:
        steps = json.loads((job / "steps.json").read_text(encoding="utf-8"))
        items = [items[index] for step in steps for index in step]
    data = Dataset.from_dict(
        {
            "input_ids": [[*prompt, *answer] for prompt, answer in items],
            "completion_mask": [[0] * len(prompt) + [1] * len(answer) for prompt, answer in items],
        }
    )
    # what SFTConfig has by itself stays; precision, rate and step are those of the row
    config = SFTConfig(
        **row_arguments(job / "trl", settings),
        lr_scheduler_type="constant",
        max_grad_norm=1e9,
        completion_only_loss=True,
        gradient_checkpointing=defaults,
        padding_free=free,
        max_length=None if free else 1024,
    )
    model = PeftModel.from_pretrained(_base(job, settings), job / "adapter", is_trainable=True)
    first = trained(model)
    tokenizer = AutoTokenizer.from_pretrained(job / "model")
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)

    def work() -> Outputs:
        tokens = np.array(sum(len(prompt) + len(answer) for prompt, answer in items))
        return {"tokens": tokens, **train_from(first, trainer, model)}

    return work


def _base(job: Path, settings: dict[str, Any]) -> Any:
    device, dtype = arithmetic(settings)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        job / "model",
        dtype=dtype,
        device_map={"": device},
        quantization_config=nf4 if settings.get("load_in_4bit") else None,
    )


if __name__ == "__main__":
    serve(setup)
