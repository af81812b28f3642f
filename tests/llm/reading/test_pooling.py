"""Which hidden state the head reads, and that stock transformers reads the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_setup import classifier

from evalsuite.llm.batching import encode, pad
from evalsuite.llm.loading.backbone import base_of, layer_stack, recompute_activations
from evalsuite.llm.reading.few_tokens import parts_token_by_token
from evalsuite.llm.reading.pooling import ATTENTION, AttentionPooling, classify, may_cut_short, pool_last, pool_mean

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


DECODERS = ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"]


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("name", DECODERS)
def test_the_shortcut_gives_the_same_logits_and_gradients(
    name: str, pooling: str, request: pytest.FixtureRequest
) -> None:
    """Texts shorter and longer than the windows, beside the reading with a mask of every token's every layer."""
    backbone = classifier(request.getfixturevalue(name))
    if pooling == "attention":
        base_of(backbone.model).add_module(ATTENTION, AttentionPooling(32))
    batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
    assert may_cut_short(backbone, pooling)
    found = []
    for shortcut in (False, True):
        backbone.model.zero_grad()
        logits = classify(backbone.model, batch, pooling, shortcut)
        logits.square().sum().backward()
        found.append((logits, [p.grad.clone() for p in backbone.model.parameters() if p.grad is not None]))
    (plain, expected), (short, gradients) = found
    torch.testing.assert_close(short, plain, atol=1e-5, rtol=1e-4)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max() + 1))


def test_the_last_layer_is_run_for_one_token(tiny_llama: Path) -> None:
    backbone = classifier(tiny_llama)
    batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
    layers, seen = layer_stack(backbone.model), []
    for layer in layers:
        assert len(parts_token_by_token(layer)) == 3
        layer.mlp.down_proj.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[:2])))
    with torch.no_grad():
        classify(backbone.model, batch, "last", shortcut=True)
    assert seen == [tuple(batch["input_ids"].shape), (1, len(TEXTS))]


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral"])
def test_a_model_that_reads_both_ways_is_not_cut_short(name: str, request: pytest.FixtureRequest) -> None:
    backbone = classifier(request.getfixturevalue(name))
    assert may_cut_short(backbone, "mean")
    base_of(backbone.model).config.is_causal = False
    assert not may_cut_short(backbone, "mean")
    assert not may_cut_short(backbone, "last")


def test_an_encoders_own_way_is_not_cut_short(tiny_llama: Path) -> None:
    assert not may_cut_short(classifier(tiny_llama), "own")


def test_a_last_layer_that_is_run_again_runs_whole(tiny_llama: Path) -> None:
    """Gradient checkpointing runs it a second time in the backward pass, when its parts are whole again."""
    backbone = classifier(tiny_llama)
    batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
    gradients = []
    for recompute in (False, True):
        recompute_activations(backbone.model, recompute)
        backbone.model.train().zero_grad()
        classify(backbone.model, batch, "last", shortcut=True).sum().backward()
        gradients.append([p.grad.clone() for p in backbone.model.parameters() if p.grad is not None])
    for again, once in zip(*gradients, strict=True):
        torch.testing.assert_close(again, once)


def test_4bit_layers_run_whole(tiny_llama: Path) -> None:
    """bitsandbytes unpacks a matrix whole, however few tokens there are."""
    backbone = classifier(tiny_llama, load_in_4bit=True)
    assert parts_token_by_token(layer_stack(backbone.model)[-1]) == []
    assert may_cut_short(backbone, "last")


def test_bfloat16_may_be_cut_short(tiny_llama: Path) -> None:
    assert may_cut_short(classifier(tiny_llama, dtype="bfloat16"), "last")
