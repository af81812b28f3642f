"""A LoRA adapter's share of a linear layer in few passes over memory, for training in float32 on the CPU.

peft computes ``result + up(down(dropout(x))) * scale`` one operation at a time. The two products are thin, so that what
it costs is drawing a random number for every entry of x, and writing and reading tensors as large as x and the result:
on the CPU a third of a training step. Here dropout draws one number for every entry that falls out, the product is
added to the result as it is made, and of x the backward pass keeps x itself, which layers share, and not a copy.

Shapes: n tokens of a batch, i inputs, o outputs, r rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from evalsuite.llm.loading.backbone import Backbone

ADAPTER = "default"  # peft's name for the only adapter of a model


class AddLowRank(torch.autograd.Function):
    """``result`` [..., o] + ``scale`` * dropout(``x`` [..., i]) @ ``down`` [r, i].T @ ``up`` [o, r].T."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float, dropout: float) -> Tensor:
        dropped = fallen_out(x.numel(), dropout) if dropout else None
        scale /= 1 - dropout
        low = _without(x.flatten(0, -2), dropped) @ down.T
        ctx.save_for_backward(x, down, up, low, dropped)
        ctx.scale = scale
        return torch.addmm(result.flatten(0, -2), low, up.T, alpha=scale).view_as(result)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, down, up, low, dropped = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_low = (rows @ up).mul_(ctx.scale)
        of_down = of_low.T @ _without(x.flatten(0, -2), dropped)
        of_up = (low.T @ rows).mul_(ctx.scale).T  # rows.T @ low is the same, and takes seven times as long
        of_x = None
        if ctx.needs_input_grad[1]:
            of_x = of_low @ down
            if dropped is not None:
                of_x.view(-1).index_fill_(0, dropped, 0.0)
            of_x = of_x.view_as(x)
        return gradient, of_x, of_down, of_up, None, None


def fallen_out(entries: int, rate: float) -> Tensor:
    """Which of so many entries dropout sets to zero, each with probability ``rate``: ascending indices, int64.

    Between two successes of independent trials lie geometrically many failures, so that a number is drawn for each
    entry that falls out and none for those that stay (Devroye 1986, Non-Uniform Random Variate Generation, X.2).
    """
    expected = entries * rate
    found = torch.empty(0, dtype=torch.int64)
    last = -1
    while last < entries - 1:
        # more than are needed, but once in a thousand million times
        gaps = torch.empty(int(expected + 6 * expected**0.5) + 8, dtype=torch.int64).geometric_(rate)
        found = torch.cat([found, gaps.cumsum(0) + last])
        last = int(found[-1])
    return found[: int(torch.searchsorted(found, entries))]


def _without(rows: Tensor, dropped: Tensor | None) -> Tensor:
    """``rows`` with zeros where entries have fallen out."""
    if dropped is None:
        return rows
    kept = rows.clone(memory_format=torch.contiguous_format)
    kept.view(-1).index_fill_(0, dropped, 0.0)
    return kept


class _Lean:
    """What peft calls in place of its own arithmetic: a "variant" of LoRA, of which only the speed varies."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        dropout = module.lora_dropout[active_adapter]
        rate = dropout.p if module.training and isinstance(dropout, nn.Dropout) else 0.0
        down, up = module.lora_A[active_adapter].weight, module.lora_B[active_adapter].weight
        added: Tensor = AddLowRank.apply(result, x, down, up, module.scaling[active_adapter], rate)  # type: ignore[no-untyped-call]
        return added


@contextmanager
def lean_adapters(backbone: Backbone) -> Iterator[None]:
    """While inside, a model on the CPU in float32 computes its LoRA adapter the lean way; any other as before.

    On a GPU dropout is one fast kernel, and under autocast the products are to be in bfloat16.
    """
    layers: list[Any] = []
    if backbone.device.type == "cpu" and backbone.dtype == torch.float32:
        layers = [module for module in backbone.model.modules() if isinstance(module, LoraLayer) and _is_plain(module)]
    for layer in layers:
        layer.lora_variant[ADAPTER] = _Lean
    try:
        yield
    finally:
        for layer in layers:
            del layer.lora_variant[ADAPTER]


def _is_plain(layer: Any) -> bool:
    """Whether a layer has the plain form of LoRA: DoRA is a variant already."""
    if ADAPTER not in layer.lora_A or ADAPTER in layer.lora_variant:
        return False
    return isinstance(layer.lora_A[ADAPTER], nn.Linear) and layer.lora_B[ADAPTER].bias is None
