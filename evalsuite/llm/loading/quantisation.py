"""4-bit NF4 with double quantisation (QLoRA, arXiv 2305.14314, section 3) by bitsandbytes, on GPU and CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig


def nf4(compute_dtype: torch.dtype, skip_modules: Sequence[str] | None = None) -> Any:
    """The quantisation of every 4-bit model here. ``skip_modules`` stay in full precision (None: the output layer)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=list(skip_modules) if skip_modules else None,
    )


def keep_weights_in_place(model: nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights in an evaluation pass on CPUs with AVX512-BF16.

    Repacked weights make the gradients of every later training step wrong (cosine 0.06 with the right ones, seen with
    bitsandbytes 0.50.2), with no more than a warning; a validation in mid-training is enough to set it off.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_4bit(tensor: torch.Tensor) -> bool:
    """Whether a parameter holds two 4-bit weights a byte."""
    return type(tensor).__name__ == "Params4bit"
