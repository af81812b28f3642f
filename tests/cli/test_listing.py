"""``ls``, ``show``, ``options``, ``plugins``, ``env``: for people and, with --json, for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite import runner

SPY = Path(__file__).parent.parent / "spy_plugin.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Iterator[evalsuite.RunResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
        yield evalsuite.run("words", "spy", plugins=[SPY], output_path=tmp_path_factory.mktemp("runs"), seed=3)


@pytest.mark.parametrize(
    ("kind", "column", "names"),
    [
        ("tasks", "task", {"ag_news", "wipo", "clv", "table", "words"}),
        ("methods", "method", {"majority", "tfidf", "embedding", "instruction", "spy"}),
        ("metrics", "metric", {"accuracy", "f1_macro", "ece", "hit_any"}),
        ("templates", "template", {"plain", "letters", "descriptions", "numbers"}),
        ("presets", "preset", {"bundled"}),
    ],
)
def test_what_is_there_to_choose_from(
    cli: Callable[..., Any], spy: tuple[str, ...], kind: str, column: str, names: set[str]
) -> None:
    code, out, _ = cli("ls", kind, *spy, "--json")
    rows = json.loads(out)
    assert code == 0
    assert names <= {row[column] for row in rows}
    assert all(value.strip() for row in rows for key, value in row.items() if key in (column, "plugin", "description"))
    table = cli("ls", kind, *spy).out.splitlines()
    assert len(table) == len(rows) + 1
    assert table[0].split()[0] == column


def test_runs_are_listed_and_a_broken_one_says_why(
    cli: Callable[..., Any], finished: evalsuite.RunResult, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(finished.directory, tmp_path / "a" / "good")
    shutil.copytree(finished.directory, tmp_path / "b" / "broken")
    (tmp_path / "b" / "broken" / "log.txt").unlink()
    code, out, err = cli("ls", "runs", "--output_path", tmp_path, "--json")
    good, broken = json.loads(out)
    assert (code, err) == (0, "")
    assert good["run"].endswith("good")
    assert (good["task"], good["method"], good["seed"]) == ("words", "spy", "3")
    assert "log.txt is missing or was changed" in broken["run"]
    assert cli("ls", "runs", "--output_path", tmp_path / "absent", "--json").out == "[]\n"


def test_a_run_is_shown(cli: Callable[..., Any], finished: evalsuite.RunResult) -> None:
    code, out, _ = cli("show", finished.directory)
    assert code == 0
    [primary] = [line.split() for line in out.splitlines() if "(primary)" in line]
    assert primary[:3] == ["f1_macro", "(primary)", f"{finished.metrics['f1_macro']['value']:.4f}"]
    assert out.endswith(f"run: {finished.directory}\n")
    shown = json.loads(cli("show", finished.directory, "--json").out)
    assert shown == finished.results


def test_an_edited_run_is_not_shown(cli: Callable[..., Any], finished: evalsuite.RunResult, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "edited"
    shutil.copytree(finished.directory, copy)
    text = (copy / "results.json").read_text(encoding="utf-8")
    (copy / "results.json").write_text(text.replace('"seed": 3', '"seed": 4', 1), encoding="utf-8")
    code, out, err = cli("show", copy)
    assert (code, out) == (6, "")
    assert "was changed after the run (hash differs)" in err
    assert cli("show", tmp_path).code == 6


def test_every_option_has_type_default_meaning_and_place(cli: Callable[..., Any]) -> None:
    rows = {
        row["option"]: row for row in json.loads(cli("options", "--task", "clv", "--method", "embedding", "--json").out)
    }
    assert rows["lora_r"]["default"] == "8"
    assert rows["lora_r"]["type"] == "int"
    assert "512.12677" in rows["lora_r"]["source"]
    assert rows["load_in_4bit"]["type"] == "bool | None"
    assert rows["max_length"]["unit"] == "tokens"
    assert "task.data" in rows
    assert {"calibration", "threshold"} <= set(rows)
    assert all(row["meaning"] for row in rows.values())
    only = json.loads(cli("options", "--task", "clv", "--json").out)
    assert {row["option"].partition(".")[0] for row in only} == {"task"}


def test_plugins_are_listed_with_their_state(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import absent_module", encoding="utf-8")
    rows = {row["plugin"]: row for row in json.loads(cli("plugins", "--plugin", tmp_path, "--json").out)}
    assert rows["evalsuite.plugins.tfidf"] == {
        "plugin": "evalsuite.plugins.tfidf",
        "from": "built in",
        "state": "loaded",
    }
    assert "absent_module" in rows[str(tmp_path / "broken.py")]["state"]


def test_the_environment_says_versions_and_no_secret(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, out, _ = cli("env", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["evalsuite"] == evalsuite.__version__
    assert facts["packages"]["numpy"]
    assert facts["variables"]["OMP_NUM_THREADS"] == "1"
    assert "hf_secret" not in out + cli("env").out
