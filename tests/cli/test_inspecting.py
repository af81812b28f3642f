"""``validate`` and ``templates render``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return path


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return table(tmp_path / "clean.csv", [(f"{'good' if n % 2 else 'bad'} text {n}", "ab"[n % 2]) for n in range(200)])


def test_a_clean_table_passes(cli: Callable[..., Any], clean: Path) -> None:
    code, out, err = cli("validate", "--task", "table", "--set", f"task.data={clean}")
    assert (code, err) == (0, "")
    assert out.startswith("table: ")
    assert "2 labels, single-label" in out


def test_findings_have_row_ids_and_errors_an_exit_code(cli: Callable[..., Any], tmp_path: Path, clean: Path) -> None:
    leaking = table(tmp_path / "test.csv", [("bad text 0", "a"), ("good text 1", "b"), ("never seen words", "a")])
    sets = ("--set", f"task.data={clean}", "--set", f"task.test={leaking}")
    code, out, err = cli("validate", "--task", "table", *sets, "--json")
    report = json.loads(out)
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert code == 4
    assert report["sizes"]["test"] == 3
    assert errors
    assert all(finding["count"] == len(finding["rows"]) for finding in report["findings"])
    assert err == f"error: table: {len(errors)} findings are errors\n"
    shown = cli("validate", "--task", "table", *sets)
    assert shown.code == 4
    assert errors[0]["name"] in shown.out


def test_a_file_that_cannot_be_read(cli: Callable[..., Any], tmp_path: Path) -> None:
    code, out, err = cli("validate", "--task", "table", "--set", f"task.data={tmp_path / 'no.csv'}")
    assert (code, out) == (4, "")
    assert err.count("\n") == 1


def test_a_sample_is_announced(cli: Callable[..., Any]) -> None:
    assert "synthetic sample: no data was named" in cli("validate", "--task", "clv").out


def test_prompt_and_answers_are_printed_as_they_are(cli: Callable[..., Any], clean: Path) -> None:
    source = ("--task", "table", "--set", f"task.data={clean}")
    code, out, err = cli("templates", "render", *source, "--template", "letters", "--limit", "2", "--json")
    shown = json.loads(out)
    assert (code, err, len(shown["documents"])) == (0, "", 2)
    assert shown["answers"] == {"a": "A", "b": "B"}
    text = cli("templates", "render", *source, "--template", "letters", "--limit", "2").out
    for row in shown["documents"]:
        assert f"{row['prompt']}|{row['answer']}|\n" in text
    assert "\na: A\nb: B\n=== questions of decode=per_label, each followed by | yes| or | no|\n" in text
    assert text.endswith("\na: A?\nb: B?\n")


def test_tokens_are_counted_where_a_model_is_named(cli: Callable[..., Any], clean: Path, tiny_llama: Path) -> None:
    source = ("--task", "table", "--set", f"task.data={clean}", "--template", "letters", "--limit", "1")
    code, out, _ = cli("templates", "render", *source, "--model", tiny_llama, "--json")
    [shown] = json.loads(out)["documents"]
    assert code == 0
    assert shown["prompt"].startswith("<|begin_of_text|>")
    assert shown["answer"].endswith("<|end_of_text|>")
    assert shown["prompt_tokens"] > shown["answer_tokens"] == 3
    text = cli("templates", "render", *source, "--model", tiny_llama).out
    assert f"({shown['prompt_tokens']} tokens + 3)" in text


def test_a_folder_of_ones_own_templates(cli: Callable[..., Any], tmp_path: Path, clean: Path) -> None:
    folder = tmp_path / "sets" / "mine"
    folder.mkdir(parents=True)
    (folder / "prompt.j2").write_text("Is it {{ labels | join(' or ') }}? {{ text }}", encoding="utf-8")
    (folder / "answer.j2").write_text("{{ label | upper }}", encoding="utf-8")
    code, out, _ = cli(
        *("templates", "render", "--task", "table", "--set", f"task.data={clean}"),
        *("--template", "mine", "--templates", folder.parent, "--limit", 1),
    )
    assert code == 0
    assert "Is it a or b? " in out
    (folder / "answer.j2").write_text("{{ labl }}", encoding="utf-8")
    code, out, err = cli(
        *("templates", "render", "--task", "table", "--set", f"task.data={clean}"),
        *("--template", "mine", "--templates", folder.parent),
    )
    assert (code, out) == (2, "")
    assert "labl" in err
    assert err.count("\n") == 1
