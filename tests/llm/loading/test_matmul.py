"""oneDNN's products against the plain ones: values, gradients, and what is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from evalsuite.llm.batching import encode, pad
from evalsuite.llm.loading import matmul
from evalsuite.llm.loading.backbone import load_base_model, recompute_activations
from evalsuite.llm.loading.matmul import OneDnnLinear, onednn_agrees, onednn_linear, suits, use_fast_products
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions

TEXTS = ["a much longer document about the treatment of water " * 4, "a method", "the team won the match"]

pytestmark = pytest.mark.skipif(not onednn_agrees(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast way is taken, whatever processor this is."""
    monkeypatch.setattr(matmul, "mkl_holds_back", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("shape", [(64, 24), (4, 16, 24)])
def test_values_and_gradients_are_those_of_the_plain_product(shape: tuple[int, ...], frozen: bool, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(24, 40, bias=bias)
    plain.weight.requires_grad_(not frozen)
    fast = copy.deepcopy(plain)
    use_fast_products(fast)
    assert type(fast) is OneDnnLinear
    inputs, found = torch.randn(shape), []
    for layer in (plain, fast):
        given = inputs.clone().requires_grad_()
        output = layer(given)
        output.sin().sum().backward()
        found.append([output, given.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, value in zip(*found, strict=True):
        assert (expected is None) == (value is None)
        if expected is not None:
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strided", ["inputs", "weight", "bias"])
def test_tensors_with_gaps_are_read_right(strided: str) -> None:
    torch.manual_seed(0)
    inputs, weight, bias = torch.randn(64, 48), torch.randn(40, 48), torch.randn(40)
    if strided == "inputs":
        inputs = torch.randn(64, 3, 96)[:, 1, ::2]
    elif strided == "weight":
        weight = torch.randn(48, 40).t()
    else:
        bias = torch.randn(40, 2)[:, 0]
    torch.testing.assert_close(onednn_linear(inputs, weight, bias), inputs @ weight.T + bias, atol=1e-4, rtol=1e-4)


def test_a_frozen_layer_keeps_no_inputs() -> None:
    """The plain product keeps none either: a LoRA step would need twice the memory."""
    layer = nn.Linear(24, 40).requires_grad_(False)
    use_fast_products(layer)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.randn(64, 24, requires_grad=True))
    assert [tuple(tensor.shape) for tensor in kept] == [(40, 24)]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_a_model_with_an_adapter_learns_the_same(
    name: str, recompute: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for holds_back in (False, True):
        monkeypatch.setattr(matmul, "mkl_holds_back", lambda fast=holds_back: fast)
        backbone = load_base_model(ModelOptions(model=str(request.getfixturevalue(name)), dtype="float32"), "cpu")
        torch.manual_seed(0)
        attach_lora(backbone, LoraOptions(lora_dropout=0.0))
        assert any(type(module) is OneDnnLinear for module in backbone.model.modules()) == holds_back
        recompute_activations(backbone.model, recompute)
        backbone.model.train()
        for module in backbone.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        batch = pad(encode(backbone.tokenizer, TEXTS, 32).ids, backbone.tokenizer.pad_token_id)
        hidden = backbone.model(**batch, use_cache=False).last_hidden_state
        hidden.square().sum().backward()
        trained = [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]
        found.append([hidden.detach(), *(parameter.grad for parameter in trained)])
    assert len(found[0]) > 2
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-3, rtol=1e-3)


def test_other_precisions_and_small_products_are_left_alone() -> None:
    weight = torch.ones(8, 8)
    assert suits(torch.ones(4, 8), weight)
    assert not suits(torch.ones(3, 8), weight)
    assert not suits(torch.ones(8), weight)
    assert not suits(torch.ones(32, 8, dtype=torch.bfloat16), weight.bfloat16())
    assert not suits(torch.ones(32, 8, device="meta"), weight.to("meta"))
    layer = nn.Linear(8, 8)
    use_fast_products(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(32, 8)).dtype == torch.bfloat16


def test_layers_of_another_kind_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.modules.linear.NonDynamicallyQuantizableLinear(8, 8))
    use_fast_products(model)
    assert [type(module) for module in model] == [OneDnnLinear, nn.modules.linear.NonDynamicallyQuantizableLinear]


def test_nothing_is_done_where_mkl_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "mkl_holds_back", lambda: False)
    layer = nn.Linear(8, 8)
    use_fast_products(layer)
    assert type(layer) is nn.Linear


def test_an_operator_that_went_away_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*tensors: Tensor) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(matmul, "onednn_linear", gone)
    assert not onednn_agrees.__wrapped__()
