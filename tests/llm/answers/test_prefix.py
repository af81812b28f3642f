"""What prompts begin with."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from evalsuite.llm.answers.prefix import common_length, read_prefix
from evalsuite.llm.batching import TokenIds
from evalsuite.llm.loading.backbone import load_causal_lm
from evalsuite.llm.options import ModelOptions


@pytest.mark.parametrize(
    ("prompts", "length"),
    [
        ([[1, 2, 3], [1, 2, 4, 5], [1, 2]], 1),  # the shortest keeps a token of its own
        ([[1, 2, 3], [1, 2, 4, 5], [1, 3, 9]], 1),
        ([[1, 2, 3], [1, 2, 3]], 2),
        ([[12, 3], [1, 23]], 0),
        ([[5]], 0),
        ([], 0),
    ],
)
def test_what_all_prompts_begin_with(prompts: list[list[int]], length: int) -> None:
    assert common_length(prompts) == length


def test_the_rests_of_many_prompts_take_no_memory_of_their_own(tiny_llama: Path) -> None:
    backbone = load_causal_lm(ModelOptions(model=str(tiny_llama), load_in_4bit=False), "cpu")
    prompts = TokenIds([*range(10, 30), row % 200, *range(300, 330)] for row in range(5_000))
    tracemalloc.start()
    prefix, rests = read_prefix(backbone, prompts)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(prefix or ()) == 20
    assert (len(rests), rests[7]) == (5_000, [7, *range(300, 330)])
    assert held < 300_000  # bytes; lists of them would take 1.4 million
