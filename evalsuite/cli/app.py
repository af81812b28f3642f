"""The command line: parses, calls, prints. ``main`` turns every error into one line and a typed exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import typer

from evalsuite import __version__
from evalsuite.cli import (
    comparing,
    console,
    exporting,
    inspecting,
    listing,
    predicting,
    pushing,
    reporting,
    reproducing,
    running,
    sweeping,
    tabling,
)
from evalsuite.errors import EvalsuiteError
from evalsuite.registry import GROUP, VARIABLE, build_registry

# Newer typer carries its own copy of click, older typer imports click: this is the base class of either's errors.
ClickError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

INTERRUPTED = 130  # what shells and typer call an end by Ctrl-C

app = typer.Typer(
    name="evalsuite",
    help="Turn language models into text classifiers, and find out which way is best.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        console.out(f"evalsuite {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_version, is_eager=True
    ),
    debug: bool = typer.Option(False, "--debug", help="On an error, print the traceback too (works anywhere)."),
) -> None:
    """Turn language models into text classifiers, and find out which way is best."""


for group in (
    running.commands,
    sweeping.commands,
    tabling.commands,
    reproducing.commands,
    comparing.commands,
    reporting.commands,
    listing.commands,
    inspecting.commands,
    predicting.commands,
    exporting.commands,
    pushing.commands,
):
    app.add_typer(group)


def spell_flags(arguments: Sequence[str]) -> list[str]:
    """``--lora_r 8`` and ``--lora-r 8`` are the same flag: underscores in a flag's name become dashes."""
    spelt = []
    for argument in arguments:
        name, sign, value = argument.partition("=")
        spelt.append(name.replace("_", "-") + sign + value if name.startswith("--") else argument)
    return spelt


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``evalsuite`` command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        if entry_points(group=GROUP) or os.environ.get(VARIABLE):
            for failed in build_registry().notify("evalsuite_register_commands", app=app):
                console.note(f"warning: plugin {failed.name}: its commands are left out: {failed.problem}")
        words = [argument for argument in spell_flags(given) if argument != "--debug"] or ["--help"]
        code = app(words, prog_name="evalsuite", standalone_mode=False)
        # Here and not when Python ends, so that a reader who has gone is noticed below.
        sys.stdout.flush()
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
    except EvalsuiteError as error:
        _fail(f"{error}", error.exit_code, debug)
    except ClickError as error:
        context = getattr(error, "ctx", None)
        hint = f"; see: {context.command_path} --help" if context else ""
        _fail(" ".join(error.format_message().split()).rstrip(".") + hint, error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", INTERRUPTED, debug)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort: still one line, and where to see more
        _fail(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:500]} (--debug shows where)", 1, debug
        )


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    console.error(message)
    sys.exit(code)
