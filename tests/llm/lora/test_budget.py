"""The rank that a budget chooses, counted from shapes and checked against what peft really builds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from training_setup import classifier, context, documents, objective, quick

from evalsuite.config import resolve
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.loading.backbone import base_of, load_causal_lm, load_sequence_classifier
from evalsuite.llm.lora.adapters import attach_adapter, attach_lora, save_adapter
from evalsuite.llm.lora.budget import RankCosts, lora_facts, rank_costs, target_layers
from evalsuite.llm.options import LoraOptions, ModelOptions
from evalsuite.llm.reading.pooling import classify
from evalsuite.llm.training.footprint import count_parameters
from evalsuite.llm.training.loop import train
from evalsuite.prompts import load_prompts
from evalsuite.registry import build_registry

LABELS = ("a", "b", "c")
FAMILIES = ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"]


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("targets", ["all-linear", "attention"])
@pytest.mark.parametrize("name", FAMILIES)
def test_counts_are_those_of_the_adapter_that_peft_builds(
    name: str, targets: str, dora: bool, request: pytest.FixtureRequest
) -> None:
    options = ModelOptions(model=str(request.getfixturevalue(name)))
    for rank in (1, 3):
        backbone = load_sequence_classifier(options, LABELS, False, "cpu")
        layers = target_layers(backbone.model, targets, ["score"])
        costs = rank_costs(backbone.model, list(layers.values()), dora, ["score"])
        attach_lora(backbone, LoraOptions(lora_r=rank, lora_targets=targets, use_dora=dora), ["score"])
        assert count_parameters(backbone.model).trainable == costs.at(rank)


def test_counts_of_a_model_that_writes_text_leave_its_output_layer_out(tiny_llama: Path) -> None:
    for load_in_4bit in (False, True):
        backbone = load_causal_lm(ModelOptions(model=str(tiny_llama), load_in_4bit=load_in_4bit), "cpu")
        layers = target_layers(backbone.model, "all-linear")
        assert "lm_head" not in layers
        costs = rank_costs(backbone.model, list(layers.values()), False)
        attach_lora(backbone, LoraOptions(lora_r=2))
        assert count_parameters(backbone.model).trainable == costs.at(2)


def test_the_nearest_rank_is_chosen() -> None:
    costs = RankCosts(fixed=10, per_rank=100, largest=8)
    assert [costs.nearest(budget) for budget in (83, 110, 159, 160, 211, 810, 859)] == [1, 1, 1, 2, 2, 8, 8]


def test_a_budget_between_two_ranks_is_never_refused() -> None:
    for fixed in (0, 40):
        costs = RankCosts(fixed, per_rank=100, largest=5)
        assert all(costs.nearest(budget) for budget in range(costs.at(1), costs.at(5)))


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (82, "at least 110 parameters, at rank 1, 10 of them whatever the rank"),
        (860, "at most 810 parameters, at rank 8"),
    ],
)
def test_a_budget_that_no_rank_can_meet_is_refused(budget: int, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        RankCosts(fixed=10, per_rank=100, largest=8).nearest(budget)


def test_the_chosen_rank_is_attached_and_said(tiny_llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    lora = LoraOptions(lora_budget="4.5k", lora_r=64)
    with caplog.at_level(logging.INFO, "evalsuite"):
        backbone = classifier(tiny_llama, lora=lora)
    trainable = count_parameters(backbone.model).trainable
    facts = lora_facts(backbone.model, lora)
    assert facts == {"lora_r": 4, "lora_budget": 4500}
    assert caplog.messages == [f"rank 4: {trainable:,} trainable parameters, nearest to the budget of 4,500"]
    plain = classifier(tiny_llama, lora=LoraOptions(lora_r=5))
    assert lora_facts(base_of(plain.model), lora) == {}
    assert lora_facts(plain.model, LoraOptions()) == {
        "lora_r": 5,
        "lora_budget": None,
    }


@pytest.mark.parametrize(
    ("written", "number"),
    [("12M", 12_000_000), ("12.2m", 12_200_000), ("500k", 500_000), ("1.5B", 1_500_000_000), (120_000, 120_000)],
)
def test_a_budget_may_be_written_short(written: str | int, number: int) -> None:
    assert LoraOptions(lora_budget=written).lora_budget == number


@pytest.mark.parametrize("written", ["12 apples", "M", "-3M", "", "nan", True, 0])
def test_a_budget_that_is_no_number_is_refused(written: object) -> None:
    with pytest.raises(OptionError, match="lora_budget"):
        resolve(build_registry(), {"task": "ag_news", "method": "embedding", "lora_budget": written})


def test_a_model_without_the_target_layers_is_refused(tiny_llama: Path) -> None:
    backbone = load_causal_lm(ModelOptions(model=str(tiny_llama)), "cpu")
    with pytest.raises(ModelError, match="use lora_targets=all-linear"):
        target_layers(backbone.model, "attention", modules_to_save=["self_attn"])


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("variant", ["use_dora", "use_rslora"])
def test_variants_train_and_reload(tiny_llama: Path, tmp_path: Path, variant: str, load_in_4bit: bool) -> None:
    lora = LoraOptions(lora_r=4, lora_dropout=0, **{variant: True})
    backbone = classifier(tiny_llama, lora=lora, load_in_4bit=load_in_4bit)
    before = {name: p.detach().clone() for name, p in backbone.model.named_parameters() if p.requires_grad}
    summary = train(backbone, objective(backbone, documents(24)), quick(), context(tmp_path))
    assert summary.losses[-1] < summary.losses[0]
    assert all(not torch.equal(p, before[name]) for name, p in backbone.model.named_parameters() if name in before)

    batch = {"input_ids": torch.arange(5, 21).reshape(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    with torch.no_grad():
        expected = classify(backbone.model, batch, "last")
    save_adapter(backbone, tmp_path / "adapter")
    again = load_sequence_classifier(
        ModelOptions(model=str(tiny_llama), load_in_4bit=load_in_4bit), ("Sports", "Business", "Science"), False, "cpu"
    )
    attach_adapter(again, tmp_path / "adapter")
    config = again.model.peft_config["default"]
    assert (config.use_dora, config.use_rslora) == (lora.use_dora, lora.use_rslora)
    with torch.no_grad():
        torch.testing.assert_close(classify(again.model, batch, "last"), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["embedding", "instruction", "bert"])
def test_methods_report_the_rank_and_refuse_a_budget_before_training(
    method: str, tiny_llama: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    spec = build_registry().method(method)
    labels = ("Sports", "Business", "Science")
    prompts = load_prompts("plain", task="toy", labels=labels, multilabel=False, descriptions={}, search=[])
    ctx = context(tmp_path, prompts=prompts if "prompts" in spec.needs else None)
    given = {"model": str(tiny_bert if method == "bert" else tiny_llama), "max_length": 64, "epochs": 1}
    given |= {"adaptation": "lora"} if method == "bert" else {}
    assert spec.preflight is not None
    with pytest.raises(OptionError, match=r"lora_budget=20 is below what any rank trains here"):
        spec.preflight(spec.config.model_validate({**given, "lora_budget": 20}), ctx, documents(3))
    config = spec.config.model_validate({**given, "lora_budget": "5k"})
    estimated = spec.preflight(config, ctx, documents(3))
    spec.build(config, ctx).fit(documents(3), [])
    assert ctx.facts["lora_r"] == estimated["lora_r"] == (4 if method == "bert" else 5)
    assert ctx.facts["lora_budget"] == 5000
    assert ctx.facts["trainable_parameters"] == estimated["trainable_parameters"]
