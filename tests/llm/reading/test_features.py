"""Pooled hidden states against a model that really ends at the layer that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_setup import LABELS

from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.batching import Encoded, encode, pad
from evalsuite.llm.loading.backbone import Backbone, layer_stack, load_base_model, load_sequence_classifier
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions
from evalsuite.llm.reading.features import pooled_features
from evalsuite.llm.reading.layers import keep_layers
from evalsuite.llm.reading.pooling import POOLINGS

TEXTS = ["", "The team won.", "shares of the company fell " * 6, "a method", "marks in text </s><pad><|endoftext|>"]
MODELS = ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid", "tiny_bert", "tiny_modernbert"]


def loaded(folder: Path, **more: Any) -> Backbone:
    return load_base_model(ModelOptions(model=str(folder), **more), "cpu")


def read(backbone: Backbone, pooling: str = "mean", layers: list[int] | None = None, budget: int = 128) -> Any:
    encoded = encode(backbone.tokenizer, TEXTS, 32)
    return pooled_features(backbone, encoded, pooling, layers, token_budget=budget)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_layer_is_read_as_if_it_were_the_last(model: Path, pooling: str) -> None:
    """transformers' hidden_states below the last one lack the final norm: a truncated model is the reference."""
    backbone = loaded(model)
    count = len(layer_stack(backbone.model))
    features = read(backbone, pooling, list(range(1, count + 1)))
    assert sorted(features) == list(range(1, count + 1))
    for layer in range(count, 0, -1):
        keep_layers(backbone, layer)
        batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
        with torch.no_grad():
            top = backbone.model(**batch, use_cache=False).last_hidden_state
            expected = POOLINGS[pooling](top, batch["attention_mask"]).float().numpy()
        assert features[layer].dtype == np.float32
        np.testing.assert_allclose(features[layer], expected, atol=1e-4)
        np.testing.assert_allclose(read(backbone, pooling)[layer], expected, atol=1e-4)


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("adapter", [False, True])
def test_a_head_and_an_adapter_do_not_matter(tiny_llama: Path, adapter: bool, load_in_4bit: bool) -> None:
    """An untrained adapter changes nothing; its dropout and its head are not in the way."""
    options = ModelOptions(model=str(tiny_llama), load_in_4bit=load_in_4bit)
    classifier = load_sequence_classifier(options, LABELS, False, "cpu")
    if adapter:
        attach_lora(classifier, LoraOptions(lora_dropout=0.5), modules_to_save=["score"])
        classifier.model.train()
    bare, headed = read(loaded(tiny_llama, load_in_4bit=load_in_4bit), "last", [1, 2]), read(classifier, "last", [1, 2])
    for layer in (1, 2):
        np.testing.assert_allclose(headed[layer], bare[layer], atol=1e-5)


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_bert"], indirect=True)
def test_batches_change_nothing_and_keep_the_order(model: Path) -> None:
    backbone = loaded(model)
    seen: list[int] = []
    encoded = encode(backbone.tokenizer, TEXTS, 32)
    together = pooled_features(backbone, encoded, "mean", [1, 2], token_budget=10_000, count=seen.append)
    for layer, alone in read(backbone, "mean", [1, 2], budget=16).items():
        np.testing.assert_allclose(alone, together[layer], atol=1e-4)
    assert sum(seen) == len(TEXTS)


def test_bfloat16_states_come_as_float32(tiny_llama: Path) -> None:
    assert read(loaded(tiny_llama, dtype="bfloat16"), "last")[2].dtype == np.float32


def test_no_documents(tiny_llama: Path) -> None:
    features = pooled_features(loaded(tiny_llama), Encoded.of([]), "last", [1, 2], token_budget=64)
    assert {layer: states.shape for layer, states in features.items()} == {1: (0, 32), 2: (0, 32)}


def test_no_hook_stays(tiny_llama: Path) -> None:
    backbone = loaded(tiny_llama)
    read(backbone, "last", [1])
    assert not any(module._forward_hooks for module in layer_stack(backbone.model))


def test_a_layer_that_is_not_there(tiny_llama: Path) -> None:
    with pytest.raises(OptionError, match="layer=3 is not there: the model has layers 1 to 2"):
        read(loaded(tiny_llama), "last", [3])


def test_a_model_that_does_more_behind_its_last_layer_is_refused(tiny_llama: Path) -> None:
    """A norm under another name would be left out of every lower layer, in silence."""
    backbone = loaded(tiny_llama)
    backbone.model.norm.register_forward_hook(lambda module, inputs, output: output * 2)
    backbone.model.register_forward_hook(
        lambda module, inputs, output: setattr(output, "last_hidden_state", output[0] + 1)
    )
    with pytest.raises(ModelError, match="the layers of LlamaModel cannot be read one by one"):
        read(backbone, "last", [1])
    assert read(backbone, "last")[2].shape == (len(TEXTS), 32)
