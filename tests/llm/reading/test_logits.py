"""Answers' losses against full logits of one document at a time, without padding, in every form a head comes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from plain_scoring import read_by_last_layer
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPTNeoXConfig,
    GraniteConfig,
    OlmoHybridConfig,
    OlmoHybridForCausalLM,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from evalsuite.llm.loading.backbone import base_of, layer_stack, recompute_activations
from evalsuite.llm.lora.adapters import with_adapter
from evalsuite.llm.reading.logits import answer_batch, answer_losses, last_logits, logits_at

PAD = 3
SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
GATED: dict[str, Any] = SHAPE | {"intermediate_size": 64, "num_key_value_heads": 2}
# What their heads do that a plain linear layer does not, and where their layers lie
FAMILIES: dict[str, PretrainedConfig] = {
    "logits capped": Gemma2Config(**GATED, head_dim=8, sliding_window=8, final_logit_softcapping=2.0),
    "logits divided": GraniteConfig(**GATED, logits_scaling=4.0),
    "logits multiplied": CohereConfig(**GATED, logit_scale=0.25),
    "layers under decoder, learned positions": OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=16),
    "layers under gpt_neox": GPTNeoXConfig(**SHAPE, intermediate_size=64),
}
TINY = ("tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid")


def documents(count: int = 6) -> list[tuple[list[int], list[int]]]:
    """Prompts of 2 to 25 tokens, longer than the windows of some, with answers of 1 to 4; padding in the text too."""
    random = np.random.default_rng(0)
    return [
        (random.integers(1, 50, random.integers(2, 26)).tolist(), random.integers(1, 50, 1 + row % 4).tolist())
        for row in range(count)
    ]


def plain_losses(model: nn.Module, items: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """The same losses, one document at a time with logits everywhere."""
    losses = []
    for prompt, answer in items:
        logp = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].float().log_softmax(dim=-1)
        losses.append(-sum(logp[len(prompt) - 1 + at, token] for at, token in enumerate(answer)))
    return torch.stack(losses)


def with_lora(model: PreTrainedModel) -> PeftModel:
    torch.manual_seed(0)
    adapted = with_adapter(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # zero at the start: the adapter would have no gradient in its other half
            nn.init.normal_(weight, std=0.05)
    return adapted


def gradients(model: nn.Module, losses: Tensor) -> Tensor:
    model.zero_grad()
    losses.mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_same(model: PreTrainedModel) -> None:
    adapted, items = with_lora(model), documents()
    expected = plain_losses(adapted, items)
    wanted = gradients(adapted, expected)
    found = answer_losses(adapted, answer_batch(items, PAD))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradients(adapted, found), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_full_logits(family: str) -> None:
    torch.manual_seed(0)
    assert_same(AutoModelForCausalLM.from_config(FAMILIES[family]).eval())


@pytest.mark.parametrize("name", TINY)
def test_windows_recurrence_and_right_padding(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    assert_same(AutoModelForCausalLM.from_pretrained(folder))


def test_the_head_sees_the_answers_positions_alone(tiny_gemma3: Path) -> None:
    model, items = AutoModelForCausalLM.from_pretrained(tiny_gemma3), documents()
    seen: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda head, given, made: seen.append(made.shape[:-1].numel()))
    answer_losses(model, answer_batch(items, PAD))
    assert seen == [sum(len(answer) for _, answer in items)]
    model(input_ids=torch.tensor([[1, 4, 5]]))
    assert seen[1:] == [3], "the cut must not stay in the model"


def test_no_mask_is_built(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask would take attention from its causal kernel to one that reads a matrix of scores."""
    model, masks = AutoModelForCausalLM.from_pretrained(tiny_llama), []
    attention = nn.functional.scaled_dot_product_attention

    def watched(*given: Any, **named: Any) -> Tensor:
        masks.append(named["attn_mask"])
        return attention(*given, **named)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    answer_losses(model, answer_batch(documents(), PAD))
    assert masks == [None] * model.config.num_hidden_layers


def test_activations_that_are_recomputed_change_nothing(tiny_llama: Path) -> None:
    adapted, items = with_lora(AutoModelForCausalLM.from_pretrained(tiny_llama)).train(), documents()
    wanted = gradients(adapted, answer_losses(adapted, answer_batch(items, PAD)))
    recompute_activations(adapted, True)
    base_of(adapted).enable_input_require_grads()
    torch.testing.assert_close(gradients(adapted, answer_losses(adapted, answer_batch(items, PAD))), wanted)


def test_a_model_whose_layers_are_not_found_gets_all_logits(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    batch = answer_batch(documents(), PAD)
    expected = answer_losses(model, batch)
    monkeypatch.setattr(model, "get_decoder", lambda: model)
    torch.testing.assert_close(answer_losses(model, batch), expected)


def test_positions_of_any_order(tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    ids = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 10]])
    rows, columns = torch.tensor([1, 0, 1]), torch.tensor([3, 2, 0])
    torch.testing.assert_close(
        logits_at(model, rows, columns, input_ids=ids), model(input_ids=ids).logits[rows, columns]
    )


@pytest.mark.parametrize("keep", [3, torch.tensor([5, 0])], ids=["the last ones", "these"])
@pytest.mark.parametrize("name", TINY)
def test_the_last_layer_for_few_columns_gives_the_same_logits(
    name: str, keep: int | Tensor, request: pytest.FixtureRequest
) -> None:
    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(name))
    ids = torch.arange(10, 30).view(2, 10)
    read = read_by_last_layer(model)
    (whole, _), (short, _) = (last_logits(model, keep, shortcut=cut, input_ids=ids) for cut in (False, True))
    torch.testing.assert_close(short, whole)
    assert read == [ids.numel(), short.shape[:2].numel()]


def test_a_layer_that_convolves_its_queries_runs_whole() -> None:
    """Linear attention mixes neighbouring queries: those that are left out would be zeros to the others."""
    shape = GATED | {"num_key_value_heads": 4, "linear_num_key_heads": 4, "linear_num_value_heads": 4}
    config = OlmoHybridConfig(**shape | {"num_hidden_layers": 5, "linear_key_head_dim": 8, "linear_value_head_dim": 8})
    torch.manual_seed(0)
    model = OlmoHybridForCausalLM(config)
    assert config.layer_types[-1] == "linear_attention"
    batch, found = answer_batch(documents(), PAD), []
    for shortcut in (False, True):
        model.zero_grad()
        answer_losses(model, batch, shortcut).sum().backward()
        found.append(layer_stack(model)[-1].linear_attn.q_proj.weight.grad.clone())
    torch.testing.assert_close(found[1], found[0])
