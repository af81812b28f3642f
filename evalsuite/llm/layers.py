"""Read a model below its top: the layers above are dropped, so that what is not read is not computed either."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torch import nn

from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.backbone import Backbone, base_of

ROUNDS = 3  # how often each side is timed; machines are noisy
CANDIDATES = 8  # layers that layer=auto compares in a deep model


def layer_stack(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of a model, in order.

    Raises:
        ModelError: the model keeps its layers in no list of ``num_hidden_layers``.
    """
    count = base_of(model).config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{type(base_of(model)).__name__} has no list of {count} layers to choose from; leave layer unset")


def count_layers(backbone: Backbone) -> int:
    """How many transformer layers the model has."""
    return len(layer_stack(backbone.model))


def check_layer(layer: int, count: int) -> None:
    """Refuse a layer that is not there. Raises: OptionError."""
    if not 1 <= layer <= count:
        raise OptionError(f"layer={layer} is not there: the model has layers 1 to {count}; use one of them, or auto")


def candidate_layers(count: int) -> list[int]:
    """The layers that layer=auto compares: every one of a shallow model, eight evenly spread of a deep one."""
    step = max(1, -(-count // CANDIDATES))
    return sorted({*range(step, count + 1, step), count})


def keep_layers(backbone: Backbone, layer: int) -> None:
    """Drop the layers above ``layer``, before an adapter is attached. The final norm, where there is one, stays.

    Raises:
        OptionError: the model has no such layer.
    """
    stack, config = layer_stack(backbone.model), base_of(backbone.model).config.get_text_config()
    check_layer(layer, len(stack))
    del stack[layer:]
    # Families with windows or several kinds of attention describe each layer in a list beside the number.
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types[:layer])
    config.num_hidden_layers = layer


def measured_gain(backbone: Backbone, layer: int, work: Callable[[], object]) -> float:
    """Drop the layers above ``layer`` and return how many times faster ``work`` has become.

    The fastest of three rounds on each side: noise only ever adds time.

    Raises:
        OptionError: the model has no such layer.
    """
    whole = _fastest(work)
    keep_layers(backbone, layer)
    return whole / _fastest(work)


def _fastest(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - started)
    return min(rounds)


def largest(scores: Sequence[tuple[int, float]]) -> int:
    """The layer with the best score; of equals the lowest, which is the fastest."""
    return min(scores, key=lambda entry: (-entry[1], entry[0]))[0]
