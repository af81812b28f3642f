"""Finished runs by directories, folders, patterns and conditions; what is broken is told in one line."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import one_hot, samples_of, write_run

from evalsuite.errors import StoreError, UnknownNameError
from evalsuite.selection import runs_below, select_runs
from evalsuite.store import MARKER, RESULTS, SCHEMA_VERSION

GOLD = np.arange(30) % 3
SAMPLES = samples_of(one_hot(GOLD), one_hot(GOLD))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs below ``runs``, which is where the working directory looks."""
    folder = tmp_path / "runs"
    for seed in (0, 1):
        write_run(folder, SAMPLES, seed, "net", options={"pooling": "mean", "learning_rate": 2e-4})
    write_run(folder, SAMPLES, 0, "net", options={"pooling": "last", "learning_rate": 1e-3, "model": "/models/small"})
    write_run(folder, SAMPLES, 0, "words", options={"lower": True}, task="wipo")
    monkeypatch.chdir(tmp_path)
    return folder


def names(*words: str, **options: Any) -> list[str]:
    """Method and name of each run found."""
    return [f"{run.results['method']} {run.directory.name}" for run in select_runs(words, **options)]


MEAN = ["net 0-mean-0.0002", "net 1-mean-0.0002"]
LAST = "net 0-last-0.001-__models__small"


def test_a_directory_a_folder_and_both_name_each_run_once(runs: Path) -> None:
    run = select_runs(["runs"])[0].directory
    assert len(names("runs")) == 4
    assert len(names(str(run))) == 1
    assert len(names(str(run), "runs", str(runs))) == 4


def test_a_pattern_that_the_shell_has_not_expanded(runs: Path) -> None:
    assert len(names("runs/words__*")) == 3
    assert len(names(f"{runs}/*")) == 4
    assert names("runs/*/none/1-*") == [MEAN[1]]
    assert len(names("runs/**/results.json")) == 4
    with pytest.raises(StoreError, match=r"runs/nothing\* holds no finished run; list runs with: evalsuite ls runs"):
        select_runs(["runs/nothing*"])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["task=wipo"], ["words 0-True"]),
        (["method=net", "pooling=mean"], MEAN),
        (["pooling=mean", "seed=1"], MEAN[1:]),
        (["learning_rate=2e-4"], MEAN),
        (["learning_rate=0.001"], [LAST]),
        (["model=small"], [LAST]),
        (["model=/models/small"], [LAST]),
        (["lower=true"], ["words 0-True"]),
        (["pooling=last,mean", "seed=0"], [LAST, MEAN[0]]),
    ],
)
def test_conditions_hold_together(runs: Path, words: list[str], found: list[str]) -> None:
    assert names(*words) == found


def test_conditions_ask_the_folders_that_are_named(runs: Path) -> None:
    assert names("runs/words__net", "seed=0") == [LAST, MEAN[0]]
    runs.rename(runs.with_name("elsewhere"))
    assert names("task=wipo", output_path="elsewhere") == ["words 0-True"]
    with pytest.raises(StoreError, match="runs holds no finished run"):
        select_runs(["task=wipo"])


def test_a_misspelt_field_or_value_says_the_nearest(runs: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown field 'polling'; did you mean pooling"):
        select_runs(["polling=mean"])
    with pytest.raises(
        StoreError, match="none of 4 finished runs in runs has pooling=meen; pooling: did you mean mean"
    ):
        select_runs(["pooling=meen"])
    with pytest.raises(StoreError, match="has task=wipo pooling=mean; list runs with: evalsuite ls runs"):
        select_runs(["task=wipo", "pooling=mean"])


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_place_without_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(StoreError, match=f"{place} holds no finished run"):
        select_runs([place])


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def older(run: Path) -> None:
    """A run of another schema, its marker in order."""
    results = json.loads((run / RESULTS).read_text(encoding="utf-8"))
    (run / RESULTS).write_text(json.dumps({**results, "schema_version": SCHEMA_VERSION + 1}), encoding="utf-8")
    (run / MARKER).write_text("{}", encoding="utf-8")


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a better score": (lambda run: edit(run / RESULTS, lambda text: text.replace("1.0", "2.0", 1)), "hash differs"),
    "a better answer": (
        lambda run: edit(run / "samples_words.jsonl", lambda text: text.replace('"b"', '"c"', 1)),
        "hash differs",
    ),
    "a longer file": (lambda run: edit(run / RESULTS, lambda text: text + " "), "missing or was changed"),
    "another schema": (older, f"has schema version {SCHEMA_VERSION + 1}, expected {SCHEMA_VERSION}"),
    "unfinished": (lambda run: (run / MARKER).unlink() or (run / "config.yaml").touch(), "is not complete"),
    "foreign": (lambda run: (run / MARKER).unlink(), "is not a run directory: there is no COMPLETE file"),
    "foreign marker": (lambda run: (run / MARKER).write_text('{"a": 1}'), "its COMPLETE file is not evalsuite's"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    change, words = BROKEN[kind]
    run = write_run(tmp_path, SAMPLES)
    change(run)
    with pytest.raises(StoreError, match=words) as caught:
        select_runs([str(run)])
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)


def test_an_interrupted_run_is_told_by_its_name(tmp_path: Path) -> None:
    run = write_run(tmp_path, SAMPLES)
    partial = run.rename(run.with_name(run.name + ".partial"))
    (partial / MARKER).unlink()
    with pytest.raises(StoreError, match=r"\.partial is not complete"):
        select_runs([str(partial)])


def test_weights_are_not_hashed(tmp_path: Path) -> None:
    """Gigabytes of them would make a table slow; ``evalsuite show`` checks them."""
    run = write_run(tmp_path, SAMPLES)
    manifest = json.loads((run / MARKER).read_text(encoding="utf-8"))
    (run / "model.safetensors").write_bytes(b"changed")
    manifest["model.safetensors"] = {"bytes": 7, "blake2b": "0" * 32}
    (run / MARKER).write_text(json.dumps(manifest), encoding="utf-8")
    assert len(select_runs([str(run)])) == 1


def test_a_condition_leaves_out_what_cannot_be_read_and_says_so(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(select_runs(["task=wipo"])[0].directory, runs / "broken")
    (runs / "broken" / MARKER).write_text("[]", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "evalsuite"):
        assert names("task=wipo") == ["words 0-True"]
        assert len(runs_below(runs)) == 4
    assert "left out:" in caplog.text
    with pytest.raises(StoreError, match="holds list, expected an object"):
        select_runs(["runs"])
