"""Which layer is chosen, and what is left of a model that is read below its top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from training_setup import context, documents

from evalsuite.contracts import Example, Scores
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.loading.backbone import layer_stack, load_base_model
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.reading.layers import best_layer, candidate_layers, drop_layers
from evalsuite.llm.reading.probe import fit_probe
from evalsuite.metrics import one_hot

EXAMPLES = documents(120)
TRAIN, VALIDATION = EXAMPLES[:80], EXAMPLES[80:]
GOLD = one_hot(EXAMPLES, 3)


def features_of_layers() -> dict[int, Any]:
    """Layer 1 says nothing of the labels; 2 and 3 do, and equally much."""
    random = np.random.default_rng(0)
    noise, telling = random.normal(size=(2, len(EXAMPLES), 3)).astype(np.float32)
    telling += 2 * GOLD
    return {1: noise, 2: telling, 3: 2 * telling}


def accuracy(scores: Scores, examples: Sequence[Example]) -> float:
    assert scores.logits is not None
    return float((scores.logits.argmax(axis=1) == one_hot(examples, 3).argmax(axis=1)).mean())


def test_the_best_layer_on_validation_and_of_equals_the_lower(tmp_path: Path) -> None:
    table, read = features_of_layers(), []

    def features(examples: Sequence[Example], layers: Sequence[int]) -> Mapping[int, Any]:
        rows = [EXAMPLES.index(example) for example in examples]
        read.append(rows)
        return {layer: table[layer][rows] for layer in layers}

    def chosen(seed: int, most: tuple[int, int]) -> tuple[int, dict[int, float]]:
        ctx = context(tmp_path, seed=seed, primary_metric=accuracy)
        layer = best_layer([1, 2, 3], features, ctx, TRAIN, VALIDATION, most=most, intercept=False)
        return layer, dict(ctx.facts["layer_scores"])

    layer, scores = chosen(0, (1000, 1000))
    assert layer == 2
    assert list(scores) == [1, 2, 3]
    assert scores[2] == scores[3] > scores[1]
    assert [sorted(rows) for rows in read] == [list(range(80)), list(range(80, 120))]
    fitted, held_out = read
    probe = fit_probe(table[2][fitted], GOLD[fitted], multilabel=False, seed=0, intercept=False)
    logits = probe.logits(table[2][held_out])
    assert scores[2] == round(accuracy(Scores(logits=logits), [EXAMPLES[row] for row in held_out]), 5)

    # a few documents, by the seed and not the first ones: a file may be sorted by label
    read.clear()
    for seed in (1, 1, 2):
        chosen(seed, (30, 20))
    assert [len(rows) for rows in read] == [30, 20] * 3
    assert read[0] == read[2] != read[4]
    assert sorted(read[0]) != list(range(30))


def test_without_validation_there_is_nothing_to_choose_on(tmp_path: Path) -> None:
    for validation, metric in (([], accuracy), (VALIDATION, None)):
        ctx = context(tmp_path, primary_metric=metric)
        with pytest.raises(OptionError, match="layer=auto chooses on validation, and there is none; name a layer"):
            best_layer([1], lambda examples, layers: {}, ctx, TRAIN, validation, most=(9, 9), intercept=False)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, [1, 2]), (8, list(range(1, 9))), (28, [4, 8, 12, 16, 20, 24, 28]), (30, [4, 8, 12, 16, 20, 24, 28, 30])],
)
def test_of_a_deep_model_eight_layers_are_compared(count: int, expected: list[int], tiny_llama: Path) -> None:
    model = load_base_model(ModelOptions(model=str(tiny_llama)), "cpu").model
    model.layers = nn.ModuleList(nn.Identity() for _ in range(count))
    model.config.num_hidden_layers = count
    assert candidate_layers(model) == expected


def test_a_model_whose_layers_are_in_no_list_is_refused(tiny_llama: Path) -> None:
    model = load_base_model(ModelOptions(model=str(tiny_llama)), "cpu").model
    model.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match="LlamaModel has no list of 5 layers to choose from; leave layer unset"):
        layer_stack(model)


def test_dropped_layers_are_gone_and_the_gain_is_reported(tiny_llama: Path, tmp_path: Path) -> None:
    backbone, ctx, seen = load_base_model(ModelOptions(model=str(tiny_llama)), "cpu"), context(tmp_path), []
    drop_layers(backbone, 1, ctx, lambda: seen.append(len(layer_stack(backbone.model))))
    assert seen == [2, 2, 2, 1, 1, 1]
    assert ctx.facts["layer"] == 1
    assert ctx.facts["speed_gain"] > 0
    with pytest.raises(OptionError, match="layer=2 is not there: the model has layers 1 to 1"):
        drop_layers(backbone, 2, ctx, lambda: None)
