"""A LoRA adapter as one vector: what sides start from, and what a check compares. Needs torch and numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def trained(model: Any) -> npt.NDArray[np.float32]:
    """The adapter's weights, a trained head among them, in the order of their names."""
    import torch

    return torch.cat([weight.detach().float().flatten().cpu() for _, weight in _weights(model)]).numpy()


def fill(model: Any, values: npt.NDArray[np.float32]) -> None:
    """Put back what ``trained`` gave."""
    import torch

    start = 0
    for _, weight in _weights(model):
        part = torch.from_numpy(values[start : start + weight.numel()])
        weight.data.copy_(part.view(weight.shape))
        start += weight.numel()


def _weights(model: Any) -> list[tuple[str, Any]]:
    parts = (".lora_", ".modules_to_save.")  # peft's names: low-rank matrices, and modules trained in full
    return sorted((name, weight) for name, weight in model.named_parameters() if any(part in name for part in parts))
