"""Which hidden state the head reads, and that stock transformers reads the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_setup import classifier

from evalsuite.llm.backbone import base_of
from evalsuite.llm.batching import encode, pad
from evalsuite.llm.pooling import classify, pool_last, pool_mean

TEXTS = ["", "The team won.", "shares fell " * 8, "the pad token <|end_of_text|></s><pad><|endoftext|>"]


def test_last_is_the_last_real_token_for_both_padding_sides() -> None:
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    right = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    left = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert pool_last(hidden, right).flatten().tolist() == [1, 7]
    assert pool_last(hidden, left).flatten().tolist() == [3, 7]


def test_mean_leaves_padding_out_and_is_float32() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]], dtype=torch.bfloat16)
    pooled = pool_mean(hidden, torch.tensor([[1, 1, 0]]))
    assert pooled.dtype == torch.float32
    assert pooled.item() == 2


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"])
def test_last_equals_the_stock_classifier(name: str, load_in_4bit: bool, request: pytest.FixtureRequest) -> None:
    """Text that holds the padding token, and padding token = end mark, are read as stock transformers reads them."""
    backbone = classifier(request.getfixturevalue(name), load_in_4bit=load_in_4bit)
    batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
    backbone.model.eval()
    with torch.no_grad():
        ours, stock = classify(backbone.model, batch, "last"), backbone.model(**batch).logits
    torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_changes_no_logit(tiny_llama: Path, pooling: str) -> None:
    backbone = classifier(tiny_llama)
    ids = encode(backbone.tokenizer, TEXTS, 32).ids
    with torch.no_grad():
        together = classify(backbone.model, pad(ids, backbone.tokenizer.pad_token_id), pooling)
        alone = [classify(backbone.model, pad([row], backbone.tokenizer.pad_token_id), pooling) for row in ids]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_left_padding_gives_the_same_logits(tiny_llama: Path) -> None:
    backbone = classifier(tiny_llama)
    ids = encode(backbone.tokenizer, TEXTS, 32).ids
    with torch.no_grad():
        right = classify(backbone.model, pad(ids, 1), "last")
        left = classify(backbone.model, pad(ids, 1, side="left"), "last")
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)


def test_float32_head_on_a_bfloat16_base_needs_no_autocast(tiny_llama: Path) -> None:
    backbone = classifier(tiny_llama, dtype="bfloat16")
    assert base_of(backbone.model).model.embed_tokens.weight.dtype == torch.bfloat16
    batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
    with torch.no_grad():
        assert classify(backbone.model, batch, "last").dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert classify(backbone.model, batch, "last").dtype == torch.float32
