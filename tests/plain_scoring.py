"""Answers of tiny causal models the plain way, one text at a time: what scoring in one pass is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from evalsuite.llm.answers import label_scoring
from evalsuite.llm.loading.backbone import Backbone, layer_stack, load_causal_lm
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.options import LoraOptions, ModelOptions

WINDOWED = ["tiny_mistral", "tiny_gemma3", "tiny_qwen"]


def load(request: pytest.FixtureRequest, fixture: str, **options: Any) -> Backbone:
    """The model of a fixture."""
    folder: Path = request.getfixturevalue(fixture)
    return load_causal_lm(ModelOptions(model=str(folder), **options), "cpu")


def attach_telling_adapter(backbone: Backbone, dropout: float = 0.0) -> None:
    """An adapter that already changes what the model says."""
    torch.manual_seed(0)
    attach_lora(backbone, LoraOptions(lora_r=4, lora_dropout=dropout))
    for name, parameter in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.2)


def prompts_of(*lengths: int) -> list[list[int]]:
    """Random token ids, the same every time."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(5, 390, (length,), generator=generator).tolist() for length in lengths]


def log_likelihood(backbone: Backbone, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Full logits of prompt + answer, alone, and nothing clever."""
    logits = backbone.model(input_ids=torch.tensor([prompt + answer])).logits[0].float()
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return torch.log_softmax(logits, dim=-1)[places, answer].sum()


def read_by_last_layer(model: nn.Module) -> list[int]:
    """Tokens that the last layer's MLP reads from now on, pass by pass."""
    read: list[int] = []
    layer_stack(model)[-1].mlp.register_forward_hook(lambda module, given, made: read.append(given[0][..., 0].numel()))
    return read


def forget_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token of a tree is taken to stand at position 0: no window hides anything from it."""
    right = label_scoring.branch_masks
    monkeypatch.setattr(label_scoring, "branch_masks", lambda b, visible, at: right(b, visible, torch.zeros_like(at)))
