"""Prompts in one row are read as each would be alone, for every family whose masks differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_scoring import WINDOWED, forget_windows, load, prompts_of, read_by_last_layer

from evalsuite.llm.answers import packing
from evalsuite.llm.answers.generation import decode
from evalsuite.llm.answers.packing import OneRow, Rows, packs
from evalsuite.llm.answers.prefix import read_prefix
from evalsuite.llm.loading.backbone import Backbone

FAMILIES = ["tiny_llama", *WINDOWED]


def alone(backbone: Backbone, ids: list[int]) -> torch.Tensor:
    return backbone.model(torch.tensor([ids])).logits[0, -1]


def shared(*own: int) -> list[list[int]]:
    """Prompts that begin with the same 20 tokens."""
    beginning, *rests = prompts_of(20, *own)
    return [[*beginning, *rest] for rest in rests]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fixture", FAMILIES)
@torch.no_grad()
def test_prompts_in_one_row_go_on_as_each_would_alone(
    request: pytest.FixtureRequest, fixture: str, attention: str
) -> None:
    backbone = load(request, fixture, attn_implementation=attention)
    prompts = shared(5, 12, 1)
    prefix, rests = read_prefix(backbone, prompts)
    assert prefix is not None
    readers: list[tuple[Any, list[list[int]]]] = [(OneRow(backbone, prefix), rests), (Rows(backbone), prompts)]
    for reader, asked in readers:
        written = [list(prompt) for prompt in prompts]
        for tokens in ({0: asked[0], 1: asked[1], 2: asked[2]}, {0: [7], 1: [8], 2: [9]}, {1: [30]}, {1: [31]}):
            found = reader.read(tokens)
            if len(tokens[1]) == 1:
                for row, added in tokens.items():
                    written[row] += added
            expected = torch.stack([alone(backbone, written[row]) for row in tokens])
            assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("fixture", FAMILIES)
def test_answers_do_not_depend_on_how_prompts_are_read(request: pytest.FixtureRequest, fixture: str) -> None:
    backbone = load(request, fixture)
    assert packs(backbone, 100)[0]
    prompts, end = shared(5, 12, 1, 9, 9, 3), backbone.tokenizer.eos_token_id
    one_by_one = [decode(backbone, [prompt], end, max_new_tokens=6)[0] for prompt in prompts]
    assert decode(backbone, prompts, end, max_new_tokens=6, packed=True) == one_by_one
    assert decode(backbone, prompts, end, max_new_tokens=6) == one_by_one


def test_the_beginning_is_read_once_and_there_is_no_padding(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    seen: list[tuple[int, ...]] = []
    embeddings = backbone.model.get_input_embeddings()
    embeddings.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    decode(backbone, shared(5, 9, 1), -1, max_new_tokens=3, packed=True)
    assert seen == [(1, 20), (1, 15), (1, 3), (1, 3)]
    seen.clear()
    last = read_by_last_layer(backbone.model)
    decode(backbone, shared(5, 9, 1), -1, max_new_tokens=3, packed=True)
    assert last[1:] == [3, 3, 3], "the last layer runs for what gets logits"
    seen.clear()
    decode(backbone, shared(40, 12, 30), -1, max_new_tokens=3, packed=True)
    assert seen[1] == (3, 60), "prompts with more of their own than they share have a row each"


@pytest.mark.parametrize("fixture", WINDOWED)
def test_a_row_that_forgets_the_window_is_found_at_load(
    request: pytest.FixtureRequest, fixture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, right = load(request, fixture), packing.branch_masks
    forget_windows(monkeypatch)
    monkeypatch.setattr(packing, "branch_masks", lambda b, visible, at: right(b, visible, torch.zeros_like(at)))
    packed, reason = packs(backbone, 100)
    assert not packed
    assert reason.startswith("logits are off by")


def test_a_hybrid_model_keeps_a_row_for_each_prompt_and_says_so(request: pytest.FixtureRequest) -> None:
    packed, reason = packs(load(request, "tiny_hybrid"), 100)
    assert not packed
    assert reason
