"""The last layer of a decoder for the one token that is read: its other tokens matter through keys and values alone.

Shapes: b documents, t tokens, h hidden, f what a part of the layer gives for a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from evalsuite.llm.loading.quantisation import is_4bit

PROJECTIONS = ("q_proj", "o_proj")  # as Llama and most families after it name them
MLP, GATED = "mlp", "down_proj"


def parts_of_one_token(layer: nn.Module) -> list[nn.Module]:
    """The parts of a transformer layer that read no other token, keys and values aside: queries, output, a plain MLP.

    Empty where the layer is built or named otherwise, and where it is in 4-bit: its matrices are unpacked whole for
    however few tokens.
    """
    if any(is_4bit(parameter) for parameter in layer.parameters()):
        return []
    attention = [module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in PROJECTIONS]
    mlp = getattr(layer, MLP, None)
    return [*attention, mlp] if mlp is not None and hasattr(mlp, GATED) else attention


@contextmanager
def one_token_alone(layer: nn.Module, rows: Tensor, columns: Tensor, width: int) -> Iterator[None]:
    """While inside, a layer gives the right output at one token a document, and a wrong one elsewhere.

    ``rows`` and ``columns``, int64 [b], say which token of texts that are padded to ``width`` (t). The parts that read
    no other token run there alone, and give zeros elsewhere.
    """

    def choose(part: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][rows, columns][:, None],)  # [b, t, h] -> [b, 1, h]

    def spread(part: nn.Module, given: Any, output: Tensor) -> Tensor:
        whole = output.new_zeros(len(rows), width, output.shape[-1])
        whole[rows, columns] = output[:, 0]
        return whole  # [b, 1, f] -> [b, t, f]

    hooks = []
    for part in parts_of_one_token(layer):
        hooks += [part.register_forward_pre_hook(choose), part.register_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
