"""How answers are had: which way, with how much room, and what is said of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.contracts import RunContext
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.answering import Answerer, check, resolve_decode
from evalsuite.llm.loading.backbone import load_causal_lm
from evalsuite.llm.options import AnsweringOptions
from evalsuite.progress import Silent
from evalsuite.prompts import load_prompts

LABELS = ("World", "Sports", "Business")


def context(multilabel: bool = False, labels: tuple[str, ...] = LABELS) -> RunContext:
    arguments: dict[str, Any] = {"task": "toy", "labels": labels, "multilabel": multilabel}
    prompts = load_prompts("plain", **arguments, descriptions={}, search=[])
    place = Path("unused")
    return RunContext(**arguments, seed=0, device="cpu", workdir=place, cache=place, progress=Silent(), prompts=prompts)


def answerer(model: Path, ctx: RunContext, **options: Any) -> Answerer:
    config = AnsweringOptions(model=str(model), **options)
    return Answerer(load_causal_lm(config, "cpu"), ctx, config)


@pytest.mark.parametrize(
    ("decode", "multilabel", "resolved"),
    [
        ("auto", False, "score"),
        ("auto", True, "constrained"),
        ("per_label", False, "per_label"),
        ("per_label", True, "per_label"),
        ("free", True, "free"),
    ],
)
def test_auto_is_resolved_by_the_task(decode: Any, multilabel: bool, resolved: str) -> None:
    assert resolve_decode(AnsweringOptions(decode=decode), context(multilabel)) == resolved


def test_scoring_is_refused_where_there_may_be_more_labels_and_the_others_are_named() -> None:
    with pytest.raises(OptionError, match="use decode=constrained, per_label or free"):
        resolve_decode(AnsweringOptions(decode="score"), context(multilabel=True))


@pytest.mark.parametrize("multilabel", [False, True])
def test_only_ways_with_logits_have_a_scorer(tiny_qwen: Path, multilabel: bool) -> None:
    for decode in ("per_label", "constrained", "free") if multilabel else ("score", "per_label", "constrained"):
        asked = answerer(tiny_qwen, context(multilabel), decode=decode, max_new_tokens=4)
        scores = asked.predict(["a", "the match"])
        assert (scores.logits is not None) == (asked.scorer is not None) == (decode in ("score", "per_label"))
        assert asked.ctx.facts["truncated_share"] == 0
        facts = asked.facts()
        assert facts["decode"] == decode
        assert ("label_scoring" in facts) == (asked.scorer is not None)


def test_a_fallback_is_reported(tiny_hybrid: Path) -> None:
    facts = answerer(tiny_hybrid, context(True), decode="per_label").facts()
    assert facts["label_scoring"].startswith("one label at a time: one pass is refused (ValueError: layers of type")


@pytest.mark.parametrize("decode", ["score", "per_label"])
def test_prompt_and_what_follows_it_fit_into_the_input(tiny_llama: Path, decode: str) -> None:
    asked = answerer(tiny_llama, context(), decode=decode, max_length=60)
    encoded = asked.encode(["long " * 100])
    [prompt], cut = encoded.ids, encoded.truncated
    encoder = asked.encoder
    follows = encoder.candidates
    if decode == "per_label":
        follows = [[*ids, *answer] for ids in encoder.question_ids for answer in encoder.yes_no_ids]
    assert cut == 1
    assert 50 < len(prompt) + max(map(len, follows)) <= 60


def test_the_answers_to_a_prompt_are_those_of_its_text(tiny_llama: Path) -> None:
    asked = answerer(tiny_llama, context(True), decode="per_label")
    texts = ["first", "the second one"]
    prompts = asked.encode(texts).ids
    logits, again = asked.answer(prompts).logits, asked.predict(texts).logits
    assert logits is not None
    assert logits.shape == (2, 3)
    assert np.array_equal(logits, again)  # type: ignore[arg-type]


def test_questions_need_no_end_mark_and_answers_do(tiny_llama: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_llama, model)
    settings = model / "tokenizer_config.json"
    lines = [line for line in settings.read_text().splitlines() if '"eos_token"' not in line]
    settings.write_text("\n".join(lines))
    check(AnsweringOptions(model=str(model), decode="per_label"), context())
    with pytest.raises(ModelError, match="no end-of-text token"):
        check(AnsweringOptions(model=str(model)), context())


def test_no_room_for_a_document_beside_a_question_is_found_without_the_model(tiny_llama: Path) -> None:
    long = tuple(f"{label} {'and more ' * 20}" for label in LABELS)
    with pytest.raises(OptionError, match="max_length=64 leaves no room for a document"):
        check(AnsweringOptions(model=str(tiny_llama), decode="per_label", max_length=64), context(labels=long))
