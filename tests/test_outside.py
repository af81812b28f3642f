"""Somebody else's predictions as a run: the same numbers, the same documents, and what is missing is told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evalsuite
from evalsuite.compare.comparison import compare_groups
from evalsuite.deliver.predict import Labeller, Settings, predict_file
from evalsuite.deliver.predict_input import InputColumns
from evalsuite.errors import DataError, StoreError, UsageError
from evalsuite.outside import Source, score
from evalsuite.progress import Silent
from evalsuite.registry import build_registry
from evalsuite.report.card import card
from evalsuite.report.grouping import group_runs
from evalsuite.report.table import make_table
from evalsuite.report.text import cost_rows, run_row
from evalsuite.samples import read_samples
from evalsuite.spec import RunResult
from evalsuite.store import open_run

SPY = Path(__file__).parent / "spy_plugin.py"
LABELS = ("alpha", "beta", "gamma")
OF_PROBABILITIES = {"ece", "ece_expected", "brier", "nll"}
pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def tfidf(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> RunResult:
    return evalsuite.run("ag_news", "tfidf", output_path=tmp_path_factory.mktemp("tfidf"), limit=80)


def scored(path: Path, task: str = "words", name: str = "vendor_x", **flags: Any) -> RunResult:
    """The predictions at ``path`` as a run beside it; ``id``, ``label`` and ``form`` are the source's."""
    source = Source(str(path), **{key: flags.pop(key) for key in ("id", "label", "form") if key in flags})
    flags = {"task": task, "output_path": str(path.parent / "runs"), "plugins": [str(SPY)], **flags}
    return score(build_registry([SPY]), source, name, flags)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(run: RunResult) -> list[dict[str, Any]]:
    (samples,) = run.directory.glob("samples_*.jsonl")
    return [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]


def values(run: RunResult) -> dict[str, Any]:
    return {name: entry["value"] for name, entry in run.metrics.items()}


def answers(count: int = 20, **special: str | None) -> list[dict[str, Any]]:
    """The words task's gold labels; ``test_3="beta"`` says another one of one document."""
    return [{"id": f"test-{row}", "label": special.get(f"test_{row}", LABELS[row % 3])} for row in range(count)]


def test_a_runs_own_predictions_score_as_the_run_did(tmp_path: Path, tfidf: RunResult) -> None:
    """Its table of samples is a file of predictions as it stands; probabilities have six digits there."""
    outside = scored(lines(tmp_path / "samples.jsonl", rows_of(tfidf)), "ag_news", limit=80)
    assert outside.results["method"] == "vendor_x"
    theirs, ours = values(outside), values(tfidf)
    assert {name: theirs[name] for name in ours if name not in OF_PROBABILITIES} == {
        name: value for name, value in ours.items() if name not in OF_PROBABILITIES
    }
    for name in OF_PROBABILITIES:
        assert theirs[name] == pytest.approx(ours[name], abs=1e-3), name
    assert outside.metrics["f1_macro"]["interval"] == tfidf.metrics["f1_macro"]["interval"]
    assert outside.results["metrics"]["labels"] == tfidf.results["metrics"]["labels"]
    first, second = (read_samples(run.directory, run.results["labels"]) for run in (outside, tfidf))
    assert (first.ids, first.hashes, first.status, first.labels) == (
        second.ids,
        second.hashes,
        second.status,
        second.labels,
    )
    assert (first.gold == second.gold).all()
    assert (first.predicted == second.predicted).all()
    assert rows_of(outside) == rows_of(tfidf)


def test_compare_says_no_difference_between_a_run_and_its_own_predictions(tmp_path: Path, tfidf: RunResult) -> None:
    outside = scored(lines(tmp_path / "samples.jsonl", rows_of(tfidf)), "ag_news", limit=80)
    groups, superseded = group_runs([tfidf, outside])
    assert (len(groups), superseded) == (2, 0)
    (pair,) = compare_groups(groups).pairs
    assert (pair.difference, pair.p, pair.certified) == (0, 1, False)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("task", ["words", "tags"])
def test_what_predict_writes_can_be_scored(
    tmp_path: Path, spy_run: Callable[..., RunResult], task: str, form: str
) -> None:
    run = spy_run(task)
    documents = [{"id": row["doc_id"], "text": row["doc"]["text"]} for row in rows_of(run)]
    source, target = lines(tmp_path / "in.jsonl", documents), tmp_path / f"out.{form}"
    load = lambda: Labeller.open(run, build_registry([SPY]), "cpu")  # noqa: E731
    predict_file(run, str(source), str(target), Settings(InputColumns(id="id")), load, Silent())
    outside = scored(target, task)
    assert values(outside) == pytest.approx(values(run), abs=1e-4)
    assert [row["prediction"] for row in rows_of(outside)] == [row["prediction"] for row in rows_of(run)]


