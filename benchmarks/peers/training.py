"""What the two Trainers have in common: settings that are the row's, and a training that can be done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adapters import fill, trained
from benchmarks.worker import Outputs, arithmetic


def row_arguments(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``TrainingArguments``: one epoch in the row's steps, nothing written but the losses.

    Settings: batch_size (documents a step), device_batch (documents at once), learning_rate, and defaults: batches as
    they come, otherwise documents in the order that they are given in. device and dtype: bfloat16 by autocast.
    """
    device, dtype = arithmetic(settings)
    return {
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16",
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "per_device_train_batch_size": settings["device_batch"],
        "gradient_accumulation_steps": settings["batch_size"] // settings["device_batch"],
        "learning_rate": settings["learning_rate"],
        "train_sampling_strategy": "random" if settings.get("defaults", False) else "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def train_from(first: Any, trainer: Any, model: Any) -> Outputs:
    """Train ``model`` from the weights ``first`` (see ``adapters.trained``): what a check compares."""
    fill(model, first)
    trainer.optimizer = trainer.lr_scheduler = None  # else a second training goes on with the first one's
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": np.array(losses),
        "adapter": trained(model),
        "parameters": np.array(sum(p.numel() for p in model.parameters() if p.requires_grad)),
        "steps": np.array(trainer.state.global_step),
    }
