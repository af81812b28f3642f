"""Row 3, our side: the training loop with the objective of the instruction method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from benchmarks.adapters import fill, trained
from benchmarks.worker import Outputs, Work, arithmetic, serve
from evalsuite.contracts import RunContext
from evalsuite.llm.answers.fast_losses import fast_losses
from evalsuite.llm.loading.backbone import load_causal_lm
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.reading.logits import answer_batch
from evalsuite.llm.training.footprint import count_parameters
from evalsuite.llm.training.loop import Objective, train
from evalsuite.progress import Silent


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: batch_size, learning_rate and token_budget; device, dtype and load_in_4bit."""
    (device, dtype), in_4bit = arithmetic(settings), settings.get("load_in_4bit", False)
    backbone = load_causal_lm(ModelOptions(model=str(job / "model"), dtype=dtype, load_in_4bit=in_4bit), device)
    attach_lora(backbone, LoraOptions(lora_r=8, lora_alpha=16, lora_dropout=0.0))
    set_peft_model_state_dict(backbone.model, load_file(job / "adapter" / "adapter_model.safetensors"))
    first = trained(backbone.model)
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    pad_id = backbone.tokenizer.pad_token_id
    options = TrainingOptions(
        epochs=1,
        schedule="constant",
        warmup_ratio=0,
        max_grad_norm=1e9,
        gradient_checkpointing=settings.get("gradient_checkpointing", False),
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        token_budget=settings["token_budget"],
    )
    prompts, answers = ([item[side] for item in items] for side in (0, 1))
    objective = Objective(
        items=items,
        lengths=[len(prompt) + len(answer) for prompt, answer in items],
        collate=lambda batch: answer_batch(batch, pad_id),
        losses=fast_losses(backbone, prompts, answers, options),
        validate=None,
    )
    ctx = RunContext("t", ("a", "b"), False, 0, device, job, job, Silent())

    def work() -> Outputs:
        fill(backbone.model, first)
        summary = train(backbone, objective, options, ctx)
        return {
            "losses": np.array(summary.losses),
            "first": first,
            "adapter": trained(backbone.model),
            "parameters": np.array(count_parameters(backbone.model).trainable),
            "tokens": np.array(summary.tokens),
            "steps": np.array(summary.steps),
        }

    return work


if __name__ == "__main__":
    serve(setup)
