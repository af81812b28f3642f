"""Every error that evalsuite raises on purpose, with the exit code that the command line returns for it.

::

    EvalsuiteError              1   anything below
    ├── UsageError              2   the request makes no sense as it stands
    │   ├── UnknownNameError        a task, method, template, option ... that nobody registered
    │   ├── OptionError             an option whose value does not fit
    │   └── TemplateError           a template that cannot be rendered, or labels it cannot tell apart
    ├── ModelError              3   a model that is absent, gated, corrupt, or unfit for the method
    ├── DataError               4   a dataset that is absent or cannot be read
    ├── PluginError             5   a plugin that is broken, misspelt, or collides with another
    ├── StoreError              6   an output directory that cannot be written, or a run that cannot be read
    ├── TrainingError           7   training that cannot go on: a loss that is not finite, no memory for one document
    └── Interrupted            75   stopped by a signal after saving; the same command goes on (EX_TEMPFAIL)

Messages are one line: the value, what was expected, the nearest known name, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EvalsuiteError(Exception):
    """Base of all errors with a message meant for the person at the terminal."""

    exit_code = 1


class UsageError(EvalsuiteError):
    """The request makes no sense as it stands."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that nobody registered. The message lists the nearest known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        super().__init__("; ".join(filter(None, [f"unknown {kind} {name!r}", nearest(name, known), advice])))


class OptionError(UsageError):
    """An option whose value does not fit its type or range."""


class TemplateError(UsageError):
    """A template that cannot be found or rendered, or whose answers cannot be told apart."""


class ModelError(EvalsuiteError):
    """A model that is absent, gated, corrupt, or unfit for the method."""

    exit_code = 3


class DataError(EvalsuiteError):
    """A dataset that is absent or cannot be read."""

    exit_code = 4


class PluginError(EvalsuiteError):
    """A plugin that is broken, misspelt, or collides with another."""

    exit_code = 5


class StoreError(EvalsuiteError):
    """An output directory that cannot be written, or a run directory that cannot be read."""

    exit_code = 6


class TrainingError(EvalsuiteError):
    """Training that cannot go on."""

    exit_code = 7


class Interrupted(EvalsuiteError):  # noqa: N818 - a request to stop is not an error of the program
    """Stopped by SIGINT or SIGTERM after the state was saved."""

    exit_code = 75


def nearest(name: str, known: Iterable[str]) -> str:
    """The close matches of ``name`` as a clause for an error message; all known names where none is close."""
    choices = sorted(known)
    if not choices:
        return "none is registered"
    if close := get_close_matches(name, choices, n=3, cutoff=0.5):
        return "did you mean " + " or ".join(close) + "?"
    shown = ", ".join(choices[:12]) + (f", ... ({len(choices)} in all)" if len(choices) > 12 else "")
    return f"known: {shown}"
