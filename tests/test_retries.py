"""Attempts: again with another seed only where asked, all of them told and paid for, and resumed where they stopped."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite import attempts, runner
from evalsuite.attempts import attempt_seed
from evalsuite.errors import Interrupted, OptionError, UsageError
from evalsuite.store import write_json

PLUGINS = [Path(__file__).parent / name for name in ("spy_plugin.py", "unlucky_plugin.py")]
SECOND, THIRD = attempt_seed(0, 1), attempt_seed(0, 2)
pytestmark = pytest.mark.usefixtures("few_resamples", "no_reload")


@pytest.fixture
def no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})


def run(folder: Path, method: str = "unlucky", **options: Any) -> evalsuite.RunResult:
    return evalsuite.run("words", method, plugins=PLUGINS, output_path=folder, **options)


def events(directory: Path, event: str) -> list[dict[str, Any]]:
    lines = (directory / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def timeless(results: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in results["attempts"]]


def test_a_collapse_is_told_and_nothing_is_tried_again_unasked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "evalsuite"):
        result = run(tmp_path, bad_seeds=[0])
    collapse = result.results["collapse"]
    assert (collapse["collapsed"], collapse["share"], collapse["documents"]) == (True, 1, 24)
    assert collapse["f1_macro"] == pytest.approx(collapse["majority_f1_macro"])
    [notice] = [line for line in result.results["notices"] if line.startswith("Collapse: training has failed: ")]
    assert "one answer is given to 100.0% of 24 validation documents" in notice
    assert notice in [record.getMessage() for record in caplog.records]
    assert "Collapse: training has failed" in (result.directory / "README.md").read_text(encoding="utf-8")
    assert [entry["seed"] for entry in result.results["attempts"]] == [0]


def test_a_training_that_succeeded_is_not_repeated(tmp_path: Path) -> None:
    results = run(tmp_path, retries=3).results
    assert (results["collapse"]["collapsed"], results["collapse"]["reasons"]) == (False, [])
    assert len(results["attempts"]) == 1
    assert not [line for line in results["notices"] if line.startswith(("Collapse", "Retries"))]


def test_a_collapsed_training_is_repeated_with_other_seeds_until_one_succeeds(tmp_path: Path) -> None:
    result = run(tmp_path, bad_seeds=[0, SECOND], retries=5)
    results = result.results
    assert results["seed"] == 0
    assert [(entry["seed"], entry["collapsed"]) for entry in results["attempts"]] == [
        (0, True),
        (SECOND, True),
        (THIRD, False),
    ]
    assert results["facts"]["fitted"] == results["config"]["torch_seed"] == THIRD
    assert results["config"]["fewshot_seed"] == 0
    assert results["collapse"]["collapsed"] is False
    assert results["collapse"]["f1_macro"] == results["attempts"][-1]["f1_macro"] > 0.5
    assert result.metrics["f1_macro"]["value"] > 0.5
    told = f"Retries: training has failed with seed 0, {SECOND}; this is what came of seed {THIRD}."
    assert told in results["notices"]
    assert f"trained with {THIRD} in the end" in (result.directory / "README.md").read_text(encoding="utf-8")


def test_every_attempt_is_paid_for(tmp_path: Path) -> None:
    results = run(tmp_path, bad_seeds=[0, SECOND], retries=5).results
    train, calibrate = results["cost"]["train"], results["cost"]["calibrate"]
    assert (train["documents"], train["tokens"], calibrate["documents"]) == (90, 300, 72)
    assert train["seconds"] == pytest.approx(sum(entry["train_seconds"] for entry in results["attempts"]))
    assert calibrate["seconds"] == pytest.approx(sum(entry["calibrate_seconds"] for entry in results["attempts"]))


def test_a_method_leaves_the_memory_before_the_next_is_built(tmp_path: Path) -> None:
    made = events(run(tmp_path, bad_seeds=[0, SECOND], retries=5).directory, "made")
    assert [(entry["seed"], entry["others"]) for entry in made] == [(0, 0), (SECOND, 0), (THIRD, 0)]


def test_no_attempt_starts_from_another_ones_checkpoint(tmp_path: Path) -> None:
    fits = events(run(tmp_path, bad_seeds=[0, SECOND], retries=5).directory, "fit")
    assert [entry["resumed"] for entry in fits] == [None, None, None]


def test_at_most_as_often_as_asked_and_the_last_is_kept(tmp_path: Path) -> None:
    results = run(tmp_path, bad_seeds=[0, SECOND, THIRD], retries=1).results
    assert [entry["seed"] for entry in results["attempts"]] == [0, SECOND]
    assert results["facts"]["fitted"] == SECOND
    assert results["collapse"]["collapsed"] is True
    assert any(line.startswith("Collapse: training has failed in all 2 attempts: ") for line in results["notices"])


def test_a_run_stopped_in_its_second_attempt_goes_on_there(tmp_path: Path) -> None:
    options = {"bad_seeds": [0], "retries": 2}
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", **options, stop_in_seed=SECOND)
    [partial] = (tmp_path / "stopped").rglob("*.partial")
    assert [entry["seed"] for entry in json.loads((partial / "attempts.json").read_text())] == [0]
    resumed = run(tmp_path / "stopped", **options, stop_in_seed=SECOND)
    whole = run(tmp_path / "whole", **options)
    assert [(entry["seed"], entry["resumed"]) for entry in events(resumed.directory, "fit")] == [
        (0, None),
        (SECOND, None),
        (SECOND, SECOND),
    ]
    assert timeless(resumed.results) == timeless(whole.results)
    assert resumed.metrics == whole.metrics
    assert resumed.results["cost"]["train"]["documents"] == 60
    assert not (resumed.directory / "attempts.json").exists()
    assert not (resumed.directory / "checkpoints").exists()


def test_killed_between_two_attempts_the_first_is_repeated_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"bad_seeds": [0], "retries": 1}

    def kill(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attempts, "write_json", kill)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **options)
    monkeypatch.setattr(attempts, "write_json", write_json)
    result = run(tmp_path, **options)
    fits = [(entry["seed"], entry["resumed"]) for entry in events(result.directory, "fit")]
    assert fits == [(0, None), (0, None), (SECOND, None)]
    assert [entry["seed"] for entry in result.results["attempts"]] == [0, SECOND]


def test_the_same_request_gives_the_same_attempts_and_numbers(tmp_path: Path) -> None:
    one, two = (run(tmp_path / name, bad_seeds=[0], retries=1) for name in "ab")
    assert timeless(one.results) == timeless(two.results)
    assert (one.metrics, one.results["run_id"]) == (two.metrics, two.results["run_id"])


def test_where_nobody_can_tell_nothing_is_repeated(tmp_path: Path) -> None:
    few = run(tmp_path, bad_seeds=[0], retries=2, task_options={"validation": 19}).results
    none = run(tmp_path, bad_seeds=[0], retries=2, task_options={"validation": 0}).results
    floor = run(tmp_path, "majority", retries=2).results
    for results, reason in [
        (few, "19 validation documents are too few to tell (at least 20)"),
        (none, "there are no validation documents"),
        (floor, "the method is not trained"),
    ]:
        assert (results["collapse"]["collapsed"], results["collapse"]["reasons"]) == (None, [reason])
        assert [(entry["collapsed"], entry["f1_macro"]) for entry in results["attempts"]] == [(None, None)]


def test_under_a_launcher_retries_are_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--retries 1 works in one process, WORLD_SIZE is 2; leave --retries away"):
        run(tmp_path / "runs", retries=1)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run(tmp_path / "runs", retries=1).fresh


def test_a_negative_number_of_retries_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--retries -1 must be 0 or more"):
        run(tmp_path, retries=-1)


def test_seeds_of_attempts_are_no_other_runs_seeds() -> None:
    seeds = {attempt_seed(seed, number) for seed in range(20) for number in range(4)}
    assert len(seeds) == 80
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert [attempt_seed(seed, 0) for seed in range(3)] == [0, 1, 2]
