"""The built-in sets, byte for byte: a changed prompt is a changed experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.prompts import load_prompts, template_sets

GOLDEN = Path(__file__).parent / "golden"
LABELS = ("World", "Sports", "Sci/Tech")
DESCRIPTIONS = {"World": "politics; conflicts", "Sports": "matches and athletes"}
SETS = ("descriptions", "letters", "listed", "numbers", "plain")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("multilabel", [False, True], ids=["single", "multi"])
def test_prompt_answers_and_questions_are_as_recorded(name: str, multilabel: bool) -> None:
    prompts = load_prompts(
        name, task="news", labels=LABELS, multilabel=multilabel, descriptions=DESCRIPTIONS, search=[]
    )
    document = "  {{ 7 * 7 }} & <b>two\nlines</b> "
    solved = [("a document", (1,)), ("another", (2, 0) if multilabel else (0,))]
    answers = [prompts.answer((label,)) for label in range(3)]
    answers += [prompts.answer((0, 1, 2)), prompts.answer(())] if multilabel else []
    asked = [prompts.question_boundary + question + prompts.yes + prompts.no for question in prompts.questions]
    made = "\n=====\n".join([prompts.prompt(document), prompts.prompt(document, solved), *answers, *asked])
    golden = GOLDEN / f"{name}-{'multi' if multilabel else 'single'}.txt"
    assert made.encode() == golden.read_bytes()


def test_every_built_in_set_is_recorded() -> None:
    assert tuple(sorted(template_sets([]))) == SETS


def test_letters_go_past_z() -> None:
    labels = [f"class {i}" for i in range(60)]
    prompts = load_prompts("letters", task="t", labels=labels, multilabel=False, descriptions={}, search=[])
    assert [prompts.verbalizers[i] for i in (0, 25, 26, 27, 51, 52)] == ["A", "Z", "AA", "AB", "AZ", "BA"]
