"""``predict`` and ``score``: flags, counts on stderr, exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite import runner
from evalsuite.spec import RunResult

SPY = Path(__file__).parent.parent / "spy_plugin.py"
pytestmark = pytest.mark.usefixtures("few_resamples")
Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Iterator[RunResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
        yield evalsuite.run("words", "spy", plugins=[SPY], output_path=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("key,title,body\na,alpha,one\nb,nothing,two\nc,,\nd\n")
    return path


def test_predict_writes_a_file_and_says_what_came_of_the_rows(cli: Cli, words: RunResult, source: Path) -> None:
    target = source.with_name("out.jsonl")
    flags = (
        "--text_column",
        "title,body",
        "--joiner",
        "/",
        "--id_column",
        "key",
        "--keep",
        "title",
        "--abstain",
        "0.5",
    )
    outcome = cli("predict", words.directory, source, "-o", target, *flags)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.splitlines() == [
        "4 rows: 2 bad, 1 ok, 1 abstained",
        "bad rows, kept without a label: 1 empty text, 1 wrong number of cells",
        f"output: {target}",
    ]
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["id"], row["status"], row["label"], row["title"]) for row in rows] == [
        ("a", "ok", "alpha", "alpha"),
        ("b", "abstained", None, "nothing"),
        ("c", "bad", None, ""),
        (None, "bad", None, None),
    ]
    assert rows[0]["raw"] == "I read: alpha/one"
    again = cli("predict", words.directory, source, "-o", target, *flags)
    assert (again.code, again.err) == (2, f"error: {target} is there already; add --overwrite to replace it\n")
    assert cli("predict", words.directory, source, "-o", target, *flags, "--overwrite").code == 0


def test_predict_from_stdin_to_stdout(cli: Cli, words: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text\nbeta\n")))
    outcome = cli("predict", words.directory, "-", "-o", "-", "--input_format", "csv")
    assert [json.loads(line)["label"] for line in outcome.out.splitlines()] == ["beta"]
    assert outcome.err == "1 rows: 1 ok\n"


def test_plugins_named_replace_those_of_the_run(cli: Cli, words: RunResult, source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    flags = ("--text_column", "title", "--plugin", tmp_path / "empty.py")
    outcome = cli("predict", words.directory, source, "-o", tmp_path / "out.csv", *flags)
    assert outcome.code == 2
    assert "unknown method 'spy'" in outcome.err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--text_column", "titel"), 4, "has no column 'titel'; did you mean title?"),
        (("--text_column", "title", "--abstain", "2"), 2, "--abstain 2 must be above 0 and at most 1"),
        (("--text_column", "title", "--output_format", "parket"), 2, "did you mean parquet?"),
    ],
)
def test_predict_refuses(
    cli: Cli, words: RunResult, source: Path, flags: tuple[str, ...], code: int, message: str
) -> None:
    outcome = cli("predict", words.directory, source, "-o", source.with_name("out.csv"), *flags)
    assert outcome.code == code
    assert message in outcome.err


def test_predict_with_what_is_no_finished_run(cli: Cli, words: RunResult, source: Path, tmp_path: Path) -> None:
    outcome = cli("predict", tmp_path, source, "-o", tmp_path / "out.csv")
    assert outcome.code == 6
    assert "is not a run directory" in outcome.err


def test_score_makes_a_run_that_other_commands_read(cli: Cli, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    rows = "".join(f"test-{row},{('alpha', 'beta', 'gamma')[row % 3]}\n" for row in range(19))
    answers.write_text(f"id,label\n{rows}test-99,beta\n")
    runs = ("--output_path", tmp_path / "runs")
    flags = ("--task", "words", "--plugin", SPY, "--name", "vendor_x", *runs)
    outcome = cli("score", answers, *flags)
    assert outcome.code == 0
    assert "words / vendor_x" in outcome.out
    assert "Incomplete: 1 of 20 documents have no prediction and count nowhere." in outcome.err
    assert "Left out: 1 predictions" in outcome.err
    assert "vendor_x" in cli("ls", "runs", *runs).out
    assert "vendor_x" in cli("table", tmp_path / "runs").out + cli("table", tmp_path / "runs", "--json").out
    directory = outcome.out.splitlines()[-1].removeprefix("run: ")
    assert cli("show", directory).code == 0
    found = json.loads(cli("score", answers, *flags, "--json").out)
    assert found["metrics"]["summary"]["accuracy"]["value"] == 1
    assert cli("score", answers, *flags, "--limit", "5", "--set", "task.test=30").code == 0


def test_score_refuses_a_methods_name(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,label\n")
    outcome = cli("score", tmp_path / "x.csv", "--task", "clv", "--name", "majority")
    assert outcome.code == 2
    assert "give the outside system a name of its own" in outcome.err
