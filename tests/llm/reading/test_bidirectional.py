"""Decoders that read both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.batching import encode, pad
from evalsuite.llm.loading.backbone import Backbone, load_base_model
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.reading.bidirectional import read_both_ways, reads_both_ways
from evalsuite.llm.reading.features import pooled_features

DECODERS = ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"]
TEXTS = ["The team won.", "shares of the company fell", "a method for separation of water from solids"]


def loaded(request: pytest.FixtureRequest, name: str, **more: object) -> Backbone:
    return load_base_model(ModelOptions(model=str(request.getfixturevalue(name)), **more), "cpu")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_is_made_to_read_both_ways(request: pytest.FixtureRequest, name: str, attention: str) -> None:
    backbone = loaded(request, name, attn_implementation=attention)
    encoded = encode(backbone.tokenizer, TEXTS, 32)
    assert not reads_both_ways(backbone)
    before = pooled_features(backbone, encoded, "mean", token_budget=999)[2]
    read_both_ways(backbone)
    assert reads_both_ways(backbone)
    together = pooled_features(backbone, encoded, "mean", token_budget=999)[2]
    assert np.abs(together - before).max() > 0.01
    # alone, a text has no padding, and a kernel that is given no mask falls back to what the layer says of itself
    np.testing.assert_allclose(pooled_features(backbone, encoded, "mean", token_budget=16)[2], together, atol=1e-4)


def test_it_is_an_all_true_mask(request: pytest.FixtureRequest) -> None:
    causal, both = loaded(request, "tiny_llama"), loaded(request, "tiny_llama")
    read_both_ways(both)
    batch = pad(encode(both.tokenizer, TEXTS, 32).ids, both.tokenizer.pad_token_id)
    mask = batch["attention_mask"].bool()
    everything = (mask[:, None, :, None] & mask[:, None, None, :]) | torch.eye(mask.shape[1], dtype=torch.bool)
    with torch.no_grad():
        expected = causal.model(input_ids=batch["input_ids"], attention_mask=everything).last_hidden_state
        actual = both.model(**batch).last_hidden_state
    torch.testing.assert_close(actual[mask], expected[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_modernbert"])
def test_an_encoder_does_already(request: pytest.FixtureRequest, name: str) -> None:
    backbone = loaded(request, name)
    assert reads_both_ways(backbone)
    with pytest.raises(OptionError, match="bidirectional=true is for decoders"):
        read_both_ways(backbone)


def test_a_model_that_the_setting_does_not_reach(request: pytest.FixtureRequest) -> None:
    backbone = loaded(request, "tiny_llama")

    def causal_again(module: torch.nn.Module, inputs: object) -> None:
        backbone.model.config.is_causal = True

    backbone.model.register_forward_pre_hook(causal_again)
    with pytest.raises(ModelError, match="bidirectional=true changes nothing in LlamaModel"):
        read_both_ways(backbone)