def test_the_directory_is_a_complete_run(tmp_path: Path) -> None:
    run = scored(lines(tmp_path / "x.jsonl", answers()))
    read = open_run(run.directory, verify=True)
    assert read.results == run.results
    assert run.directory.parent.parent == tmp_path / "runs" / "words__vendor_x"
    assert values(run)["accuracy"] == 1
    names = {file.name for file in run.directory.iterdir()}
    assert names >= {"README.md", "config.yaml", "environment.json", "log.txt", "samples_words.jsonl", "task.json"}
    assert "Run again" not in (run.directory / "README.md").read_text()


def test_results_have_the_keys_of_every_run_and_null_where_only_the_owner_knows(
    tmp_path: Path, spy_run: Callable[..., RunResult]
) -> None:
    theirs, ours = scored(lines(tmp_path / "x.jsonl", answers())).results, spy_run("words").results
    assert list(theirs) == list(ours)
    assert theirs["parameters"] == {"trainable": None, "total": None}
    assert theirs["cost"]["train"] == dict.fromkeys(ours["cost"]["train"])
    assert theirs["cost"]["peak_memory_bytes"] == {"cpu": None, "gpu": None}
    assert (theirs["reload_failed"], theirs["attempts"], theirs["collapse"]["collapsed"]) == (False, [], None)
    assert theirs["decision"]["rule"] == "own"


def test_tables_cards_and_lists_take_it(tmp_path: Path, spy_run: Callable[..., RunResult]) -> None:
    run = scored(lines(tmp_path / "x.jsonl", answers()))
    table = make_table([run, spy_run("words")])
    assert {row[0] for row in table.main.rows} == {"spy", "vendor_x"}
    assert run_row(run.results)[1:4] == ("vendor_x", "", "0")
    assert ("train", "-") in cost_rows(run.results)
    assert "predictions were read from x.jsonl" in card(run.results, None)


def test_the_same_file_is_the_same_run_and_another_file_is_not(tmp_path: Path) -> None:
    first = scored(lines(tmp_path / "x.jsonl", answers()))
    again = scored(lines(tmp_path / "x.jsonl", answers()))
    other = scored(lines(tmp_path / "x.jsonl", answers(test_3="beta")))
    assert (again.directory, again.fresh) == (first.directory, False)
    assert other.directory != first.directory
    assert scored(tmp_path / "x.jsonl", limit=5).directory != other.directory
    with pytest.raises(UsageError, match="is complete"):
        scored(tmp_path / "x.jsonl", overwrite="never")


def test_repeated_answers_are_seeds_of_one_system_and_a_newer_file_takes_an_older_ones_place(tmp_path: Path) -> None:
    runs = [
        scored(lines(tmp_path / f"{number}.jsonl", answers(test_3="gamma" if number else "beta")), seed=seed)
        for number, seed in enumerate((0, 1, 1))
    ]
    assert runs[1].directory == runs[2].directory
    runs.append(scored(lines(tmp_path / "3.jsonl", answers(test_4="alpha")), seed=1))
    ((group,), superseded) = group_runs([runs[0], runs[1], runs[3]])
    assert (len(group.runs), superseded) == (2, 1)


def test_documents_without_a_prediction_and_predictions_without_a_document(tmp_path: Path) -> None:
    given = [*answers(18, test_5=None), {"id": "test-99", "label": "beta"}]
    run = scored(lines(tmp_path / "x.jsonl", given))
    assert run.results["metrics"]["counts"]["failed"] == 3
    assert run.results["incomplete"]
    assert values(run)["accuracy"] == 1
    told = "\n".join(run.results["notices"])
    assert "Incomplete: 3 of 20 documents have no prediction" in told
    assert "Left out: 1 predictions are of documents that are not scored here (test-99)." in told


def test_labels_outside_the_set_are_wrong_and_named(tmp_path: Path) -> None:
    given = answers(test_5="delta", test_6="delta", test_7="Alpha")
    run = scored(lines(tmp_path / "x.jsonl", [*given[:-1], {**given[-1], "label": ["alpha", "beta"]}]))
    assert run.results["metrics"]["counts"]["invalid"] == 4
    assert values(run)["accuracy"] == 16 / 20
    assert (
        "Invalid: 4 answers are outside the label set and count as wrong: delta (2), Alpha (1)."
        in (run.results["notices"])
    )


def test_what_predict_did_not_answer_is_no_wrong_answer(tmp_path: Path) -> None:
    states = ["ok", "abstained", "bad", "failed", "invalid"]
    given = [{**row, "status": states[place % 5]} for place, row in enumerate(answers())]
    counts = scored(lines(tmp_path / "x.jsonl", given)).results["metrics"]["counts"]
    assert (counts["failed"], counts["invalid"]) == (12, 4)


def test_documents_may_be_named_by_the_hash_of_their_text(tmp_path: Path, spy_run: Callable[..., RunResult]) -> None:
    hashed = [{"doc_hash": row["doc_hash"], "label": row["target"][0]} for row in rows_of(spy_run("words"))]
    assert values(scored(lines(tmp_path / "x.jsonl", hashed)))["accuracy"] == 1


