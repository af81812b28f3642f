"""How large a model is, how much memory a run took, and how much it will take."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch
from torch import nn

from evalsuite.llm.quantisation import is_4bit


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights."""

    trainable: int
    total: int


def count_parameters(model: nn.Module) -> Parameters:
    """Count weights as the architecture has them: a 4-bit tensor stores two a byte and reports half.

    peft keeps the untrained original of every saved module; it is not counted.
    """
    trainable = total = 0
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        size = parameter.numel() * (2 * parameter.element_size() if is_4bit(parameter) else 1)
        total += size
        trainable += size if parameter.requires_grad else 0
    return Parameters(trainable, total)


def reset_peak_memory() -> None:
    """Start a new measurement on the GPU; the CPU's peak is that of the whole process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int | None]:
    """Bytes: the process's largest resident set, and the most that torch held on the GPU (None without one)."""
    unit = 1 if sys.platform == "darwin" else 1024
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {
        "peak_cpu_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "peak_gpu_bytes": gpu,
    }
