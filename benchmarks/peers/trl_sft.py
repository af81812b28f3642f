"""Row 3, TRL's side: ``SFTTrainer`` on prompts and completions that are token ids already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from benchmarks.adapters import fill, trained
from benchmarks.worker import Outputs, Work, serve


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: batch_size (documents a step), learning_rate, device_batch (documents at once).

    defaults: batches as they come, activations recomputed; otherwise documents of like length in steps that are given,
    nothing recomputed. padding_free: no padding between documents. device, load_in_4bit: as on our side.
    """
    defaults, free = settings.get("defaults", False), settings.get("padding_free", False)
    on_gpu = settings.get("device", "cpu") != "cpu"
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
        output_dir=str(job / "trl"),
        num_train_epochs=1,
        per_device_train_batch_size=settings["device_batch"],
        gradient_accumulation_steps=settings["batch_size"] // settings["device_batch"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=1e9,
        completion_only_loss=True,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        gradient_checkpointing=defaults,
        train_sampling_strategy="random" if defaults else "sequential",
        padding_free=free,
        max_length=None if free else 1024,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = PeftModel.from_pretrained(_base(job, settings, on_gpu), job / "adapter", is_trainable=True)
    first = trained(model)
    tokenizer = AutoTokenizer.from_pretrained(job / "model")
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)

    def work() -> Outputs:
        fill(model, first)
        trainer.optimizer = trainer.lr_scheduler = None  # else a second training goes on with the first one's
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {
            "losses": np.array(losses),
            "adapter": trained(model),
            "parameters": np.array(sum(p.numel() for p in model.parameters() if p.requires_grad)),
            "tokens": np.array(sum(len(prompt) + len(answer) for prompt, answer in items)),
            "steps": np.array(trainer.state.global_step),
        }

    return work


def _base(job: Path, settings: dict[str, Any], on_gpu: bool) -> Any:
    dtype = torch.bfloat16 if on_gpu else torch.float32
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        job / "model",
        dtype=dtype,
        device_map={"": settings.get("device", "cpu")},
        quantization_config=nf4 if settings.get("load_in_4bit") else None,
    )


if __name__ == "__main__":
    serve(setup)
