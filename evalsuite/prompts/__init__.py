"""Prompts and answers from Jinja templates, and their token ids.

A template set is a folder with ``prompt.j2`` (rendered once a document) and ``answer.j2`` (rendered once a label); a
folder inside it with a task's name overrides either for that task. Sets are looked for in the folders given on the
command line, then in plugins', then among the built-in ones, which ``{% extends "builtin:plain/prompt.j2" %}`` names.
The variables are in ``PROMPT_VARIABLES`` and ``ANSWER_VARIABLES``; ``answer.j2`` may set those in ``ANSWER_SETTINGS``.
"""

from evalsuite.prompts.prompt_set import (
    ANSWER_SETTINGS,
    ANSWER_VARIABLES,
    PROMPT_VARIABLES,
    PromptSet,
    load_prompts,
    template_sets,
)
from evalsuite.prompts.tokens import PromptEncoder, preview, uses_chat_template

__all__ = [
    "ANSWER_SETTINGS",
    "ANSWER_VARIABLES",
    "PROMPT_VARIABLES",
    "PromptEncoder",
    "PromptSet",
    "load_prompts",
    "preview",
    "template_sets",
    "uses_chat_template",
]
