"""References: scored as the run's own method is, one after another, and never two models in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite import runner
from evalsuite.cli.summary import print_result
from evalsuite.report.text import REFERENCE_COLUMNS, reference_rows

PLUGINS = [Path(__file__).parent / name for name in ("spy_plugin.py", "unlucky_plugin.py")]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
        folder = tmp_path_factory.mktemp("runs")
        yield evalsuite.run("words", "unlucky", plugins=PLUGINS, output_path=folder, compared=True)


def test_each_has_metrics_with_intervals_size_speed_and_ratios(compared: Any) -> None:
    results = compared.results
    equal, blind = results["references"]["equal"], results["references"]["blind"]
    assert list(results["references"]) == ["equal", "blind"]
    assert equal["metrics"] == results["metrics"]["summary"]
    assert equal["parameters"] == {"trainable": 1, "total": 25}
    assert blind["parameters"] == {"trainable": None, "total": None}
    own = results["cost"]["predict"]["documents_per_second"]
    assert equal["ratios"] == {
        "primary": 1,
        "speed": pytest.approx(own / equal["documents_per_second"]),
        "total_parameters": 2,
    }
    value = compared.metrics["f1_macro"]["value"]
    assert blind["ratios"]["primary"] == pytest.approx(value / blind["metrics"]["f1_macro"]["value"])
    assert blind["ratios"]["total_parameters"] is None


def test_never_two_in_memory_and_the_same_documents_for_all(compared: Any) -> None:
    lines = (compared.directory / "events.jsonl").read_text(encoding="utf-8").splitlines()
    told = [(e["name"], e.get("documents", e["event"]), e["others"]) for e in map(json.loads, lines)]
    own = [("own", "made", 0), ("own", "fit", 0), ("own", 24, 0), ("own", 20, 0), ("own", 20, 0)]
    assert told == own + [(name, what, 0) for name in ("equal", "blind") for what in ("made", 24, 20)]


def test_their_time_is_counted_apart(compared: Any) -> None:
    cost = compared.results["cost"]
    assert list(cost)[:5] == ["train", "calibrate", "predict", "references", "reload_check"]
    assert (cost["predict"]["documents"], cost["references"]["documents"]) == (20, 40)


def test_they_stand_on_the_terminal_and_in_the_card(compared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = reference_rows(compared.results)
    assert [row[0] for row in rows] == ["this run", "equal", "blind"]
    assert {len(row) for row in rows} == {len(REFERENCE_COLUMNS)}
    assert rows[1][-1].startswith("f1_macro 1, speed ")
    assert rows[1][-1].endswith(", parameters 2")
    print_result(compared)
    printed = capsys.readouterr().out
    card = (compared.directory / "README.md").read_text(encoding="utf-8")
    assert "## Compared with" in card
    assert f"| equal | {rows[1][1]} | {rows[1][2]} | 25 |" in card
    assert "blind" in printed


def test_without_references_there_is_nothing_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
    for method in ("unlucky", "majority"):
        result = evalsuite.run("words", method, plugins=PLUGINS, output_path=tmp_path)
        assert result.results["references"] == {}
        assert "references" not in result.results["cost"]
        assert reference_rows(result.results) == []
        assert "Compared with" not in (result.directory / "README.md").read_text(encoding="utf-8")
