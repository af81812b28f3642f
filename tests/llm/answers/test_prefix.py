"""What prompts begin with."""

from __future__ import annotations

import pytest

from evalsuite.llm.answers.prefix import common_length


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
