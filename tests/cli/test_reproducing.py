"""``reproduce``: what it would run, what it prints, and a real rehearsal of one cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalsuite.cli import reproducing
from evalsuite.reproduce import running
from evalsuite.reproduce.grid import Plan, Request, make_plan
from evalsuite.reproduce.rendering import LABEL
from evalsuite.reproduce.table import Findings, Problem, key


def test_a_dry_run_of_the_rehearsal_is_labelled_and_runs_nothing(cli: Callable[..., Any], tmp_path: Path) -> None:
    code, out, _ = cli("reproduce", "paper", "--dry_run", "--encoder", "x/y", "--output_path", tmp_path / "runs")
    first, head, *rows = out.splitlines()
    assert (code, first) == (0, LABEL)
    assert head.split() == ["corpus", "options", "model", "cells"]
    assert len(rows) == 28
    assert rows[0].split() == [
        "clv",
        "method=embedding",
        "pooling=last",
        "meta-llama/Llama-3.2-3B",
        "1",
        "with",
        "bundled",
    ]
    assert [row for row in rows if "not run" in row] == [row for row in rows if "  hosted  " in row] != []
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_at_the_papers_scale_tells_what_is_missing(cli: Callable[..., Any]) -> None:
    out = cli("reproduce", "paper", "--scale", "paper", "--dry_run", "--json", "--data", "clv=patents.csv").out
    data = json.loads(out)
    assert data["label"] is None
    absent = {entry["corpus"]: entry["absent"] for entry in data["entries"]}
    assert "on request" in absent["wipo"]
    assert absent["ag_news"] is None
    (cell,) = data["entries"][0]["cells"]
    assert (cell["model"], cell["task.data"], cell["preset"]) == ("meta-llama/Llama-3.2-3B", "patents.csv", "paper")


def test_a_dry_run_finds_options_that_do_not_fit(cli: Callable[..., Any]) -> None:
    code, _, err = cli("reproduce", "paper", "--dry_run", "--set", "embedding.lora_rr=4")
    assert (code, err.count("\n")) == (2, 1)
    assert "lora_r" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["papers"], "unknown paper 'papers'"),
        (["paper", "--scale", "papr"], "did you mean"),
        (["paper", "--only", "wpio"], "unknown corpus 'wpio'"),
        (["paper", "--scale", "paper", "--encoder", "x"], "--encoder is for --scale small"),
        (["paper", "--data", "clv"], "--data 'clv': expected a name, ="),
        (["paper", "--model", "hosted="], "--model 'hosted=': expected a name, ="),
    ],
)
def test_requests_that_make_no_sense(cli: Callable[..., Any], arguments: list[str], words: str) -> None:
    code, _, err = cli("reproduce", *arguments, "--dry_run")
    assert code == 2
    assert words in err


def test_rows_without_a_run_are_no_failure(cli: Callable[..., Any], tmp_path: Path) -> None:
    where = ["--output_path", tmp_path, "--table_only"]
    code, out, err = cli("reproduce", "paper", "--scale", "paper", *where, "--tolerance", "0.01")
    assert code == 0
    assert "not run: the corpus is proprietary" in out
    assert LABEL not in out + err
    code, out, _ = cli("reproduce", "paper", *where, "--only", "ag_news", "--encoder", "x/y", "--markdown")
    assert (code, out.splitlines()[0]) == (0, f"**{LABEL}**")
    command = (
        f"evalsuite reproduce paper --scale small --only ag_news --encoder x/y --output_path {tmp_path} --table_only"
    )
    assert f"`{command} --markdown`" in out
    data = json.loads(cli("reproduce", "paper", *where, "--only", "wipo", "--json").out)
    assert {row["state"] for row in data["rows"]} == {"not run"}
    assert {row["corpus"] for row in data["rows"]} == {"wipo"}


def test_failed_cells_are_named_after_the_table(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_plan(registry: Any, plan: Any, jobs: int, report: Any) -> Findings:
        (cell,) = plan.cells(plan.paper.systems["clv-embedding"])
        return Findings(plan, {}, {key(cell): Problem(True, "error: no memory", Path("cells/x.log"))})

    monkeypatch.setattr(running, "run_plan", run_plan)
    code, out, err = cli("reproduce", "paper", "--only", "clv", "--output_path", tmp_path)
    assert code == 1
    assert "failed: error: no memory (cells/x.log)" in out
    assert err.splitlines()[-2:] == [
        "failed: error: no memory (cells/x.log)",
        "error: 1 cells failed; the same command tries them again",
    ]


def test_a_real_rehearsal_of_one_cell(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_zero_shot(request: Request) -> Plan:
        plan = make_plan(request)
        clv, cells = plan.grids["clv"], plan.cells(plan.paper.systems["clv-zero-shot"])
        return replace(plan, grids={"clv": replace(clv, sweep=replace(clv.sweep, cells=tuple(cells)))})

    monkeypatch.setattr(reproducing, "make_plan", only_zero_shot)
    command = ["reproduce", "paper", "--only", "clv", "--output_path", tmp_path, "--set", "limit=20"]
    code, out, err = cli(*command, "--tolerance", "0.01")
    assert code == 0
    assert out.splitlines()[0] == err.splitlines()[0] == LABEL
    assert "[1/1] clv method=zero_shot model=bundled: in " in err
    (row,) = [line for line in out.splitlines() if "zero-shot  " in line and "  F1 " in line]
    assert row.endswith("  rehearsal with bundled")
    assert "  0.21  " in row
    data = json.loads(cli(*command, "--json").out)
    (entry,) = [row for row in data["rows"] if (row["system"], row["quantity"]) == ("clv-zero-shot", "f1")]
    assert (data["label"], entry["state"], entry["difference"], entry["within"]) == (LABEL, "rehearsal", None, None)
    assert set(entry["ours"]) == {"micro", "macro", "weighted"}
    assert "complete before" in cli(*command).err
