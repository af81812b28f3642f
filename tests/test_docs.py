"""The guide names every flag, command, hook, template variable, exit code and result key."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer.main

import evalsuite
from evalsuite import errors, hookspecs
from evalsuite.cli.app import app
from evalsuite.prompts import (
    ANSWER_SETTINGS,
    ANSWER_VARIABLES,
    PROMPT_VARIABLES,
    QUESTION_SETTINGS,
    QUESTION_VARIABLES,
)
from evalsuite.registry import build_registry

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_flag_of_run_is_in_the_guide() -> None:
    flags = {option.removeprefix("--") for parameter in COMMANDS["run"].params for option in parameter.opts}
    missing = [flag for flag in flags - {"context"} if f"--{flag.replace('-', '_')}" not in GUIDE.replace("\\", "")]
    assert missing == []


def test_every_command_is_in_the_guide() -> None:
    assert [name for name in COMMANDS if f"`{name}" not in GUIDE and f"evalsuite {name}" not in GUIDE] == []


def test_every_hook_is_in_the_guide() -> None:
    hooks = [name for name in dir(hookspecs) if name.startswith("evalsuite_")]
    assert hooks
    assert [name for name in hooks if f"`{name}`" not in GUIDE] == []


def test_every_template_variable_is_in_the_guide() -> None:
    names = {*PROMPT_VARIABLES, *ANSWER_VARIABLES, *ANSWER_SETTINGS, *QUESTION_VARIABLES, *QUESTION_SETTINGS}
    assert [name for name in names if f"| `{name}` |" not in GUIDE] == []


def test_every_exit_code_is_in_the_guide() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert [kind.__name__ for kind in classes if f"| {kind.exit_code} |" not in GUIDE] == []  # type: ignore[attr-defined]


def test_every_built_in_task_and_method_is_in_the_guide_or_the_readme() -> None:
    registry = build_registry()
    text = GUIDE + README
    assert [name for name in (*registry.tasks, *registry.methods) if f"`{name}`" not in text] == []


def test_every_result_key_is_in_the_guide(tmp_path: Path) -> None:
    result = evalsuite.run("clv", "majority", output_path=str(tmp_path))
    assert [key for key in result.results if f"`{key}`" not in GUIDE] == []


@pytest.mark.parametrize("page", [GUIDE, README], ids=["guide", "readme"])
def test_links_to_files_lead_somewhere(page: str) -> None:
    targets = [part.partition(")")[0] for part in page.split("](")[1:]]
    local = [target.partition("#")[0] for target in targets if not target.startswith(("http", "#"))]
    assert [target for target in local if not (ROOT / target).exists() and not (ROOT / "docs" / target).exists()] == []
