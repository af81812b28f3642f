"""Few documents of train: balanced, seeded, nested, and those of a prompt neither trained on nor scored."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalsuite.config import resolve
from evalsuite.contracts import Example, Splits
from evalsuite.data.splits import text_hash
from evalsuite.errors import OptionError
from evalsuite.fewshot import balanced_subset, draw_examples
from evalsuite.opening import bind_prompts, read_request, write_request
from evalsuite.preparation import Prepared, prepare, without_shots
from evalsuite.registry import build_registry
from evalsuite.results import notices

SPY = Path(__file__).parent / "spy_plugin.py"

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


def test_a_text_that_is_scored_is_no_example_whatever_its_id_or_its_case() -> None:
    """Half of every pool: without the check one of them would be drawn."""
    train = [Example(f"train-{row}", f"Text {row}", (row % 2,)) for row in range(12)]
    validation = [Example("v", "text   4", (0,)), Example("w", "TEXT 5", (1,))]
    test = [Example(f"test-{row}", f"text {row}", (row % 2,)) for row in range(4)]
    splits = Splits(("a", "b"), train, validation, test)
    registry = build_registry()
    for seed in range(5):
        spec, task, _ = resolve(registry, {"task": "ag_news", "method": "majority", "num_fewshot": 12, "seed": seed})
        # The run scores one document; the others are kept out too, so that --limit does not change the prompt.
        _, shots = without_shots(replace(splits, test=test[:1]), splits, spec, task)
        assert {shot.id for shot in shots} == {f"train-{row}" for row in range(6, 12)}
    assert draw_examples(train, 4, 0, 2, {text_hash("no such text")}) == draw_examples(train, 4, 0, 2)


def words(**flags: Any) -> Prepared:
    registry = build_registry([SPY])
    return prepare(registry, *resolve(registry, {"task": "words", "method": "spy", **flags}))


def counts(examples: Iterable[Example]) -> Counter[int]:
    return Counter(label for example in examples for label in example.labels)


def test_train_size_is_documents_of_each_class_nested_seeded_and_in_order() -> None:
    small, large, other = (balanced_subset(TRAIN, size, seed, 3) for size, seed in ((2, 1), (3, 1), (3, 2)))
    assert counts(small) == {0: 2, 1: 2, 2: 2}
    assert counts(large) == {0: 3, 1: 3, 2: 3}
    assert [example for example in large if example in small] == small
    assert large == [example for example in TRAIN if example in large]
    assert large != other
    assert balanced_subset(TRAIN[::-1], 3, 1, 3) == large[::-1]
    assert balanced_subset(TRAIN, 10**12, 0, 3) == TRAIN


@pytest.mark.parametrize("seed", range(5))
def test_train_size_of_a_multi_label_task(seed: int) -> None:
    train = [Example(str(r), f"t {r}", tuple(label for label in range(4) if r % (label + 2) == 0)) for r in range(60)]
    subsets = [balanced_subset(train, size, seed, 4) for size in range(1, 31)]
    for size, subset in enumerate(subsets, start=1):
        carried, there = counts(subset), counts(train)
        assert all(carried[label] >= min(size, there[label]) for label in range(4))
        assert all(example.labels for example in subset)
    for smaller, larger in itertools.pairwise(subsets):
        assert {example.id for example in smaller} <= {example.id for example in larger}
    assert len(subsets[0]) <= 4


def test_train_size_leaves_what_is_scored_alone_and_names_the_classes_that_fall_short() -> None:
    whole, sized = words(), words(train_size=4)
    assert counts(sized.splits.train) == {0: 4, 1: 4, 2: 4}
    assert (sized.splits.validation, sized.splits.test) == (whole.splits.validation, whole.splits.test)
    assert not any("fewer than" in line for line in notices(sized))
    short = words(train_size=11, **{"task.first_label": 1})
    assert "Data: train has fewer than 11 documents of alpha (9), gamma (10)." in notices(short)


def test_train_size_comes_after_train_limit_and_before_the_examples_of_the_prompt() -> None:
    both = words(train_size=2, train_limit=15)
    assert set(both.splits.train) <= set(words(train_limit=15).splits.train)
    shown = words(train_size=4, num_fewshot=3)
    sized = {example.text for example in words(train_size=4).splits.train}
    shots = {text for text, _ in shown.request.facts.shots}
    assert len(shots) == 3
    assert {example.text for example in shown.splits.train} == sized - shots
    assert shots < sized
    assert not any("fewer than" in line for line in notices(shown))


def test_a_train_size_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="--train-size 0 must be at least 1 document of each class"):
        words(train_size=0)
