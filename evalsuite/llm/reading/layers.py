"""Read a model below its top: the layers above are dropped, so that what is not read is not computed either."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from evalsuite.contracts import Example, Floats, RunContext, Scores
from evalsuite.errors import OptionError
from evalsuite.llm.loading.backbone import Backbone, base_of, layer_stack
from evalsuite.llm.reading.probe import fit_probe
from evalsuite.metrics import one_hot

ROUNDS = 3  # how often each side is timed; machines are noisy
CANDIDATES = 8  # layers that layer=auto compares in a deep model


def check_layer(layer: int, count: int) -> None:
    """Refuse a layer that is not there. Raises: OptionError."""
    if not 1 <= layer <= count:
        raise OptionError(f"layer={layer} is not there: the model has layers 1 to {count}; use one of them, or auto")


def candidate_layers(model: nn.Module) -> list[int]:
    """The layers that layer=auto compares: every one of a shallow model, eight evenly spread of a deep one."""
    count = len(layer_stack(model))
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


def best_layer(
    layers: Sequence[int],
    features: Callable[[Sequence[Example], Sequence[int]], Mapping[int, Floats]],
    ctx: RunContext,
    train: Sequence[Example],
    validation: Sequence[Example],
    *,
    most: tuple[int, int],
    intercept: bool,
) -> int:
    """The layer whose linear probe does best on validation; of equals the lowest, which is the fastest.

    Every layer's score goes to the facts.

    Args:
        layers: those that are compared.
        features: (n documents, layers) -> layer -> float32 [n, h].
        ctx: its metric scores, its seed draws.
        train: what the probes are fitted on.
        validation: what they are compared on.
        most: how many documents of train and of validation are read, drawn: a file may be sorted by label.
        intercept: whether the probes have a bias.

    Raises:
        OptionError: there is no validation to choose on.
    """
    metric = ctx.primary_metric
    if not validation or metric is None:
        raise OptionError("layer=auto chooses on validation, and there is none; name a layer")
    random = np.random.default_rng(ctx.seed)
    few, held_out = (
        [examples[row] for row in random.permutation(len(examples))[:count].tolist()]
        for examples, count in zip((train, validation), most, strict=True)
    )
    known, unseen, gold = features(few, layers), features(held_out, layers), one_hot(few, len(ctx.labels))
    scores = {}
    for layer in sorted(layers):
        probe = fit_probe(known[layer], gold, multilabel=ctx.multilabel, seed=ctx.seed, intercept=intercept)
        scores[layer] = metric(Scores(logits=probe.logits(unseen[layer])), held_out)
    ctx.facts["layer_scores"] = [(layer, round(score, 5)) for layer, score in scores.items()]
    return max(scores, key=scores.__getitem__)


def drop_layers(backbone: Backbone, layer: int, ctx: RunContext, work: Callable[[], object]) -> None:
    """Drop the layers above ``layer``; it and how many times faster ``work`` has become go to the facts.

    The fastest of three rounds on each side: noise only ever adds time.

    Raises:
        OptionError: the model has no such layer.
    """
    whole = _fastest(work)
    keep_layers(backbone, layer)
    ctx.facts.update(layer=layer, speed_gain=round(whole / _fastest(work), 3))


def _fastest(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - started)
    return min(rounds)
