"""Tokenising, padding, steps and micro-batches."""

from __future__ import annotations

import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from evalsuite.errors import ModelError
from evalsuite.llm.batching import (
    CPU_TOKENS,
    Encoded,
    TokenIds,
    encode,
    map_batches,
    map_rows,
    micro_batches,
    pad,
    prediction_budget,
    steps_of_epoch,
)
from evalsuite.llm.loading.backbone import choose_pad_token

MODELS = ("tiny_llama", "tiny_gemma3", "tiny_qwen")
TEXTS = ["", "short", "a much longer document about the treatment of water " * 5]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_encode_cuts_as_the_tokenizer_does(name: str, side: str, request: pytest.FixtureRequest) -> None:
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(name), truncation_side=side)
    choose_pad_token(tokenizer, 400)
    encoded = encode(tokenizer, TEXTS[1:], 20, side)
    assert list(encoded.ids) == tokenizer(TEXTS[1:], truncation=True, max_length=20)["input_ids"]
    assert encoded.lengths[-1] == 20
    assert encoded.truncated == 0.5


def test_token_ids_are_read_as_the_lists_they_were() -> None:
    lists = [[1, 2, 3], [], [128_255], [7] * 500, []]
    ids = TokenIds(lists)
    assert list(ids) == lists
    assert (len(ids), ids.lengths) == (5, [3, 0, 1, 500, 0])
    assert (ids[-2], ids[1:3]) == (lists[-2], lists[1:3])
    assert all(type(token) is int for token in ids[0])
    with pytest.raises(IndexError):
        ids[5]
    assert (list(TokenIds([])), TokenIds([]).lengths) == ([], [])


def test_a_token_takes_four_bytes() -> None:
    tracemalloc.start()
    try:
        ids = TokenIds([300 + row] * 100 for row in range(2000))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / sum(ids.lengths) < 5


def test_rows_of_encoded_documents() -> None:
    encoded = Encoded.of([([1, 2], False), ([3], True), ([4, 5, 6], False), ([7], False)])
    assert (encoded.truncated, encoded.lengths) == (0.25, [2, 1, 3, 1])
    assert list(encoded.rows([2, 0]).ids) == [[4, 5, 6], [1, 2]]
    assert Encoded.of([]).truncated == 0


@pytest.mark.parametrize("name", MODELS)
def test_empty_text_is_one_token(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(name))
    choose_pad_token(tokenizer, 400)
    assert encode(tokenizer, TEXTS, 20).lengths[0] == 1


def test_marks_written_in_a_document_stay_text(tiny_qwen: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen)
    text = f"ends with {tokenizer.eos_token}"
    (ids,) = encode(tokenizer, [text], 64).ids
    assert tokenizer.pad_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_no_room_for_the_text_is_an_error(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="max_length 1 leaves no token for the text; give at least 2"):
        encode(AutoTokenizer.from_pretrained(tiny_llama), ["text"], 1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_pad(side: str) -> None:
    batch = pad([[5], [6, 7, 8]], pad_id=0, side=side)
    expected = [[5, 0, 0], [6, 7, 8]] if side == "right" else [[0, 0, 5], [6, 7, 8]]
    assert batch["input_ids"].tolist() == expected
    assert batch["attention_mask"].tolist() == [[int(token != 0) for token in row] for row in expected]


def test_an_epoch_has_every_document_once_in_full_steps() -> None:
    lengths = [1 + index % 7 for index in range(1003)]
    steps = steps_of_epoch(lengths, 8, seed=1, epoch=0)
    assert sorted(index for step in steps for index in step) == list(range(1003))
    assert sorted(len(step) for step in steps) == [3] + [8] * 125
    assert steps == steps_of_epoch(lengths, 8, seed=1, epoch=0)
    assert steps != steps_of_epoch(lengths, 8, seed=1, epoch=1)
    assert steps != steps_of_epoch(lengths, 8, seed=2, epoch=0)


def test_length_buckets_save_padding() -> None:
    lengths = [30 if index % 2 else 300 for index in range(512)]
    padded = sum(len(step) * max(lengths[i] for i in step) for step in steps_of_epoch(lengths, 16, seed=0, epoch=0))
    assert padded < 1.1 * sum(lengths)


def test_micro_batches_keep_the_budget_and_every_document() -> None:
    lengths = [3, 9, 50, 9, 2, 7]
    batches = micro_batches(range(6), lengths, budget=20)
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert [2] in batches, "a document longer than the budget goes alone"
    assert all(len(batch) * max(lengths[i] for i in batch) <= 20 for batch in batches if len(batch) > 1)


def test_map_batches_keeps_the_order_and_halves_on_no_memory() -> None:
    lengths = [4, 1, 3, 4, 2, 4, 1, 1]
    sizes, counted = [], []

    def function(rows: list[int]) -> list[int]:
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        sizes.append(len(rows))
        return [10 * row for row in rows]

    assert map_batches(function, lengths, 1000, counted.append) == [10 * row for row in range(8)]
    assert max(sizes) <= 2
    assert sum(counted) == 8


def test_map_batches_without_memory_for_one_document() -> None:
    def function(rows: list[int]) -> list[int]:
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match="no memory for one document of 9 tokens"):
        map_batches(function, [9, 2], 100)


def test_map_rows_fills_one_array_in_the_documents_order_and_keeps_no_batch() -> None:
    lengths = [3, 900, 20, 400, 5]
    batches: list[weakref.ref[torch.Tensor]] = []

    def function(rows: list[int]) -> torch.Tensor:
        made = torch.tensor([[row, 10.0 * row] for row in rows], dtype=torch.float64)
        batches.append(weakref.ref(made))
        return made

    found = map_rows(function, (2,), lengths, 1000)
    assert found.dtype == np.float32
    assert found.flags.owndata
    assert found.tolist() == [[row, 10.0 * row] for row in range(5)]
    assert len(batches) > 1
    assert not any(batch() is not None for batch in batches)
    assert map_rows(function, (2, 3), [], 1000).shape == (0, 2, 3)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        map_rows(lambda rows: torch.zeros(1, 2), (2,), [3, 3], 1000)


def test_map_batches_of_nothing() -> None:
    assert map_batches(lambda rows: rows, [], 100) == []


def test_a_prediction_on_the_cpu_takes_batches_that_stay_in_its_cache() -> None:
    assert prediction_budget(8192, torch.device("cpu")) == CPU_TOKENS
    assert prediction_budget(100, torch.device("cpu")) == 100
    assert prediction_budget(8192, torch.device("cuda")) == 8192
