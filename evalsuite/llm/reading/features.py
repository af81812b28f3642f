"""What a frozen model makes of documents: pooled hidden states of any of its layers.

Shapes: n documents, b documents of a batch, t tokens, h hidden, m layers read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.contracts import Floats
from evalsuite.errors import ModelError
from evalsuite.llm.batching import Encoded, map_rows, pad, prediction_budget, to_device
from evalsuite.llm.loading.backbone import Backbone, base_of, layer_stack
from evalsuite.llm.reading.layers import check_layer
from evalsuite.llm.reading.logits import evaluation
from evalsuite.llm.reading.pooling import POOLINGS

# What families call the norm that stands behind their last layer; encoders of BERT's kind have none.
FINAL_NORMS = ("norm", "final_norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")


def pooled_features(
    backbone: Backbone,
    encoded: Encoded,
    pooling: str,
    layers: Sequence[int] | None = None,
    *,
    token_budget: int,
    count: Callable[[int], None] = lambda documents: None,
) -> dict[int, Floats]:
    """Pooled hidden states of n encoded documents: layer -> float32 [n, h]; dropout off, no gradients.

    Layers count from 1; unset: the last alone. A layer's state is what the model would give if the layers above were
    not there, so the final norm is applied to it. The model may have a head or an adapter on it, or none.

    Raises:
        OptionError: a layer that the model does not have.
        ModelError: the layers of this architecture cannot be read one by one, or there is no memory.
    """
    body, config = base_of(backbone.model).base_model, base_of(backbone.model).config.get_text_config()
    depth = config.num_hidden_layers
    wanted = sorted(set(layers)) if layers is not None else [depth]
    for layer in wanted:
        check_layer(layer, depth)
    # what reads the top alone need not know where a model keeps its layers
    stack = layer_stack(backbone.model) if wanted != [depth] else nn.ModuleList()

    def pool_rows(rows: list[int]) -> Tensor:
        batch = to_device(pad([encoded.ids[row] for row in rows], backbone.tokenizer.pad_token_id), backbone.device)
        with backbone.arithmetic(), pooling_of_layers(body, stack, batch["attention_mask"], pooling, wanted) as pooled:
            top = body(**batch, use_cache=False).last_hidden_state
            _check_top(body, pooled.pop(None, None), top)
            if depth in wanted:
                pooled[depth] = POOLINGS[pooling](top, batch["attention_mask"])
            return torch.stack([pooled[layer].float() for layer in wanted], dim=1)

    with evaluation(backbone.model):
        budget = prediction_budget(token_budget, backbone.device)
        states = map_rows(pool_rows, (len(wanted), config.hidden_size), encoded.lengths, budget, count)
    return {layer: np.ascontiguousarray(states[:, at]) for at, layer in enumerate(wanted)}


@contextmanager
def pooling_of_layers(
    body: nn.Module, stack: nn.ModuleList, mask: Tensor, pooling: str, wanted: Sequence[int]
) -> Iterator[dict[Any, Tensor]]:
    """While a batch with ``mask`` [b, t] runs, pool the output of the ``wanted`` layers below the last one.

    Each is pooled where it is made, so that one layer's states are held at a time. Under the key None comes the last
    layer's state [b, t, h] as it is read here, for a check against the model's own output.
    """
    pooled: dict[Any, Tensor] = {}
    below = [layer for layer in wanted if layer < len(stack)]
    norm = final_norm(body, stack) if below else nn.Identity()

    def read(layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            state = norm(output[0] if isinstance(output, tuple) else output)
            if layer == len(stack):
                pooled[None] = state
            else:
                pooled[layer] = POOLINGS[pooling](state, mask)

        return hook

    hooks = [stack[layer - 1].register_forward_hook(read(layer)) for layer in ([*below, len(stack)] if below else [])]
    try:
        yield pooled
    finally:
        for hook in hooks:
            hook.remove()


def final_norm(body: nn.Module, stack: nn.ModuleList) -> nn.Module:
    """The norm behind the last layer, which stands beside the list of layers; the identity where there is none."""
    parent = next(module for module in body.modules() if any(child is stack for child in module.children()))
    found = [getattr(parent, name) for name in FINAL_NORMS if isinstance(getattr(parent, name, None), nn.Module)]
    return found[0] if found else nn.Identity()


def _check_top(body: nn.Module, read: Tensor | None, top: Tensor) -> None:
    """The last layer, read as the lower ones are, must be the model's own output: else lower ones are misread too."""
    if read is not None and (
        read.shape != top.shape or not torch.allclose(read, top, rtol=1e-3, atol=1e-3, equal_nan=True)
    ):
        raise ModelError(
            f"the layers of {type(body).__name__} cannot be read one by one: something other than a norm follows the "
            "last one; leave layer unset"
        )
