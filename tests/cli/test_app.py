"""Errors are one line with a typed exit code; flags are spelt either way; a closed pipe is no error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite import errors, registry, runner
from evalsuite.cli.app import spell_flags

RUN = ("run", "--task", "words", "--method", "spy")


def test_version(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"evalsuite {evalsuite.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["templates", "render", "--help"]])
def test_help(cli: Callable[..., Any], arguments: list[str]) -> None:
    code, out, err = cli(*arguments)
    assert (code, err) == (0, "")
    assert "Usage: evalsuite" in out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--lora_r", "--lora-r"),
        ("--task_data=a_b=c_d", "--task-data=a_b=c_d"),
        ("task.text_column=a_b", "task.text_column=a_b"),
        ("my_file", "my_file"),
        ("-x_y", "-x_y"),
    ],
)
def test_underscores_and_dashes_in_a_flags_name_are_the_same(given: str, expected: str) -> None:
    assert spell_flags([given]) == [expected]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?; see: evalsuite --help"),
        (["ls"], "see: evalsuite ls --help"),
        (["ls", "task"], "unknown kind 'task'; did you mean tasks"),
        (["ls", "tasks", "--jsn"], "No such option: --jsn"),
        (["templates"], "Missing command; see: evalsuite templates --help"),
        (["run"], "no task was named; add --task NAME, list them with: evalsuite ls tasks"),
        (["run", "--task", "clv"], "no method was named; add --method NAME"),
        (["run", "--task", "clw", "--method", "tfidf"], "unknown task 'clw'; did you mean clv?"),
        (["run", "--task", "clv", "--method", "tfdif"], "unknown method 'tfdif'; did you mean tfidf?"),
        (
            ["run", "--task", "clv", "--method", "tfidf", "--min_dff", "2"],
            "unknown option 'min_dff'; did you mean min_df",
        ),
        (["run", "--task", "clv", "--method", "tfidf", "stray"], "unexpected argument 'stray'"),
        (["run", "--task", "clv", "--method", "tfidf", "--min_df", "x"], "'min_df': 'x' does not fit"),
        (["run", "--task", "clv", "--method", "tfidf", "--set", "min_df"], "'min_df' is not an assignment"),
        (["run", "--task", "clv", "--method", "tfidf", "--seed", "x"], "Invalid value for '--seed'"),
        (["run", "--task", "clv", "--method", "tfidf", "--limit", "1.5"], "--limit 1.5 must be a whole number"),
        (["run", "--task", "clv", "--method", "tfidf", "--preset", "no"], "unknown preset 'no'"),
        (["run", "--task", "clv", "--method", "tfidf", "--config", "no.yaml"], "'no.yaml' does not exist"),
        (["run", "--task", "clv", "--method", "tfidf", "--model", "x"], "unknown option 'model'"),
        (["run", "--task", "clv", "--method", "tfidf", "--plugin", "no.py"], "plugin 'no.py' does not exist"),
        (["options"], "options of what?"),
        (["options", "--method", "tfdif"], "unknown method 'tfdif'"),
        (["templates", "render", "--task", "clv", "--template", "plan"], "'plan'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_request_that_makes_no_sense_is_one_line_and_exit_code_2(
    cli: Callable[..., Any], arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_exit_code(
    cli: Callable[..., Any], spy: tuple[str, ...], kind: type[errors.EvalsuiteError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise kind("name", "thing", ["think"]) if kind is errors.UnknownNameError else kind("what happened")

    monkeypatch.setattr(runner, "execute", fail)
    code, out, err = cli(*RUN, *spy)
    assert (code, out) == (kind.exit_code, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert f"{kind.__name__} " in errors.__doc__
    assert f" {kind.exit_code} " in errors.__doc__.partition(kind.__name__)[2] or kind.exit_code == 2


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ValueError("first\nsecond"), 1, "unexpected ValueError: first second (--debug shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "unexpected MemoryError"),
    ],
)
def test_an_unforeseen_error_is_one_line_too(
    cli: Callable[..., Any],
    spy: tuple[str, ...],
    raised: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise raised

    monkeypatch.setattr(runner, "execute", fail)
    outcome = cli(*RUN, *spy)
    assert outcome.code == code
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("place", [0, -1])
def test_debug_adds_the_traceback_wherever_it_stands(cli: Callable[..., Any], place: int) -> None:
    arguments = ["ls", "task"]
    arguments.insert(place % (len(arguments) + 1), "--debug")
    code, _, err = cli(*arguments)
    assert code == 2
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith("error: unknown kind 'task'")


def test_an_unwritable_output_path(cli: Callable[..., Any], spy: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out, err = cli(*RUN, *spy, "--output_path", tmp_path / "file")
    assert (code, out) == (6, "")
    assert "a part of the path is a file; choose another --output_path" in err
    assert err.count("\n") == 1


def test_a_missing_data_file(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = cli("run", "--task", "ag_news", "--method", "tfidf", "--set", "task.data=no.csv")
    assert code == 4
    assert "no.csv" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_broken_plugin_is_a_warning_and_a_collision_an_error(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import absent_module", encoding="utf-8")
    code, out, err = cli("ls", "tasks", "--plugin", tmp_path)
    assert code == 0
    assert "ag_news" in out
    assert err == (
        f"warning: plugin {tmp_path / 'broken.py'} (--plugin) was not loaded: "
        "ModuleNotFoundError: No module named 'absent_module'\n"
    )
    (tmp_path / "typo.py").write_text("def evalsuite_register_taks(): return []", encoding="utf-8")
    code, out, err = cli("ls", "tasks", "--plugin", tmp_path / "typo.py")
    assert (code, out) == (5, "")
    assert "did you mean evalsuite_register_tasks" in err


COMMANDS = """
def evalsuite_register_commands(app):
    @app.command("greet")
    def greet(times: int = 1):
        print("hello " * times)
        if times > 2:
            import typer
            raise typer.Exit(3)
"""


def test_a_plugin_adds_a_command(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evalsuite.cli import app

    monkeypatch.setattr(app.app, "registered_commands", list(app.app.registered_commands))
    (tmp_path / "good.py").write_text(COMMANDS, encoding="utf-8")
    (tmp_path / "bad.py").write_text("def evalsuite_register_commands(app): raise OSError('no')", encoding="utf-8")
    monkeypatch.setenv(registry.VARIABLE, str(tmp_path))
    code, out, err = cli("greet", "--times", "2")
    assert (code, out) == (0, "hello hello \n")
    assert err == f"warning: plugin {tmp_path / 'bad.py'}: its commands are left out: OSError: no\n"
    assert cli("greet", "--times", "3").code == 3


def test_a_reader_who_goes_away_is_not_complained_to() -> None:
    read, write = os.pipe()
    os.close(read)
    child = subprocess.run(
        [sys.executable, "-m", "evalsuite", "ls", "metrics"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (child.returncode, child.stderr) == (1, "")
