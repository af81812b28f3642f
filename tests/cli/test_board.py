"""What a person sees while a sweep runs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from evalsuite.cli import board
from evalsuite.cli.board import _LiveTable, newest_line
from evalsuite.engines.local import Finished
from evalsuite.sweep import Cell

RESULTS = {"primary_metric": "f1_macro", "metrics": {"summary": {"f1_macro": {"value": 0.51239}}}}


def table(cells: list[Cell], height: int = 30) -> tuple[_LiveTable, Any]:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=height, color_system=None)
    shown = _LiveTable("sweep s", cells, Live(console=console, auto_refresh=False))

    def lines() -> list[str]:
        with console.capture() as captured:
            console.print(shown._table())
        return [line.strip() for line in captured.get().splitlines() if line.strip()]

    return shown, lines


def cells(count: int) -> list[Cell]:
    return [Cell({"seed": seed}, {"seed": seed}) for seed in range(count)]


def test_every_cell_has_its_state_its_time_and_its_result(tmp_path: Path, monkeypatch: Any) -> None:
    now = 100.0
    monkeypatch.setattr(board.time, "monotonic", lambda: now)
    shown, lines = table(cells(5))
    log = tmp_path / "log"
    log.write_text("first\n\x1b[31mnewest [bold]\x1b[0m\n\n", encoding="utf-8")
    shown.started(cells(5)[1], log)
    now += 75
    shown.finished(Finished(cells(5)[0], "there", RESULTS))
    shown.finished(Finished(cells(5)[2], "done", RESULTS, 3725.0))
    shown.finished(Finished(cells(5)[3], "failed", None, 2.0, "error: no [memory]"))
    title, head, _, *rows, counts = lines()
    assert title == "sweep s"
    assert head.split() == ["cell", "state", "time", "result"]
    assert [row.split() for row in rows] == [
        ["seed=0", "complete", "before", "f1_macro", "0.5124"],
        ["seed=1", "running", "1:15", "[31mnewest", "[bold][0m"],
        ["seed=2", "done", "1:02:05", "f1_macro", "0.5124"],
        ["seed=3", "failed", "0:02", "error:", "no", "[memory]"],
        ["seed=4", "waiting"],
    ]
    assert counts == "1 waiting, 1 running, 1 done, 1 complete before, 1 failed"


def test_where_not_all_fit_those_that_run_or_failed_are_shown(tmp_path: Path) -> None:
    shown, lines = table(cells(1000), height=10)
    for seed in range(500):
        shown.finished(
            Finished(cells(seed + 1)[seed], "done" if seed != 7 else "failed", RESULTS if seed != 7 else None)
        )
    shown.started(cells(701)[700], tmp_path / "none")
    rows = lines()
    assert [row.split()[0] for row in rows[3:-1]] == ["seed=0", "seed=1", "seed=7", "seed=700"]
    assert rows[-1] == "499 waiting, 1 running, 499 done, 1 failed; 996 not shown"


def test_the_newest_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert newest_line(log) == ""
    log.write_text("", encoding="utf-8")
    assert newest_line(log) == ""
    log.write_text("x" * 9000 + "\nlast one\n \n", encoding="utf-8")
    assert newest_line(log) == "last one"
