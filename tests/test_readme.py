"""What the README shows works as it stands there: the task in one file, the task without code, the copied template."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import evalsuite
from evalsuite.cli.app import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first fenced block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no {language} block"
    return found.group(1)


@pytest.fixture
def spam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the CSV file that the README speaks of, as the current one."""
    rows = [f"win money now {i},junk" if i % 2 else f"see you at lunch {i},mail" for i in range(80)]
    (tmp_path / "spam.csv").write_text("message,kind\n" + "\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_is_one_file_of_at_most_15_lines(spam: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spam / "spam.py").write_text(block("python"))
    assert len(block("python").splitlines()) <= 15
    main(["run", "--plugin", "spam.py", "--task", "spam", "--method", "majority"])
    assert "spam / majority" in capsys.readouterr().out


def test_a_table_needs_no_python(spam: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spam / "spam.yaml").write_text(block("yaml"))
    main(["run", "--task", "./spam.yaml", "--method", "tfidf"])
    assert "spam / tfidf" in capsys.readouterr().out


def test_a_template_is_a_copied_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "templates" / "plain", tmp_path / "my_templates" / "curt")
    prompt = tmp_path / "my_templates" / "curt" / "prompt.j2"
    prompt.write_text("{{ text }}\nSo it is:\n")
    monkeypatch.chdir(tmp_path)
    main(["templates", "render", "--task", "ag_news", "--templates", "my_templates", "--template", "curt"])
    assert "So it is:|" in capsys.readouterr().out


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^    make (\S+)$", README, re.MULTILINE)
    assert commands == ["first-run", "test"]
    assert all(f"\n{command}:" in makefile for command in commands)


def test_the_version_is_the_same_in_both_places() -> None:
    assert f'version = "{evalsuite.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
