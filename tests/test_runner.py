"""One run, top to bottom, with a method that reports what it was given."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import evalsuite
from evalsuite import runner, scoring
from evalsuite.attempts import CHECKPOINTS
from evalsuite.contracts import Example
from evalsuite.errors import StoreError, UsageError
from evalsuite.samples import read_samples
from evalsuite.store import find_runs, open_run

SPY = Path(__file__).parent / "spy_plugin.py"
MARKER = "zxqv"
pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture
def no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check costs a process; its own tests are in test_reload."""
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})


def run(folder: Path, task: str = "words", method: str = "spy", **options: Any) -> evalsuite.RunResult:
    return evalsuite.run(task, method, plugins=[SPY, *options.pop("more", [])], output_path=folder, **options)


def ids(split: str, count: int) -> list[str]:
    return [f"{split}-{row}" for row in range(count)]


def write(path: Path, source: str) -> Path:
    path.write_text(source, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> evalsuite.RunResult:
    return run(tmp_path_factory.mktemp("finished"), bias=0.25, seed=3)


def test_a_run_is_complete_and_reads_back_as_it_was_returned(finished: evalsuite.RunResult) -> None:
    read = open_run(finished.directory, verify=True)
    assert read.results == finished.results
    assert (finished.fresh, read.fresh) == (True, False)
    assert finished.results["facts"]["array"] == [0, 1, 2]
    assert finished.results["facts"]["not_finite"] is None


def test_the_directory_holds_what_the_guide_says(finished: evalsuite.RunResult) -> None:
    names = {path.name for path in finished.directory.iterdir()}
    told = "results.json samples_words.jsonl config.yaml task.json environment.json log.txt README.md COMPLETE"
    assert names == {*told.split(), "spy.json"}
    assert "odd rows" in (finished.directory / "log.txt").read_text(encoding="utf-8")


def test_fit_sees_train_and_validation_and_nothing_of_test(finished: evalsuite.RunResult) -> None:
    facts = finished.results["facts"]
    assert facts["fitted_on"] == ids("train", 30)
    assert facts["stopped_on"] == ids("validation", 24)


def test_the_phases_come_in_their_order(finished: evalsuite.RunResult) -> None:
    costs = finished.results["cost"].items()
    phases = {name: cost["documents"] for name, cost in costs if cost and "documents" in cost}
    assert list(phases.items()) == [("train", 30), ("calibrate", 24), ("predict", 20), ("reload_check", 0)]
    assert finished.results["facts"]["predicted_counts"][:2] == [24, 20]


def test_the_table_agrees_with_the_metrics(finished: evalsuite.RunResult) -> None:
    table = read_samples(finished.directory, finished.results["labels"])
    assert table.ids == tuple(ids("test", 20))
    assert finished.metrics["accuracy"]["value"] == np.mean((table.gold == table.predicted).all(axis=1))
    assert finished.results["metrics"]["counts"]["documents"] == 20
    assert table.probabilities is not None
    np.testing.assert_allclose(table.probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_saved_request_runs_the_same_again(finished: evalsuite.RunResult, tmp_path: Path) -> None:
    """With its plugins, which it names itself."""
    config = finished.directory / "config.yaml"
    assert evalsuite.run(config=config).fresh is False
    again = evalsuite.run(config=config, output_path=tmp_path)
    assert again.fresh
    assert again.results["run_id"] == finished.results["run_id"]
    assert again.metrics == finished.metrics
    assert again.results["facts"]["noise"] == finished.results["facts"]["noise"]


@pytest.mark.usefixtures("no_reload")
def test_the_seed_is_set_before_the_method_is_built(tmp_path: Path, finished: evalsuite.RunResult) -> None:
    np.random.seed(0)
    same, other = run(tmp_path, bias=0.5, seed=3), run(tmp_path, bias=0.5, seed=4)
    assert same.results["facts"]["noise"] == finished.results["facts"]["noise"]
    assert other.results["facts"]["noise"] != finished.results["facts"]["noise"]


@pytest.mark.usefixtures("no_reload")
def test_gold_of_the_test_split_never_reaches_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``predict`` takes texts alone, so it is enough that nothing else is handed over: fit, and the context."""
    import inspect

    from evalsuite.contracts import Method

    assert list(inspect.signature(Method.predict).parameters) == ["self", "texts"]
    handed: list[Any] = []
    original = runner.make_context
    monkeypatch.setattr(runner, "make_context", lambda *given: handed.append(original(*given)) or handed[0])
    run(tmp_path)
    held = [value for value in vars(handed[0]).values() if isinstance(value, tuple | list | dict)]
    assert not any(isinstance(inner, Example) for value in held for inner in value)


@pytest.mark.usefixtures("no_reload")
def test_the_decision_is_fitted_on_validation_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[tuple[int, ...]] = []
    original = scoring.fit_decision

    def watch(scores: Any, gold: Any, **options: Any) -> Any:
        fitted.append(gold.shape)
        return original(scores, gold, **options)

    monkeypatch.setattr(scoring, "fit_decision", watch)
    few, many = run(tmp_path), run(tmp_path, task_options={"validation": 600})
    stopping = set(many.results["facts"]["stopped_on"])
    assert fitted == [(24, 3), (600 - len(stopping), 3)]
    assert few.results["facts"]["stopped_on"] == ids("validation", 24)
    assert many.results["decision"]["temperature"] != 1
    assert 200 < len(stopping) < 400


@pytest.mark.usefixtures("no_reload")
def test_without_validation_nothing_is_calibrated(tmp_path: Path) -> None:
    result = run(tmp_path, task_options={"validation": 0})
    assert result.results["decision"]["temperature"] == 1
    assert "no validation documents" in result.results["decision"]["notes"][0]
    assert result.metrics["ece"]["value"] is not None


@pytest.mark.usefixtures("no_reload")
def test_without_logits_probabilities_are_null_with_a_reason(tmp_path: Path) -> None:
    result = run(tmp_path, logits=False)
    for name in ("ece", "brier", "nll"):
        assert (result.metrics[name]["value"], result.metrics[name]["interval"]) == (None, None)
        assert result.metrics[name]["reason"] == "the method gives no probabilities"
    assert "no logits" in result.results["decision"]["notes"][0]
    assert read_samples(result.directory, result.results["labels"]).probabilities is None
    assert result.metrics["accuracy"]["value"] > 0.5


@pytest.mark.usefixtures("no_reload")
@pytest.mark.parametrize("logits", [True, False])
def test_failed_is_not_wrong_and_invalid_is(tmp_path: Path, logits: bool) -> None:
    clean = run(tmp_path, logits=logits)
    mixed = run(tmp_path, logits=logits, states=["ok", "failed", "ok", "invalid"])
    counts = mixed.results["metrics"]["counts"]
    assert (counts["documents"], counts["failed"], counts["invalid"]) == (20, 5, 5)
    assert mixed.metrics["failed_rate"]["value"] == 0.25
    assert mixed.metrics["invalid_rate"]["value"] == pytest.approx(5 / 15)
    rows = read_samples(mixed.directory, mixed.results["labels"])
    right = (rows.gold == rows.predicted).all(axis=1)
    answered = np.array([state != "failed" for state in rows.status])
    assert mixed.metrics["accuracy"]["value"] == pytest.approx(right[answered].sum() / 15)
    assert not rows.predicted[[state != "ok" for state in rows.status]].any()
    assert clean.metrics["failed_rate"]["value"] == 0


@pytest.mark.usefixtures("no_reload")
def test_a_run_without_some_answers_says_that_it_is_incomplete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = run(tmp_path, states=["ok", "invalid"])
    caplog.clear()
    with caplog.at_level(logging.WARNING, "evalsuite"):
        partly = run(tmp_path, states=["ok", "failed", "ok", "ok"])
    told = (
        "Incomplete: 5 of 20 documents have no answer and count nowhere. "
        "The same command with --overwrite always asks for what is missing, and for that only."
    )
    assert (clean.results["incomplete"], partly.results["incomplete"]) == (False, True)
    assert told in partly.results["notices"]
    assert told in [record.getMessage() for record in caplog.records]
    assert not any(line.startswith("Incomplete") for line in clean.results["notices"])


@pytest.mark.usefixtures("no_reload")
def test_when_nothing_was_answered_every_metric_is_null(tmp_path: Path) -> None:
    result = run(tmp_path, states=["failed"])
    assert result.metrics["failed_rate"]["value"] == 1
    assert result.metrics["accuracy"]["value"] is None
    assert result.metrics["accuracy"]["reason"] == "no document was answered"


@pytest.mark.usefixtures("no_reload")
def test_a_multilabel_run(tmp_path: Path) -> None:
    result = run(tmp_path, task="tags")
    assert result.results["multilabel"] is True
    assert len(result.results["decision"]["thresholds"]) == 1
    rows = [json.loads(line) for line in (result.directory / "samples_tags.jsonl").read_text().splitlines()]
    assert {len(row["target"]) for row in rows} == {0, 1, 2}
    assert 0.4 < result.metrics["accuracy"]["value"] < 1


@pytest.mark.usefixtures("no_reload")
def test_a_plugins_metric_is_reported_and_may_be_the_primary_one(tmp_path: Path) -> None:
    result = run(tmp_path, task="odd")
    assert result.results["primary_metric"] == "hit_any"
    assert 0 < result.metrics["hit_any"]["value"] <= 1
    assert result.results["higher_is_better"]["odd"]["hit_any"] is True
    assert result.results["higher_is_better"]["odd"]["f1_wrong"] is False
    card = (result.directory / "README.md").read_text(encoding="utf-8")
    assert "| hit_any (primary) |" in card
    assert "| f1_wrong |" in card


@pytest.mark.usefixtures("no_reload")
def test_a_plugins_metric_can_stop_training(tmp_path: Path) -> None:
    from evalsuite.config import resolve
    from evalsuite.opening import make_context
    from evalsuite.preparation import prepare
    from evalsuite.progress import Silent
    from evalsuite.registry import build_registry

    registry = build_registry([SPY])
    prepared = prepare(registry, *resolve(registry, {"task": "odd", "method": "spy"}))
    context = make_context(prepared.request, registry, tmp_path, Silent(), "cpu")
    assert context.primary_metric is not None
    scores = evalsuite.Scores(predicted=scoring.one_hot(prepared.splits.test, 3))
    assert context.primary_metric(scores, prepared.splits.test) == 1


@pytest.mark.usefixtures("no_reload")
def test_plugins_hear_of_a_run_once_it_is_complete(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = tmp_path / "heard.txt"
    source = f"""
from evalsuite.store import open_run
def evalsuite_run_finished(result):
    assert open_run(result.directory, verify=True).results == result.results
    with open({str(heard)!r}, "a") as stream:
        stream.write(str(result.directory) + "\\n")
"""
    broken = write(tmp_path / "broken.py", "def evalsuite_run_finished(result): raise OSError('no mail server')")
    listener = write(tmp_path / "listener.py", source)
    with caplog.at_level(logging.WARNING, "evalsuite"):
        result = run(tmp_path / "runs", more=[broken, listener])
        run(tmp_path / "runs", more=[broken, listener])
    assert heard.read_text().splitlines() == [str(result.directory)]
    assert [record.getMessage() for record in caplog.records] == [
        f"plugin {broken}: evalsuite_run_finished failed, the run itself is complete: OSError: no mail server"
    ]


@pytest.mark.usefixtures("no_reload")
@pytest.mark.parametrize("place", ["fit", "predict", "save"])
def test_a_method_that_raises_leaves_no_run(tmp_path: Path, place: str) -> None:
    with pytest.raises(RuntimeError, match=f"broken in {place}"):
        run(tmp_path, break_in=place)
    assert find_runs(tmp_path) == []
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent.name.endswith(".partial") for path in left)
    assert not [path.name for path in left if path.name in ("results.json", "README.md", "COMPLETE")]


@pytest.mark.usefixtures("no_reload")
def test_overwrite(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert run(tmp_path).fresh is False
    with pytest.raises(UsageError, match="is complete; use --overwrite missing to read it, always to replace it"):
        run(tmp_path, overwrite="never")
    (first.directory / "log.txt").unlink()
    with pytest.raises(StoreError, match="run it again with --overwrite always"):
        run(tmp_path)
    again = run(tmp_path, overwrite="always")
    assert (again.fresh, again.directory) == (True, first.directory)
    assert open_run(first.directory, verify=True).results == again.results


@pytest.mark.usefixtures("no_reload")
def test_a_second_run_that_fails_leaves_the_first_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no space for a card")

    monkeypatch.setattr(runner, "write_card", fail)
    with pytest.raises(RuntimeError, match="no space for a card"):
        run(tmp_path, overwrite="always")
    assert open_run(first.directory, verify=True).results == first.results


@pytest.mark.usefixtures("no_reload")
def test_checkpoints_go_when_the_run_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = runner._score

    def score(prepared: Any, trained: Any, needed: Any) -> Any:
        for folder in (trained.context.workdir, trained.context.workdir / "second"):
            (folder / CHECKPOINTS / "step-1").mkdir(parents=True)
        return original(prepared, trained, needed)

    monkeypatch.setattr(runner, "_score", score)
    assert not list(run(tmp_path).directory.rglob(CHECKPOINTS))


def test_private_text_is_in_no_file_and_on_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every text holds the marker; nothing else does."""
    states = ["ok", "invalid"]
    public, secret = run(tmp_path / "a", states=states), run(tmp_path / "b", task="secret", states=states)
    assert secret.results["data"]["private"] is True
    assert holding_the_marker(public.directory) == ["samples_words.jsonl"]
    assert holding_the_marker(tmp_path / "b") == []
    assert MARKER not in "".join(capfd.readouterr())
    assert "the text is private" in (secret.directory / "README.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (secret.directory / "samples_secret.jsonl").read_text().splitlines()]
    assert {"doc_id", "doc_hash"} <= set(rows[0])


def test_private_text_in_a_failing_reload_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    public = run(tmp_path / "a", break_in="load")
    assert MARKER in public.results["reload_check"]["message"]
    caplog.clear()
    secret = run(tmp_path / "b", task="secret", break_in="load")
    assert secret.results["reload_failed"] is True
    assert secret.results["reload_check"] == {"passed": False, "reason": "the fresh process ended with exit code 1"}
    assert holding_the_marker(tmp_path / "b") == []
    assert MARKER not in caplog.text


def holding_the_marker(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if MARKER.encode() in path.read_bytes()]


@pytest.mark.usefixtures("no_reload")
def test_options_from_python(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        limit=5,
        train_limit=10,
        bias=0.5,
        decision_options={"calibration": "none"},
        task_options={"word": "more"},
    )
    assert len(result.results["facts"]["fitted_on"]) == 10
    assert result.results["n-samples"]["words"] == {"original": 20, "effective": 5}
    assert result.results["decision"]["temperature"] == 1
    assert result.results["origins"]["method.bias"] == "flag"
    config = yaml.safe_load((result.directory / "config.yaml").read_text(encoding="utf-8"))
    assert (config["output_path"], config["plugins"]) == (str(tmp_path), [str(SPY)])


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evalsuite", "--version"]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert child.stdout == f"evalsuite {evalsuite.__version__}\n"
    assert child.stderr == ""
