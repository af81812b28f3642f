"""Every faster way gives the losses and gradients of reading each document whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_scoring import read_by_last_layer
from torch import Tensor, nn

from evalsuite.llm.answers.fast_losses import SHORTCUT, fast_losses, losses_after
from evalsuite.llm.loading.backbone import Backbone, base_of, load_causal_lm
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.reading.logits import answer_batch, answer_losses

LENGTH = 20  # longer than the windows of some


def adapted(folder: Path, **changes: Any) -> Backbone:
    backbone = load_causal_lm(ModelOptions(model=str(folder), load_in_4bit=False, **changes), "cpu")
    torch.manual_seed(0)
    attach_lora(backbone, LoraOptions(lora_r=2, lora_dropout=0.0))
    for name, weight in backbone.model.named_parameters():
        if "lora_B" in name:  # zero at the start: the adapter would have no gradient in its other half
            nn.init.normal_(weight, std=0.05)
    return backbone


def documents(count: int = 5, shared: int = LENGTH) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts that begin with the same ``shared`` tokens, and answers of 1 to 3."""
    random = np.random.default_rng(0)
    start = random.integers(10, 200, shared).tolist()
    prompts = [[*start, row + 1, *random.integers(10, 200, random.integers(0, 15)).tolist()] for row in range(count)]
    return prompts, [random.integers(10, 200, 1 + row % 3).tolist() for row in range(count)]


def gradients(backbone: Backbone, losses: Any) -> tuple[Tensor, Tensor]:
    batch = answer_batch(list(zip(*documents(), strict=True)), backbone.tokenizer.pad_token_id)
    backbone.model.train()
    backbone.model.zero_grad()
    found = losses(backbone.model, batch)
    found.mean().backward()
    return found.detach(), torch.cat([p.grad.flatten() for p in backbone.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"])
def test_the_last_layer_cut_short_gives_the_plain_losses_and_gradients(
    name: str, request: pytest.FixtureRequest
) -> None:
    backbone = adapted(request.getfixturevalue(name))
    losses, gradient = gradients(backbone, answer_losses)
    read = read_by_last_layer(backbone.model)
    found, wanted = gradients(backbone, SHORTCUT)
    torch.testing.assert_close(found, losses, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wanted, gradient, rtol=1e-3, atol=1e-4)
    assert read == [sum(map(len, documents()[1]))]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen"])
def test_losses_and_gradients_after_a_prefix_are_the_plain_ones(
    name: str, kernel: str, request: pytest.FixtureRequest
) -> None:
    backbone = adapted(request.getfixturevalue(name), attn_implementation=kernel)
    losses, gradient = gradients(backbone, answer_losses)
    found, wanted = gradients(backbone, losses_after(backbone, LENGTH))
    torch.testing.assert_close(found, losses, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wanted, gradient, rtol=1e-3, atol=1e-4)


def test_the_beginning_is_read_once(tiny_llama: Path) -> None:
    backbone, read = adapted(tiny_llama), list[int]()
    embeddings = base_of(backbone.model).get_input_embeddings()
    embeddings.register_forward_hook(lambda module, given, made: read.append(given[0].numel()))
    prompts, answers = documents()
    losses = fast_losses(backbone, prompts, answers, TrainingOptions())
    read.clear()
    last = read_by_last_layer(backbone.model)
    gradients(backbone, losses)
    assert last == [LENGTH, sum(map(len, answers))]
    widest = max(len(prompt) + len(answer) - 1 for prompt, answer in zip(prompts, answers, strict=True))
    assert read == [LENGTH, len(prompts) * (widest - LENGTH)]


def test_a_document_by_itself_is_read_whole(tiny_llama: Path) -> None:
    backbone = adapted(tiny_llama)
    prompts, answers = documents(count=1)
    batch = answer_batch(list(zip(prompts, answers, strict=True)), backbone.tokenizer.pad_token_id)
    torch.testing.assert_close(
        losses_after(backbone, LENGTH)(backbone.model, batch), answer_losses(backbone.model, batch)
    )


@pytest.mark.parametrize("shared", [4, 0])
def test_nothing_is_shared_where_it_gains_nothing(tiny_llama: Path, shared: int) -> None:
    assert fast_losses(adapted(tiny_llama), *documents(shared=shared), TrainingOptions()) is SHORTCUT


def test_activations_that_are_recomputed_keep_the_plain_way(tiny_llama: Path) -> None:
    options = TrainingOptions(gradient_checkpointing=True)
    assert fast_losses(adapted(tiny_llama), *documents(), options) is answer_losses


def test_a_model_that_takes_no_keys_from_before_reads_documents_whole(tiny_hybrid: Path) -> None:
    assert fast_losses(adapted(tiny_hybrid), *documents(), TrainingOptions()) is SHORTCUT


def test_a_model_that_says_something_else_keeps_the_plain_way(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = adapted(tiny_llama)
    monkeypatch.setattr("evalsuite.llm.answers.fast_losses.branch_masks", lambda backbone, visible, places: None)
    assert fast_losses(backbone, *documents(), TrainingOptions()) is SHORTCUT
    # a layer that would need its other tokens too
    monkeypatch.setattr("evalsuite.llm.reading.few_tokens.PROJECTIONS", ("k_proj", "v_proj"))
    assert fast_losses(backbone, *documents(), TrainingOptions()) is answer_losses
