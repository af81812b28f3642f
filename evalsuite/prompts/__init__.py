"""Prompts and answers from Jinja templates, and their token ids.

A template set is a folder with ``prompt.j2`` (rendered once a document), ``answer.j2`` and, optional, ``question.j2``
(rendered once a label); a folder inside it with a task's name overrides each for that task. Sets are looked for in the
folders given on the command line, then in plugins', then among the built-in ones, which
``{% extends "builtin:plain/prompt.j2" %}`` names. The variables are in ``PROMPT_VARIABLES``, ``ANSWER_VARIABLES`` and
``QUESTION_VARIABLES``; what the last two may set is in ``ANSWER_SETTINGS`` and ``QUESTION_SETTINGS``.
"""

from evalsuite.prompts.prompt_set import (
    ANSWER_SETTINGS,
    ANSWER_VARIABLES,
    PROMPT_VARIABLES,
    QUESTION_SETTINGS,
    QUESTION_VARIABLES,
    PromptSet,
    load_prompts,
    template_sets,
)
from evalsuite.prompts.tokens import PromptEncoder, preview, uses_chat_template

__all__ = [
    "ANSWER_SETTINGS",
    "ANSWER_VARIABLES",
    "PROMPT_VARIABLES",
    "QUESTION_SETTINGS",
    "QUESTION_VARIABLES",
    "PromptEncoder",
    "PromptSet",
    "load_prompts",
    "preview",
    "template_sets",
    "uses_chat_template",
]
