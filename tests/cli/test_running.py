"""``run``: flags, plan, result, JSON, and what a terminal is shown."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite import runner
from evalsuite.cli import console
from evalsuite.cli.running import method_flags, model_arguments
from evalsuite.errors import UsageError
from evalsuite.store import find_runs

SPY = Path(__file__).parent.parent / "spy_plugin.py"
RUN = ("run", "--task", "words", "--method", "spy", "--plugin", str(SPY))
pytestmark = pytest.mark.usefixtures("few_resamples", "no_reload")


@pytest.fixture
def no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--lora-r", "8"], {"lora_r": "8"}),
        (["--lora-r=8"], {"lora_r": "8"}),
        (["--load-in-4bit"], {"load_in_4bit": "true"}),
        (["--load-in-4bit", "--lora-r", "8"], {"load_in_4bit": "true", "lora_r": "8"}),
        (["--load-in-4bit", "false"], {"load_in_4bit": "false"}),
        (["--bias", "-1.5"], {"bias": "-1.5"}),
        (["--path", "a=b=c"], {"path": "a=b=c"}),
        (["--path="], {"path": ""}),
        (["--device-map", "null"], {"device_map": None}),
        (["--task.data", "x.csv"], {"task.data": "x.csv"}),
    ],
)
def test_a_flag_that_run_does_not_know_is_an_option(flags: list[str], expected: dict[str, Any]) -> None:
    assert dict(method_flags(flags)) == expected


def test_a_word_without_a_flag_is_refused() -> None:
    with pytest.raises(UsageError, match="unexpected argument 'x'"):
        dict(method_flags(["--flag=1", "x"]))


def test_model_arguments_are_spelt_as_in_lm_eval() -> None:
    assert dict(model_arguments("dtype=bfloat16,load_in_4bit=true")) == {"dtype": "bfloat16", "load_in_4bit": "true"}
    assert dict(model_arguments(None)) == {}
    with pytest.raises(UsageError, match="'dtype' is not an assignment"):
        dict(model_arguments("dtype"))


@pytest.mark.parametrize("spelling", ["--bar_seconds", "--bar-seconds", "--set=bar_seconds"])
def test_an_option_may_be_spelt_either_way(cli: Callable[..., Any], spelling: str) -> None:
    arguments = [f"{spelling}=0.25"] if "set" in spelling else [spelling, "0.25"]
    plan = json.loads(cli(*RUN, *arguments, "--dry-run", "--json").out)
    assert plan["spec"]["method_options"]["bar_seconds"] == 0.25


def test_a_plan_says_where_every_value_came_from_and_writes_nothing(cli: Callable[..., Any], tmp_path: Path) -> None:
    place = ("--output_path", tmp_path, "--seed", 3, "--set", "bias=1")
    code, out, err = cli(*RUN, *place, "--dry-run")
    rows = {line.split()[0]: line.split() for line in out.splitlines()}
    assert (code, err) == (0, "")
    assert rows["seed"] == ["seed", "3", "flag"]
    assert rows["method.bias"] == ["method.bias", "1.0", "--set"]
    assert rows["method.forget"][-1] == "default"
    assert rows["train"] == ["train", "30"]
    assert rows["run:"][1].startswith(str(tmp_path))
    plan = json.loads(cli(*RUN, *place, "--dry-run", "--json").out)
    assert plan["documents"] == {"train": 30, "validation": 24, "test": 20}
    assert plan["run"] == rows["run:"][1]
    assert list(tmp_path.iterdir()) == []


def test_a_result_for_a_person(cli: Callable[..., Any], tmp_path: Path) -> None:
    code, out, err = cli(*RUN, "--output_path", tmp_path)
    [directory] = find_runs(tmp_path)
    assert code == 0
    assert out.startswith("words / spy\n")
    assert "f1_macro (primary)" in out
    assert out.endswith(f"run: {directory}\n")
    noticed = "Data: the reader noticed: odd rows 1. Row ids: evalsuite validate --task words\n"
    asks = f"Next: evalsuite predict {directory} FILE -o OUT, or evalsuite report {directory} -o report.md\n"
    assert err == noticed + asks
    again = cli(*RUN, "--output_path", tmp_path)
    assert again.out == out
    assert again.err == noticed + "This run was complete already; --overwrite always runs it again.\n"


def test_a_result_for_a_script(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Nothing but JSON on stdout, with null for what is no number."""
    fresh = cli(*RUN, "--output_path", tmp_path, "--json").out
    read = cli(*RUN, "--output_path", tmp_path, "--json").out
    first = json.loads(fresh, parse_constant=pytest.fail)
    assert first == json.loads(read)
    assert first["facts"]["not_finite"] is None


def test_overwrite(cli: Callable[..., Any], tmp_path: Path) -> None:
    place = ("--output_path", tmp_path)
    assert cli(*RUN, *place).code == 0
    code, out, err = cli(*RUN, *place, "--overwrite", "never")
    assert (code, out) == (2, "")
    assert "is complete; use --overwrite missing to read it, always to replace it" in err
    assert "complete already" not in cli(*RUN, *place, "--overwrite", "always").err


def test_a_failed_reload_is_a_warning_on_the_terminal(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": False, "reason": "it forgot"})
    code, _, err = cli(*RUN, "--output_path", tmp_path)
    assert code == 0
    assert "warning: the reload check failed" in err
    assert "it forgot" in err


def test_the_config_of_a_run_runs_it_again(cli: Callable[..., Any], tmp_path: Path) -> None:
    cli(*RUN, "--output_path", tmp_path, "--bias", "0.5", "--limit", "0.5")
    [directory] = find_runs(tmp_path)
    code, out, err = cli("run", "--config", directory / "config.yaml")
    assert code == 0
    assert out.endswith(f"run: {directory}\n")
    assert "complete already" in err


def test_without_a_terminal_there_is_no_bar(cli: Callable[..., Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(console, "SECONDS_BEFORE_A_BAR", 0)
    assert "spying" not in cli(*RUN, "--output_path", tmp_path).err


@pytest.mark.parametrize(("threshold", "shown"), [(0.0, True), (60.0, False)])
def test_on_a_terminal_long_work_has_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float, shown: bool
) -> None:
    """With the rate; it is gone when the work is done. Work that ends soon has none."""
    reader, writer = pty.openpty()
    monkeypatch.setattr(console, "SECONDS_BEFORE_A_BAR", threshold)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with console.Bars().bar("spying", 4) as advance:
            for _ in range(4):
                advance(1)
        terminal.write("end")
        terminal.flush()
        drawn = ""
        while "end" not in drawn:
            drawn += os.read(reader, 65536).decode()
    os.close(reader)
    assert ("spying" in drawn) == shown
    assert ("docs/s" in drawn) == shown
    assert ("4/4" in drawn) == shown


def test_a_table_on_a_terminal_takes_data_as_it_is(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label in square brackets is no markup."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console.table(("label", "n"), [("[red]a[/red] [/x]", "1")], right=("n",))
    assert "[red]a[/red] [/x]" in capsys.readouterr().out


def test_an_error_is_red_on_a_terminal_only(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    console.error("what")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console.error("what")
    assert capsys.readouterr().err == "error: what\n\x1b[1;31merror:\x1b[0m what\n"
