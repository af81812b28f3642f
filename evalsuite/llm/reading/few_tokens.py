"""The last layer of a decoder for the tokens that are read: its other tokens matter through keys and values alone.

Of a document one token is pooled, or those are read that predict an answer. Whoever asks for this has compared what a
model gives so with what it gives whole (``pooling.may_cut_short``; ``answers``, when a model is loaded or trained).

Shapes: b documents, t tokens each, n tokens that are read, h hidden, f what a part of the layer gives for a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from evalsuite.errors import ModelError
from evalsuite.llm.loading.backbone import layer_stack
from evalsuite.llm.loading.quantisation import is_4bit

PROJECTIONS = ("q_proj", "o_proj")  # as Llama and most families after it name them
MLP, GATED = "mlp", "down_proj"


@contextmanager
def few_tokens(model: nn.Module, rows: Tensor, columns: Tensor, shape: tuple[int, ...]) -> Iterator[None]:
    """While inside, a model's states are right at n tokens, and wrong elsewhere: its last layer runs for these alone.

    ``rows`` and ``columns``, int64 [n], say which tokens of a batch of ``shape`` (b, t). The parts of the layer that
    read no other token run there, and give zeros elsewhere.
    """

    def choose(part: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][rows, columns][None],)  # [b, t, h] -> [1, n, h]

    def spread(part: nn.Module, given: Any, output: Tensor) -> Tensor:
        whole = output.new_zeros(*shape, output.shape[-1])
        whole[rows, columns] = output[0]
        return whole  # [1, n, f] -> [b, t, f]

    hooks = []
    for part in parts_token_by_token(_last_layer(model)):
        hooks += [part.register_forward_pre_hook(choose), part.register_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def parts_token_by_token(layer: nn.Module | None) -> list[nn.Module]:
    """The parts of a transformer layer that read no other token, keys and values aside: queries, output, a plain MLP.

    Empty where there is no layer; where it is built or named otherwise, or convolves its queries over tokens, as linear
    attention does; and where it is in 4-bit: its matrices are unpacked whole for however few tokens.
    """
    if layer is None or any(is_4bit(parameter) for parameter in layer.parameters()):
        return []
    if any(isinstance(part, nn.Conv1d) for part in layer.modules()):
        return []
    attention = [module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in PROJECTIONS]
    mlp = getattr(layer, MLP, None)
    return [*attention, mlp] if mlp is not None and hasattr(mlp, GATED) else attention


def _last_layer(model: nn.Module) -> nn.Module | None:
    """None where it is not found, or is run a second time in the backward pass."""
    try:
        layer = layer_stack(model)[-1]
    except ModelError:
        return None
    # the flag is on every layer, or where a model's own code keeps it
    if layer.training and any(getattr(part, "gradient_checkpointing", False) for part in model.modules()):
        return None
    return layer
