"""A template set bound to a task's labels: prompts out of documents, answers out of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import TemplateError

if TYPE_CHECKING:
    from evalsuite.prompts.sandbox import Templates

PROMPT_VARIABLES: Mapping[str, str] = {
    "text": "the document",
    "labels": "label names, in label order",
    "answers": "what answer.j2 made of each label, in label order",
    "descriptions": "what each label stands for, in label order; the label's name where nobody described it",
    "task": "name of the task",
    "multilabel": "true where a document has any number of labels",
    "examples": "solved documents to show before this one: a list with .text, .answer and .labels (names)",
}
ANSWER_VARIABLES: Mapping[str, str] = {
    "label": "name of the label to verbalize or to ask about",
    "index": "its place in label order, from 0",
    **{name: PROMPT_VARIABLES[name] for name in ("labels", "descriptions", "task", "multilabel")},
}
# What answer.j2 may set at its top level, with the defaults.
ANSWER_SETTINGS: Mapping[str, str] = {
    "boundary": " ",  # between the prompt's last character and the answer; tokenised with the answer
    "separator": "; ",  # between the labels of a multi-label answer
    "none_answer": "none",  # the multi-label answer without a label
}
QUESTION_VARIABLES = ANSWER_VARIABLES
# What question.j2 may set at its top level, with the defaults.
QUESTION_SETTINGS: Mapping[str, str] = {
    "boundary": " ",  # between the prompt's last character and the question; tokenised with the question
    "yes": " yes",  # what follows the question where the document has the label, with the whitespace before it
    "no": " no",  # what follows it where it has not
}
NO_QUESTION = "builtin:plain/question.j2"  # stands in where a set has no question.j2


@dataclass(frozen=True)
class PromptSet:
    """One template set for one task (k labels).

    hash: of the sources that made it, whatever folder they came from.
    labels: k names; verbalizers: k answers, one a label; questions: k, one a label; all in label order.
    boundary, separator, none_answer: see ``ANSWER_SETTINGS``.
    question_boundary, yes, no: see ``QUESTION_SETTINGS``.
    shots: solved examples (text, label indices) that go in front of every document.
    chat: True wraps prompts in the tokenizer's chat template, False never does, None where the model is an instruct
        model by its name.
    """

    name: str
    hash: str
    task: str
    labels: tuple[str, ...]
    multilabel: bool
    verbalizers: tuple[str, ...]
    descriptions: tuple[str, ...]
    boundary: str
    separator: str
    none_answer: str
    questions: tuple[str, ...]
    question_boundary: str
    yes: str
    no: str
    chat: bool | None
    render: Callable[[Mapping[str, Any]], str] = field(repr=False, compare=False)
    shots: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def prompt(self, text: str, examples: Sequence[tuple[str, Sequence[int]]] = ()) -> str:
        """The prompt for ``text`` after solved ``examples`` (text, label indices); ends before the boundary.

        Whitespace at its end is dropped: ``boundary`` says what stands between prompt and answer.

        Raises:
            TemplateError: the template fails on this document.
        """
        shown = [
            {"text": text, "answer": self.answer(labels), "labels": [self.labels[label] for label in labels]}
            for text, labels in examples
        ]
        variables = _prompt_variables(self.task, self.labels, self.verbalizers, self.descriptions, self.multilabel)
        return self.render({**variables, "text": text, "examples": shown}).rstrip()

    def answer(self, labels: Sequence[int]) -> str:
        """The answer for a document with ``labels`` (indices): in label order, whatever their order here."""
        if not self.multilabel:
            (label,) = labels
            return self.verbalizers[label]
        return self.separator.join(self.verbalizers[label] for label in sorted(labels)) or self.none_answer

    def read(self, text: str) -> tuple[int, ...] | None:
        """The label indices that a written answer names, in label order; None where it is no answer.

        Case, space around and a full stop at the end are forgiven, and so is anything after the first line. Whatever
        else is not exactly an answer is none: how often that happens is what free decoding measures.
        """
        known = {_plain(verbalizer): label for label, verbalizer in enumerate(self.verbalizers)}
        for candidate in (text.strip(), text.strip().partition("\n")[0]):
            if self.multilabel and _plain(candidate) == _plain(self.none_answer):
                return ()
            parts = candidate.split(self.separator) if self.multilabel else [candidate]
            labels = [known.get(_plain(part)) for part in parts]
            if None not in labels:
                return tuple(sorted({label for label in labels if label is not None}))
        return None


def load_prompts(
    name: str,
    *,
    task: str,
    labels: Sequence[str],
    multilabel: bool,
    descriptions: Mapping[str, str],
    search: Sequence[Path],
    chat: bool | None = None,
) -> PromptSet:
    """Load template set ``name`` from ``search`` (first wins) or the built-in sets, and check that it tells all
    ``labels`` apart. ``descriptions`` maps label names to what they stand for; labels may be missing there.

    Raises:
        UnknownNameError: no such set.
        TemplateError: a template that cannot be rendered, or two labels with one answer or one question.
    """
    from evalsuite.prompts.sandbox import Templates  # jinja2: listing methods must not wait for it

    templates = Templates(search)
    answer = templates.find(name, task, "answer.j2")
    prompt = templates.find(name, task, "prompt.j2")
    question = templates.find(name, task, "question.j2", default=NO_QUESTION)
    described = tuple(descriptions.get(label, label) for label in labels)
    shared = {"labels": list(labels), "descriptions": list(described), "task": task, "multilabel": multilabel}
    each = [{**shared, "label": label, "index": index} for index, label in enumerate(labels)]
    verbalizers, settings = _rendered(templates, answer, each, ANSWER_SETTINGS)
    _check_answers(name, labels, verbalizers, multilabel, settings)
    # Rendering once with and once without examples finds mistakes before any work, and loads every source for the hash.
    probe = _prompt_variables(task, labels, verbalizers, described, multilabel)
    solved = {"text": "a document", "answer": verbalizers[0], "labels": [labels[0]]}
    for examples in ([], [solved]):
        templates.render(prompt, {**probe, "text": "a document", "examples": examples})
    questions, asked = _rendered(templates, question, each, QUESTION_SETTINGS)
    _check_questions(name, labels, questions, asked)
    return PromptSet(
        name=name,
        hash=templates.hash(),
        task=task,
        labels=tuple(labels),
        multilabel=multilabel,
        verbalizers=verbalizers,
        descriptions=described,
        chat=chat,
        render=lambda variables: templates.render(prompt, variables)[0],
        boundary=settings["boundary"],
        separator=settings["separator"],
        none_answer=settings["none_answer"],
        questions=questions,
        question_boundary=asked["boundary"],
        yes=asked["yes"],
        no=asked["no"],
    )


def template_sets(search: Sequence[Path]) -> dict[str, str]:
    """Name of every template set on the search path and built in -> the folder that provides it."""
    from evalsuite.prompts.sandbox import Templates

    return Templates(search).sets()


def _rendered(
    templates: Templates, file: str, each: Sequence[Mapping[str, Any]], settings: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """(what ``file`` makes of each label's variables, what it sets of ``settings``, defaults for the rest)."""
    rendered = [templates.render(file, variables) for variables in each]
    found = {key: str(rendered[0][1].get(key, default)) for key, default in settings.items()}
    return tuple(text.strip() for text, _ in rendered), found


def _plain(text: str) -> str:
    return text.strip().removesuffix(".").casefold()


def _prompt_variables(
    task: str, labels: Sequence[str], verbalizers: Sequence[str], descriptions: Sequence[str], multilabel: bool
) -> dict[str, Any]:
    return {
        "labels": list(labels),
        "answers": list(verbalizers),
        "descriptions": list(descriptions),
        "task": task,
        "multilabel": multilabel,
    }


def _check_answers(
    name: str, labels: Sequence[str], verbalizers: Sequence[str], multilabel: bool, settings: Mapping[str, str]
) -> None:
    """No two labels may read alike, and no composed answer may be read two ways.

    One answer may begin another ("Sport", "Sports"): the end mark, always part of an answer, tells them apart.
    """
    owner: dict[str, str] = {}
    for label, verbalizer in zip(labels, verbalizers, strict=True):
        if not verbalizer:
            raise TemplateError(f"template {name!r} makes an empty answer of label {label!r}")
        if (other := owner.setdefault(verbalizer, label)) is not label:
            raise TemplateError(
                f"template {name!r} verbalizes labels {other!r} and {label!r} alike, as {verbalizer!r}: "
                "print something in answer.j2 that tells them apart, e.g. {{ index }}"
            )
        if multilabel and (settings["separator"].strip() or settings["separator"]) in verbalizer:
            raise TemplateError(
                f"template {name!r}: the answer {verbalizer!r} of label {label!r} contains the separator "
                f"{settings['separator']!r}: set another in answer.j2, e.g. {{% set separator = ' | ' %}}"
            )
    if multilabel and (clash := owner.get(settings["none_answer"])):
        raise TemplateError(
            f"template {name!r} verbalizes label {clash!r} as {settings['none_answer']!r}, the answer without a label: "
            "set another in answer.j2, e.g. {% set none_answer = 'no label' %}"
        )


def _check_questions(name: str, labels: Sequence[str], questions: Sequence[str], settings: Mapping[str, str]) -> None:
    """Every label has a question of its own, and yes cannot be read as no."""
    owner: dict[str, str] = {}
    for label, question in zip(labels, questions, strict=True):
        if not question:
            raise TemplateError(
                f"template {name!r} asks nothing about label {label!r}: print a question in question.j2"
            )
        if (other := owner.setdefault(question, label)) is not label:
            raise TemplateError(
                f"template {name!r} asks the same about labels {other!r} and {label!r}, {question!r}: "
                "print something in question.j2 that tells them apart, e.g. {{ label }}"
            )
    yes, no = settings["yes"], settings["no"]
    if not yes.strip() or not no.strip() or yes.startswith(no) or no.startswith(yes):
        raise TemplateError(
            f"template {name!r} sets yes to {yes!r} and no to {no!r}: neither may be empty or begin with the other"
        )
