"""``evalsuite compare`` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import one_hot, samples_of, write_run

from evalsuite.store import RESULTS

Cli = Callable[..., Any]
N = 150
GOLD = np.arange(N) % 3


def write(folder: Path, method: str, seed: int, share: float, **parts: Any) -> Path:
    dice = np.random.default_rng([seed, len(method)])
    predicted = np.where(dice.random(N) < share, GOLD, (GOLD + 1) % 3)
    return write_run(folder, samples_of(one_hot(GOLD), one_hot(predicted)), seed, method, **parts)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three seeds of a good system and of a poor one, one run of a third."""
    for seed in range(3):
        write(tmp_path, "good", seed, 0.95)
        write(tmp_path, "poor", seed, 0.5)
    write(tmp_path, "single", 0, 0.9, options={"model": "[bold]x"})
    return tmp_path


def test_the_answer_is_a_leaderboard_pairs_and_sentences(cli: Cli, runs: Path) -> None:
    code, out, err = cli("compare", runs, "--resamples", 500, "--output_path", runs)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "words: f1_macro on 150 test documents"
    assert [line.split()[:3] for line in lines[2:5]] == [["1", "good", "3"], ["2", "single", "1"], ["3", "poor", "3"]]
    assert "7 finished runs have scored these documents: the best of many is partly luck." in lines
    assert "Warning: Numbers of seeds differ: 3 for good, poor; 1 for single." in lines
    assert any(line.startswith("1 - 3 ") and line.endswith("certified") for line in lines)
    assert any(line.startswith("good is ") and line.endswith("certified at 5%.") for line in lines)
    assert max(map(len, out.split("\n\n")[0].splitlines())) <= 120
    assert "McNemar: exact p, Holm's over all pairs and seeds; it tests accuracy." in lines


def test_json_has_every_number_and_nothing_else(cli: Cli, runs: Path) -> None:
    code, out, _ = cli(
        "compare", runs, "--json", "--per_label", "--resamples", 200, "--alpha", 0.01, "--output_path", runs
    )
    assert code == 0
    data = json.loads(out)
    (comparison,) = data["comparisons"]
    assert data["ranks"] is None
    assert comparison["settings"]["alpha"] == 0.01
    assert [system["title"] for system in comparison["systems"]] == ["good", "single", "poor"]
    assert comparison["systems"][0]["seeds"] == [0, 1, 2]
    assert comparison["systems"][0]["cost"]["train"] == 11.0
    pair = next(pair for pair in comparison["pairs"] if pair["second"] == "poor" and pair["first"] == "good")
    assert pair["difference"] == pytest.approx(comparison["systems"][0]["mean"] - comparison["systems"][2]["mean"])
    assert [test["seed"] for test in pair["mcnemar"]] == [0, 1, 2]
    assert len(pair["by_label"]) == 9
    assert {test["label"] for test in pair["by_label"]} == {"a", "b", "c"}


def test_the_same_seed_prints_the_same(cli: Cli, runs: Path) -> None:
    first, again, other = (
        cli("compare", runs, "--json", "--resamples", 200, "--seed", seed, "--output_path", runs).out
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_markdown_says_what_printed_it_and_escapes(cli: Cli, runs: Path) -> None:
    out = cli("compare", runs, "method=good,single", "--markdown", "--mcnemar", "--resamples", 200).out
    command = f"evalsuite compare {runs} method=good,single --mcnemar --resamples 200 --markdown"
    heading = f"Printed by `{command}`.\n\nwords: f1_macro on 150 test documents\n\n| # | system | seeds | f1_macro |"
    assert out.startswith(heading)
    assert "| pair | seed | first alone right |" in out
    assert "\n- good is " in out


def test_titles_are_no_markup(cli: Cli, tmp_path: Path) -> None:
    for model in ("[bold]x", "[red]y"):
        write(tmp_path, "net", 0, 0.9, options={"model": model})
    out = cli("compare", tmp_path, "--resamples", 100).out
    assert "[bold]x" in out
    assert "\\[bold\\]x" in cli("compare", tmp_path, "--resamples", 100, "--markdown").out


def test_per_label_prints_what_the_correction_leaves(cli: Cli, runs: Path) -> None:
    out = cli("compare", runs, "method=good,poor", "--per_label", "--resamples", 100).out
    assert "McNemar's test label by label: 9 of 9 tests, those with Holm's exact p of at most 0.05" in out
    assert "pair   label  seed" in out


def test_several_tasks_are_several_comparisons(cli: Cli, tmp_path: Path) -> None:
    for place in range(6):
        for method, share in (("one", 0.95), ("three", 0.8), ("second", 0.6)):
            write(tmp_path, method, 0, share, task=f"task{place}")
    out = cli("compare", tmp_path, "--resamples", 100, "--ranks").out
    assert [f"task{place}: f1_macro on" in out for place in range(6)] == [True] * 6
    assert "Mean ranks over 6 tasks, 1 is best; ranks that differ by more than 1.35 differ at 5% (Nemenyi)" in out
    data = json.loads(cli("compare", tmp_path, "--resamples", 100, "--ranks", "--json").out)
    assert data["ranks"]["systems"] == ["one", "three", "second"]


def test_ranks_of_too_few_tasks_are_refused(cli: Cli, runs: Path) -> None:
    code, out, err = cli("compare", runs, "--ranks", "--resamples", 100)
    assert (code, out) == (2, "")
    assert err.startswith("error: ranks over 1 tasks (words) tell nothing, at least 6 are needed")


def test_trials_on_validation_and_older_runs_are_left_out_and_told(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, "one", 0, 0.9)
    write(tmp_path, "two", 0, 0.8)
    write(tmp_path, "two", 0, 0.7, split="validation", options={"rank": 4})
    write(tmp_path / "older", "two", 0, 0.7, finished="2025-01-01T00:00:00")
    code, out, err = cli("compare", tmp_path, "--resamples", 100)
    assert code == 0
    assert "trials scored on validation, left out: 1" in err
    assert "older runs of the same options and seed, left out: 1" in err
    assert [line[:5] for line in out.splitlines() if line.endswith("certified")] == ["1 - 2"]


def test_runs_that_scored_other_documents_are_refused(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, "one", 0, 0.9)
    write_run(tmp_path, samples_of(one_hot(GOLD[:50]), one_hot(GOLD[:50])), 0, "few", options={"limit": 50})
    code, _, err = cli("compare", tmp_path)
    assert code == 2
    assert "cannot be compared: they scored other documents (50 and 150)" in err
    assert err.count("\n") == 1


def test_a_run_edited_by_hand_is_refused(cli: Cli, runs: Path) -> None:
    path = next(runs.rglob(RESULTS))
    path.write_text(path.read_text(encoding="utf-8").replace("12345", "54321"), encoding="utf-8")
    code, _, err = cli("compare", runs)
    assert code == 6
    assert "was changed after the run (hash differs); run it again with --overwrite always" in err


@pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "5"])
def test_an_error_rate_that_is_none(cli: Cli, runs: Path, alpha: str) -> None:
    code, _, err = cli("compare", runs, "--alpha", alpha)
    assert code == 2
    assert "is no error rate; expected one between 0 and 0.5, such as 0.05" in err
