"""A template set bound to labels: prompts, answers, and labels that cannot be told apart."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import TemplateError
from evalsuite.prompts import (
    ANSWER_SETTINGS,
    ANSWER_VARIABLES,
    PROMPT_VARIABLES,
    QUESTION_SETTINGS,
    QUESTION_VARIABLES,
    PromptSet,
    load_prompts,
    template_sets,
)


def load(name: str = "plain", **changes: Any) -> PromptSet:
    arguments: dict[str, Any] = {
        "task": "news",
        "labels": ("World", "Sports", "Business"),
        "multilabel": False,
        "descriptions": {},
        "search": [],
    }
    return load_prompts(name, **(arguments | changes))


def write(folder: Path, **files: str) -> Path:
    target = folder / "mine"
    target.mkdir()
    for name, source in files.items():
        (target / f"{name}.j2").write_text(source, encoding="utf-8")
    return folder


def test_examples_show_documents_with_their_answers() -> None:
    prompts = load(multilabel=True)
    prompt = prompts.prompt("third", [("first", (2, 0)), ("second", ())])
    assert prompt.endswith(
        "Text: first\nCategories: World; Business\n\nText: second\nCategories: none\n\nText: third\nCategories:"
    )


def test_a_multilabel_answer_is_in_label_order() -> None:
    assert load(multilabel=True).answer((2, 0)) == "World; Business"
    assert load(multilabel=True).answer(()) == "none"


def test_answer_settings_come_from_the_template(tmp_path: Path) -> None:
    source = "{% set separator = ' | ' %}{% set none_answer = 'no class' %}{% set boundary = '\n' %}{{ label }}"
    folder = write(tmp_path, prompt="{{ text }}", answer=source)
    prompts = load("mine", multilabel=True, search=[folder])
    assert (prompts.answer((0, 1)), prompts.answer(()), prompts.boundary) == ("World | Sports", "no class", "\n")
    assert load().boundary == ANSWER_SETTINGS["boundary"] == " "


def test_every_documented_variable_is_there(tmp_path: Path) -> None:
    # Each is printed, so that a missing one would stop loading (undefined names are errors).
    prompt = " ".join(f"{{{{ {name} }}}}" for name in PROMPT_VARIABLES)
    answer = "{{ label }}" + "".join(f"{{% set _ = {name} %}}" for name in ANSWER_VARIABLES)
    question = "{{ label }}" + "".join(f"{{% set _ = {name} %}}" for name in QUESTION_VARIABLES)
    made = load("mine", search=[write(tmp_path, prompt=prompt, answer=answer, question=question)])
    assert (made.verbalizers[0], made.questions[0]) == ("World", "World")


def test_a_set_without_a_question_asks_the_plain_one(tmp_path: Path) -> None:
    prompts = load("mine", search=[write(tmp_path, prompt="{{ text }}", answer="{{ index }}")])
    assert prompts.questions == load("plain").questions == ("World?", "Sports?", "Business?")


def test_question_settings_come_from_the_template(tmp_path: Path) -> None:
    source = "{% set boundary = '\n' %}{% set yes = ': true' %}{% set no = ': false' %}{{ label }}"
    prompts = load("mine", search=[write(tmp_path, prompt="{{ text }}", answer="{{ label }}", question=source)])
    assert (prompts.question_boundary, prompts.yes, prompts.no) == ("\n", ": true", ": false")
    assert prompts.boundary == ANSWER_SETTINGS["boundary"], "the answer's own boundary stays"
    plain = load()
    assert {"boundary": plain.question_boundary, "yes": plain.yes, "no": plain.no} == QUESTION_SETTINGS


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("Does it fit?", "asks the same about labels 'World' and 'Sports', 'Does it fit?'"),
        ("{{ label if index else '' }}", "asks nothing about label 'World'"),
        ("{% set no = ' y' %}{{ label }}", "sets yes to ' yes' and no to ' y': neither may be empty or begin"),
        ("{% set yes = ' ' %}{{ label }}", "sets yes to ' ' and no to ' no': neither may be empty or begin"),
    ],
)
def test_questions_that_cannot_be_told_apart(tmp_path: Path, question: str, message: str) -> None:
    folder = write(tmp_path, prompt="{{ text }}", answer="{{ label }}", question=question)
    with pytest.raises(TemplateError, match=re.escape(message)):
        load("mine", search=[folder])


def test_descriptions_fall_back_to_names() -> None:
    assert load("descriptions", descriptions={"Sports": "games"}).verbalizers == ("World", "games", "Business")


@pytest.mark.parametrize(
    ("answer", "multilabel", "message"),
    [
        ("{{ label | first }}{{ labels | length }}", False, None),
        ("same", False, "verbalizes labels 'World' and 'Sports' alike, as 'same'"),
        ("{{ label | length }}", False, None),
        ("{{ (label | lower | replace('world', 'sports')) }}", False, "'World' and 'Sports' alike, as 'sports'"),
        ("{{ '' if index else 'x' }}", False, "makes an empty answer of label 'Sports'"),
        ("{{ label }}; {{ index }}", False, None),
        ("{{ label }}; {{ index }}", True, "the answer 'World; 0' of label 'World' contains the separator '; '"),
        ("{{ 'none' if index == 1 else label }}", True, "verbalizes label 'Sports' as 'none', the answer without"),
        ("{{ 'none' if index == 1 else label }}", False, None),
    ],
)
def test_labels_that_cannot_be_told_apart(tmp_path: Path, answer: str, multilabel: bool, message: str | None) -> None:
    folder = write(tmp_path, prompt="{{ text }}", answer=answer)
    if message is None:
        assert len(set(load("mine", search=[folder], multilabel=multilabel).verbalizers)) == 3
    else:
        with pytest.raises(TemplateError, match=re.escape(message)):
            load("mine", search=[folder], multilabel=multilabel)


def test_a_label_that_begins_another_is_fine() -> None:
    assert load(labels=("Sport", "Sports"), multilabel=True).answer((0, 1)) == "Sport; Sports"


def test_a_mistake_in_the_examples_part_is_found_before_any_work(tmp_path: Path) -> None:
    folder = write(tmp_path, prompt="{% for e in examples %}{{ e.anwser }}{% endfor %}{{ text }}", answer="{{ label }}")
    with pytest.raises(TemplateError, match=r"mine/prompt\.j2, line 1"):
        load("mine", search=[folder])


def test_a_task_folder_inside_a_set_overrides_it(tmp_path: Path) -> None:
    folder = write(tmp_path, prompt="general {{ text }}", answer="{{ label }}")
    (folder / "mine" / "news").mkdir()
    (folder / "mine" / "news" / "prompt.j2").write_text("{% extends 'mine/prompt.j2' %}")
    (folder / "mine" / "news" / "answer.j2").write_text("{{ index }}")
    assert load("mine", search=[folder]).verbalizers == ("0", "1", "2")
    assert load("mine", search=[folder]).prompt("x") == "general x"
    assert load("mine", search=[folder], task="other").verbalizers == ("World", "Sports", "Business")


def test_a_set_may_extend_a_built_in_one_even_of_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    block = "{% block options %}Say what it is about.\n{% endblock %}"
    (tmp_path / "plain" / "prompt.j2").write_text('{% extends "builtin:plain/prompt.j2" %}' + block)
    prompts = load("plain", search=[tmp_path])
    assert prompts.prompt("x") == "Say what it is about.\n" + load("plain").prompt("x")
    assert prompts.verbalizers == load("plain").verbalizers, "what a set lacks comes from the built-in one of its name"


def test_copying_a_set_keeps_its_hash_and_changing_it_does_not(tmp_path: Path) -> None:
    built_in = files("evalsuite.templates").joinpath("plain")
    sources = {name: built_in.joinpath(f"{name}.j2").read_text() for name in ("prompt", "answer", "question")}
    folder = write(tmp_path, **sources)
    assert load("mine", search=[folder]).hash == load("plain").hash
    for name in sources:
        (folder / "mine" / f"{name}.j2").write_text(sources[name] + ".")
        assert load("mine", search=[folder]).hash != load("plain").hash
        (folder / "mine" / f"{name}.j2").write_text(sources[name])


def test_template_sets_says_where_each_comes_from(tmp_path: Path) -> None:
    folder = write(tmp_path, prompt="", answer="")
    sets = template_sets([folder])
    assert {"plain", "letters", "descriptions", "numbers", "mine"} <= set(sets)
    assert sets["mine"] == str(folder / "mine")


@pytest.mark.parametrize(
    ("text", "multilabel", "labels"),
    [
        (" World", False, (0,)),
        ("sports.\n\nText: something else", False, (1,)),
        ("World; Sports", False, None),
        ("Worldwide", False, None),
        ("", False, None),
        ("none", False, None),
        ("Sports; World", True, (0, 1)),
        ("World; World", True, (0,)),
        ("World; Weather", True, None),
        ("None", True, ()),
        ("World; none", True, None),
    ],
)
def test_reading_a_written_answer(text: str, multilabel: bool, labels: tuple[int, ...] | None) -> None:
    assert load(multilabel=multilabel).read(text) == labels


def test_reading_undoes_answering() -> None:
    prompts = load(multilabel=True)
    for labels in [(), (0,), (1, 2), (0, 1, 2)]:
        assert prompts.read(prompts.answer(labels)) == labels