def test_columns_by_name_and_labels_in_cells(tmp_path: Path, spy_run: Callable[..., RunResult]) -> None:
    gold = {row["doc_id"]: row["target"] for row in rows_of(spy_run("tags"))}
    for separator in ";|":
        path = tmp_path / f"{ord(separator)}.csv"
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerows([("key", "tags"), *((name, f"{separator} ".join(tags)) for name, tags in gold.items())])
        assert values(scored(path, "tags", id="key", label="tags"))["accuracy"] == 1


def test_parquet_with_lists(tmp_path: Path, spy_run: Callable[..., RunResult]) -> None:
    gold = {row["doc_id"]: row["target"] for row in rows_of(spy_run("tags"))}
    table = pa.table({"id": list(gold), "labels": pa.array(list(gold.values()), pa.list_(pa.string()))})
    pq.write_table(table, tmp_path / "x.parquet")
    assert values(scored(tmp_path / "x.parquet", "tags"))["accuracy"] == 1


@pytest.mark.parametrize("shape", ["object", "list", "columns"])
def test_probabilities_in_every_shape(tmp_path: Path, shape: str) -> None:
    chances = [0.7, 0.2, 0.1]
    shapes: dict[str, dict[str, Any]] = {
        "object": {"probabilities": dict(zip(LABELS, chances, strict=True))},
        "list": {"probabilities": chances},
        "columns": {f"p_{label}": chance for label, chance in zip(LABELS, chances, strict=True)},
    }
    run = scored(lines(tmp_path / "x.jsonl", [{**row, **shapes[shape]} for row in answers()]))
    expected = sum(sum((c - (place == gold)) ** 2 for place, c in enumerate(chances)) for gold in range(3)) / 3
    assert values(run)["brier"] == pytest.approx(expected, abs=0.05)
    assert run.results["calibration"]["after"]["brier"] == values(run)["brier"]
    assert run.results["calibration"]["reason"] is None


def test_probabilities_of_some_documents_are_none(tmp_path: Path) -> None:
    given = [{**answers()[0], "probabilities": [0.7, 0.2, 0.1]}, *answers()[1:]]
    run = scored(lines(tmp_path / "x.jsonl", given))
    assert values(run)["brier"] is None
    assert "Probabilities: 19 predictions have none, so that none are used." in run.results["notices"]
    assert "Probabilities" not in str(scored(lines(tmp_path / "y.jsonl", answers())).results["notices"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"probabilities": [0.5, 0.5]}, "2 probabilities, expected one for each of 3 labels"),
        ({"probabilities": [0.5, 0.5, 0.5]}, "must add up to 1, got 1.5"),
        ({"probabilities": [1.5, -0.5, 0]}, "must be from 0 to 1"),
        ({"probabilities": ["a", "b", "c"]}, "could not convert"),
        ({"probabilities": [0.5, None, 0.5]}, "row 1"),
        ({"p_alpha": 0.5}, "no column 'p_beta'"),
    ],
)
def test_probabilities_that_are_none(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        scored(lines(tmp_path / "x.jsonl", [{**answers()[0], **row}, *answers()[1:]]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "test-1", "label": "beta"}] * 2, "document 'test-1' is predicted twice, in rows 1 and 2"),
        ([{"label": "beta"}], "no column 'id' or 'doc_id' or 'doc_hash'"),
        ([{"id": "test-1", "lable": "beta"}], r"no column 'label' or .*did you mean lable\?; name it with --label_col"),
        ([{"id": None, "label": "beta"}], "row 1 has no id"),
        ([], "no column 'id'"),
    ],
)
def test_files_that_cannot_be_scored(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        scored(lines(tmp_path / "x.jsonl", rows))
    assert not list(tmp_path.glob("runs/*/*/*"))


def test_a_broken_row_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,label\ntest-1,beta\ntest-2\n")
    with pytest.raises(DataError, match="row 2: wrong number of cells: 1, expected 2"):
        scored(tmp_path / "x.csv")
    with pytest.raises(DataError, match="no such file"):
        scored(tmp_path / "none.csv")


def test_a_methods_name_is_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'tfidf' is a method of evalsuite's"):
        scored(lines(tmp_path / "x.jsonl", answers()), name="tfidf")


def test_private_text_is_in_no_file(tmp_path: Path) -> None:
    run = scored(lines(tmp_path / "x.jsonl", answers()), "secret")
    assert not any(b"zxqv" in file.read_bytes() for file in run.directory.iterdir())


def test_there_is_nothing_to_predict_with(tmp_path: Path) -> None:
    run = scored(lines(tmp_path / "x.jsonl", answers()))
    with pytest.raises(UsageError, match="holds no model to predict with"):
        predict_file(run, "-", "-", Settings(), pytest.fail, Silent())


def test_an_edited_run_is_refused(tmp_path: Path) -> None:
    run = scored(lines(tmp_path / "x.jsonl", answers()))
    text = (run.directory / "samples_words.jsonl").read_text()
    (run.directory / "samples_words.jsonl").write_text(text.replace("alpha", "gamma"))
    with pytest.raises(StoreError, match="changed after the run"):
        open_run(run.directory, verify=True)
