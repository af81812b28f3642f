"""What ``from_pretrained`` would decide by itself, and must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from training_setup import LABELS
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalsuite.llm.loading.backbone import load_causal_lm, load_sequence_classifier
from evalsuite.llm.loading.matmul import OneDnnLinear
from evalsuite.llm.options import ModelOptions


def test_a_model_is_on_one_device_and_never_spread(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """device_map="auto" makes a launched QLoRA run single-process without a word."""
    asked: dict[str, Any] = {}
    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda name, **options: asked.update(options) or load(name, **options)
    )
    load_causal_lm(ModelOptions(model=str(tiny_llama)), "cpu")
    assert asked["device_map"] == {"": "cpu"}


def test_the_dtype_is_what_was_asked_not_what_the_checkpoint_holds(tiny_llama: Path, tmp_path: Path) -> None:
    """transformers 5 loads the checkpoint's own dtype unless told."""
    AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    for asked, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        backbone = load_causal_lm(ModelOptions(model=str(tmp_path), dtype=asked), "cpu")
        assert {parameter.dtype for parameter in backbone.model.parameters()} == {expected}
        assert backbone.dtype == expected


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"])
def test_the_head_is_the_stock_one_without_bias(name: str, load_in_4bit: bool, request: pytest.FixtureRequest) -> None:
    """A bias would be lost, or be random, in a plain reload; a 4-bit layer would be quantised there."""
    options = ModelOptions(model=str(request.getfixturevalue(name)), dtype="bfloat16", load_in_4bit=load_in_4bit)
    head = load_sequence_classifier(options, LABELS, False, "cpu").model.score
    assert type(head) in (nn.Linear, OneDnnLinear)
    assert head.bias is None
    assert head.weight.dtype == torch.float32


def test_float16_is_no_choice() -> None:
    """Heads trained in it go to 0 or NaN."""
    with pytest.raises(ValidationError):
        ModelOptions(dtype="float16")
