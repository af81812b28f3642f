"""The lean arithmetic of adapters gives what peft's own gives, and its dropout is dropout."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_setup import classifier, documents, objective

from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.lora.low_rank import AddLowRank, fallen_out, lean_adapters
from evalsuite.llm.options import LoraOptions

SCALE = 2.0


def gradients(backbone: Backbone, lean: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and gradients of one batch with the lean arithmetic or peft's own."""
    goal = objective(backbone, documents(6))
    backbone.model.zero_grad()
    with lean_adapters(backbone) if lean else nullcontext():
        losses = goal.losses(backbone.model, goal.collate(range(6)))
    losses.sum().backward()
    return losses.detach(), {name: p.grad for name, p in backbone.model.named_parameters() if p.grad is not None}


def with_trained_adapter(backbone: Backbone) -> Backbone:
    """As attached, an adapter's second matrix is zero, and so are all gradients of the first."""
    torch.manual_seed(1)
    for name, parameter in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return backbone


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen"])
def test_equals_peft(name: str, load_in_4bit: bool, request: pytest.FixtureRequest) -> None:
    backbone = with_trained_adapter(classifier(request.getfixturevalue(name), load_in_4bit=load_in_4bit))
    (losses, found), (plain, expected) = gradients(backbone, lean=True), gradients(backbone, lean=False)
    torch.testing.assert_close(losses, plain)
    assert found.keys() == expected.keys()
    assert sum("lora_" in name for name in found) == 2 * 7 * 2  # two matrices, seven linear layers, two layers
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()), msg=key)


def test_dropout_is_of_the_input_forward_and_backward() -> None:
    """Beside the formula of dropout written out, with the entries that have fallen out."""
    torch.manual_seed(0)
    result, x = torch.randn(3, 5, 6, requires_grad=True), torch.randn(3, 5, 4, requires_grad=True)
    down, up = torch.randn(2, 4, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    tensors, weights = (result, x, down, up), torch.randn(3, 5, 6)
    torch.manual_seed(1)
    keep = torch.ones(x.numel())
    keep[fallen_out(x.numel(), 0.3)] = 0
    assert 0 < keep.mean() < 1
    plain = result + x * keep.view_as(x) / 0.7 @ down.T @ up.T * SCALE
    torch.manual_seed(1)
    lean = AddLowRank.apply(*tensors, SCALE, 0.3)
    torch.testing.assert_close(lean, plain)
    expected = torch.autograd.grad((plain * weights).sum(), tensors)
    for found, wanted in zip(torch.autograd.grad((lean * weights).sum(), tensors), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_every_entry_falls_out_with_the_rate_alone(rate: float) -> None:
    """Means over entries, over draws of the first and of the last entry, and of neighbours together: each within five
    standard errors of what independent draws give."""
    torch.manual_seed(0)
    draws, entries = 4000, 60
    out = torch.zeros(draws, entries)
    for draw in out:
        draw[fallen_out(entries, rate)] = 1
    error = (rate * (1 - rate) / draws) ** 0.5
    assert float((out.mean(dim=0) - rate).abs().max()) < 5 * error
    pairs = (out[:, 1:] * out[:, :-1]).mean(dim=0)
    assert float((pairs - rate**2).abs().max()) < 5 * (rate**2 * (1 - rate**2) / draws) ** 0.5


def test_entries_that_fall_out_are_in_order_and_once() -> None:
    torch.manual_seed(0)
    for entries in (0, 1, 2, 7, 1000):
        for _ in range(200):
            found = fallen_out(entries, 0.2).tolist()
            assert found == sorted(set(found))
            assert all(0 <= index < entries for index in found)


def test_no_dropout_outside_training(tiny_llama: Path) -> None:
    backbone = with_trained_adapter(classifier(tiny_llama, lora=LoraOptions(lora_r=4, lora_dropout=0.5)))
    backbone.model.eval()
    (losses, _), (plain, _) = gradients(backbone, lean=True), gradients(backbone, lean=False)
    torch.testing.assert_close(losses, plain)


def test_other_forms_of_adapter_and_other_precisions_stay_as_they_are(tiny_llama: Path) -> None:
    dora = classifier(tiny_llama, lora=LoraOptions(lora_r=4, lora_dropout=0, use_dora=True))
    for backbone in (dora, classifier(tiny_llama, dtype="bfloat16")):
        layers = [module for module in backbone.model.modules() if hasattr(module, "lora_variant")]
        before = [dict(layer.lora_variant) for layer in layers]
        with lean_adapters(backbone):
            assert [layer.lora_variant for layer in layers] == before
        assert len(layers) == 14


def test_nothing_is_left_on_the_model(tiny_llama: Path) -> None:
    backbone = classifier(tiny_llama)
    layers = [module for module in backbone.model.modules() if hasattr(module, "lora_variant")]
    with lean_adapters(backbone):
        assert all(layer.lora_variant for layer in layers)
    assert not any(layer.lora_variant for layer in layers)


def test_less_is_kept_for_the_backward_pass(tiny_llama: Path) -> None:
    """peft keeps a copy of every layer's input after dropout, and which entries fell out."""
    backbone = classifier(tiny_llama, lora=LoraOptions(lora_r=4, lora_dropout=0.1))
    goal = objective(backbone, documents(12))
    backbone.model.train()
    sizes = []
    for lean in (True, False):
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            lean_adapters(backbone) if lean else nullcontext(),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        ):
            losses = goal.losses(backbone.model, goal.collate(range(12)))
        sizes.append(sum(kept.values()))
        del losses
    assert sizes[0] < 0.8 * sizes[1]
