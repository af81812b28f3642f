"""Few-shot examples: balanced, seeded, nested, and never a document that is trained on or scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from evalsuite.config import resolve
from evalsuite.contracts import Example
from evalsuite.errors import OptionError
from evalsuite.fewshot import draw_examples
from evalsuite.opening import bind_prompts, read_request, write_request
from evalsuite.preparation import prepare
from evalsuite.registry import build_registry

TRAIN = [Example(str(row), f"text {row}", (0 if row < 90 else row % 3,)) for row in range(100)]


def test_labels_take_turns_however_rare_they_are() -> None:
    counts = Counter(example.labels[0] for example in draw_examples(TRAIN, 6, seed=0, k=3))
    assert counts == {0: 2, 1: 2, 2: 2}


def test_the_seed_decides_and_a_smaller_count_is_the_beginning_of_a_larger() -> None:
    assert draw_examples(TRAIN, 8, 1, 3) == draw_examples(TRAIN, 8, 1, 3)[:8]
    assert draw_examples(TRAIN, 4, 1, 3) == draw_examples(TRAIN, 8, 1, 3)[:4]
    assert draw_examples(TRAIN, 8, 1, 3) != draw_examples(TRAIN, 8, 2, 3)


def test_no_document_is_drawn_twice_and_no_more_than_there_are() -> None:
    several = [Example("a", "a", (0, 1)), Example("b", "b", (1,)), Example("c", "c", (2,)), Example("d", "d", ())]
    assert sorted(example.id for example in draw_examples(several, 10, 0, 3)) == ["a", "b", "c"]


def test_shots_leave_train_and_reach_the_prompts_of_a_reopened_run(tmp_path: Path) -> None:
    registry = build_registry()
    flags = {"task": "ag_news", "method": "majority", "num_fewshot": 4, "output_path": str(tmp_path)}
    prepared = prepare(registry, *resolve(registry, flags))
    without = prepare(registry, *resolve(registry, {**flags, "num_fewshot": 0}))
    shots = prepared.request.facts.shots
    kept = {example.text for example in prepared.splits.train}
    assert len(shots) == 4
    assert kept.isdisjoint(text for text, _ in shots)
    assert len(prepared.splits.train) == len(without.splits.train) - 4
    write_request(tmp_path, prepared.request)
    reopened = read_request(tmp_path)
    assert reopened.facts == prepared.request.facts
    prompts = bind_prompts(reopened, registry)
    assert all(text in prompts.prompt("a document", prompts.shots) for text, _ in shots)


def test_a_private_task_keeps_no_text_in_prompts(tmp_path: Path) -> None:
    registry = build_registry()
    spec, task, method = resolve(registry, {"task": "clv", "method": "majority", "num_fewshot": 2})
    with pytest.raises(OptionError, match="private"):
        prepare(registry, replace(spec, output_path=str(tmp_path)), task, method)
