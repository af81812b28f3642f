"""float32 matrix products at the rate of the processor, where torch's usual library leaves half of it unused.

On x86 torch hands float32 products to MKL, which keeps to AVX2 on processors that are not Intel's, those with AVX-512
too. oneDNN comes with torch as well and does not: on an AMD EPYC (Zen 5) it does 2.1 to 2.4 times the operations a
second, in the same precision. torch has no setting for that; so a model's linear layers are told to go there.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger("evalsuite")

LEAST_ROWS = 4  # with fewer, a call of oneDNN costs the 10 microseconds that it saves


def use_fast_products(model: nn.Module) -> None:
    """Let the linear layers of a model on the CPU multiply by oneDNN where that is the faster library.

    The layers stay what they are to everybody else: only their forward pass goes another way.
    """
    if mkl_holds_back() and onednn_agrees():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear


class OneDnnLinear(nn.Linear):
    """A linear layer whose float32 products are oneDNN's, forward and backward."""

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` [..., i] -> [..., o]."""
        if not suits(inputs, self.weight):
            return super().forward(inputs)
        if torch.is_grad_enabled() and (inputs.requires_grad or any(one.requires_grad for one in self.parameters())):
            found: Tensor = _Product.apply(inputs, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return found
        return onednn_linear(inputs, self.weight, self.bias)


def suits(inputs: Tensor, weight: Tensor) -> bool:
    """Whether a product is plain float32 arithmetic on the CPU, and large enough."""
    return (
        inputs.device.type == weight.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and inputs.dim() > 1
        and inputs.numel() >= LEAST_ROWS * weight.shape[1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_exporting()
    )


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs`` [..., i] @ ``weight`` [o, i].T + ``bias`` [o]: float32 [..., o]."""
    # the operator reads inputs and weights by their strides, a bias as if it had none
    bias = None if bias is None else bias.contiguous()
    found: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return found


class _Product(torch.autograd.Function):
    """``onednn_linear`` with its gradients, of which only those that are asked for are worked out."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # a frozen weight's gradient is never asked for, so the inputs need not be kept for it
        ctx.save_for_backward(inputs if weight.requires_grad else None, weight)
        return onednn_linear(inputs, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_inputs = onednn_linear(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = onednn_linear(rows.t(), inputs.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        return of_inputs, of_weight, rows.sum(dim=0) if ctx.needs_input_grad[2] else None


@cache
def mkl_holds_back() -> bool:
    """Whether this is an AMD processor with AVX-512 (Linux: elsewhere nothing is assumed).

    Told by its name and not by the clock, so that two runs on one machine never differ in their last digits.
    """
    try:
        vendor = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return vendor and mkl and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def onednn_agrees() -> bool:
    """Whether torch's oneDNN operator, which is no public function, is there and gives what the plain product gives."""
    inputs, weight = (
        torch.linspace(-1, 1, 64 * 48).view(64, 48).sin(),
        torch.linspace(-2, 2, 40 * 48).view(40, 48).cos(),
    )
    try:
        with torch.no_grad():
            found = onednn_linear(inputs, weight, weight[:, 0])
            return torch.allclose(found, inputs @ weight.T + weight[:, 0], atol=1e-4)
    except (AttributeError, RuntimeError, TypeError) as error:
        log.debug("float32 products stay with torch's default library: %s", error)
        return False
