"""A finished run on new text: the run's own numbers, every row, and never a row twice."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import evalsuite
from evalsuite.deliver import predict, predict_output
from evalsuite.deliver.predict import Labeller, Settings, predict_file
from evalsuite.deliver.predict_input import InputColumns
from evalsuite.deliver.predict_output import Position
from evalsuite.errors import Interrupted, OptionError, StoreError, UsageError
from evalsuite.progress import Silent
from evalsuite.registry import build_registry
from evalsuite.samples import read_samples
from evalsuite.spec import RunResult

SPY = Path(__file__).parent.parent / "spy_plugin.py"
FORMATS = ("jsonl", "csv", "parquet")
WORDS = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def words(spy_run: Callable[..., RunResult]) -> RunResult:
    return spy_run("words")


@pytest.fixture(scope="module")
def tfidf(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> RunResult:
    return evalsuite.run("ag_news", "tfidf", output_path=tmp_path_factory.mktemp("tfidf"))


def labeller(run: RunResult) -> Labeller:
    return Labeller.open(run, build_registry([SPY]), "cpu")


def do(
    run: RunResult, source: Path | str, target: Path | str, progress: Any = None, **settings: Any
) -> tuple[Position, list[dict[str, Any]]]:
    """What was counted, and the rows of the output as they are read back."""
    columns = settings.pop("columns", InputColumns(id="id"))
    asked = Settings(columns, **settings)
    load = lambda: labeller(run)  # noqa: E731
    position = predict_file(run, str(source), str(target), asked, load, progress or Silent())
    return position, read(Path(target)) if str(target) != "-" else []


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream)) if path.suffix == ".csv" else [json.loads(line) for line in stream]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def own_texts(run: RunResult, path: Path) -> Path:
    """The run's test documents as a file to predict."""
    (samples,) = run.directory.glob("samples_*.jsonl")
    rows = map(json.loads, samples.read_text(encoding="utf-8").splitlines())
    return lines(path, [{"id": row["doc_id"], "text": row["doc"]["text"]} for row in rows])


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"id": f"d{row}", "text": f"{WORDS[row % 3]} {row}" if row % 7 else None} for row in range(count)]


@pytest.mark.parametrize("form", FORMATS)
def test_predictions_of_the_test_documents_are_the_runs_own(tmp_path: Path, tfidf: RunResult, form: str) -> None:
    _, rows = do(tfidf, own_texts(tfidf, tmp_path / "in.jsonl"), tmp_path / f"out.{form}")
    samples = read_samples(tfidf.directory, tfidf.results["labels"])
    assert samples.probabilities is not None
    assert [row["id"] for row in rows] == list(samples.ids)
    assert [row["label"] for row in rows] == [samples.labels[row.argmax()] for row in samples.predicted]
    for row, expected in zip(rows, samples.probabilities, strict=True):
        chances = row["probabilities"] if form == "jsonl" else {label: row[f"p_{label}"] for label in samples.labels}
        assert [float(chances[label]) for label in samples.labels] == pytest.approx(expected, abs=1e-6)
        assert float(row["confidence"]) == pytest.approx(expected.max(), abs=1e-6)


@pytest.mark.parametrize("threshold", ["fixed", "per_label", "top_k"])
def test_thresholds_are_the_runs_own(tmp_path: Path, spy_run: Callable[..., RunResult], threshold: str) -> None:
    run = spy_run("tags", threshold=threshold, threshold_min_support=1, bias=1.5)
    _, rows = do(run, own_texts(run, tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    samples = read_samples(run.directory, run.results["labels"])
    expected = [[samples.labels[place] for place in row.nonzero()[0]] for row in samples.predicted]
    assert [row["labels"] for row in rows] == expected


@pytest.mark.parametrize("form", FORMATS)
def test_labels_of_a_multilabel_run_in_one_cell(tmp_path: Path, spy_run: Callable[..., RunResult], form: str) -> None:
    source = lines(tmp_path / "in.jsonl", [{"text": "alpha gamma"}, {"text": "nothing"}, {"text": None}])
    run = spy_run("tags", threshold="fixed")
    _, rows = do(run, source, tmp_path / f"out.{form}", columns=InputColumns())
    expected = ["alpha;gamma", "", ""] if form == "csv" else [["alpha", "gamma"], [], None]
    assert [row["labels"] for row in rows] == expected
    assert [row["status"] for row in rows] == ["ok", "ok", "bad"]


@pytest.mark.parametrize("form", FORMATS)
def test_as_many_rows_out_as_in_and_bad_ones_are_counted(tmp_path: Path, words: RunResult, form: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        '{"id": 1, "text": "beta"}\n{"id": 2}\nbroken\n[4]\n{"id": 5, "text": "\\u0000"}\n{"id": 6, "text": ""}\n'
        '{"id": 7, "text": {"a": 1}}\n{"id": 8, "text": "gamma"}\nbroken too\n'
    )
    position, rows = do(words, source, tmp_path / f"out.{form}", chunk_size=2)
    assert [int(row["row"]) for row in rows] == list(range(1, 10))
    assert [str(row["id"] or "") for row in rows] == [
        "1",
        "2",
        "None" if form == "x" else "",
        "",
        "5",
        "6",
        "7",
        "8",
        "",
    ]
    assert [row["label"] or None for row in rows] == ["beta", *[None] * 6, "gamma", None]
    assert {row["status"] for row in rows if row["reason"]} == {"bad"}
    assert (position.rows, dict(position.status)) == (9, {"ok": 2, "bad": 7})
    assert dict(position.reasons) == {
        "no text": 1,
        "not JSON": 2,
        "not a JSON object": 1,
        "NUL character in the text": 1,
        "empty text": 1,
        "text is not a string": 1,
    }


@pytest.mark.parametrize("form", FORMATS)
def test_no_row_at_all(tmp_path: Path, words: RunResult, form: str) -> None:
    (tmp_path / "in.csv").write_text("id,text\n")
    position, rows = do(words, tmp_path / "in.csv", tmp_path / f"out.{form}")
    assert (position.rows, rows) == (0, [])


def test_rows_under_the_confidence_asked_for_get_no_label(tmp_path: Path, words: RunResult) -> None:
    source = lines(tmp_path / "in.jsonl", [{"text": "alpha"}, {"text": "alpha beta"}, {"text": "none"}])
    position, rows = do(words, source, tmp_path / "out.jsonl", columns=InputColumns(), abstain=0.6)
    assert [(row["status"], row["label"]) for row in rows] == [
        ("ok", "alpha"),
        ("abstained", None),
        ("abstained", None),
    ]
    assert all(row["confidence"] == max(row["probabilities"].values()) for row in rows)
    assert position.status["abstained"] == 2


def test_confidence_of_a_multilabel_row_is_that_of_its_least_certain_label(
    tmp_path: Path, spy_run: Callable[..., RunResult]
) -> None:
    source = lines(tmp_path / "in.jsonl", [{"text": "alpha"}])
    _, (row,) = do(spy_run("tags"), source, tmp_path / "out.jsonl", columns=InputColumns())
    assert row["confidence"] == min(max(p, round(1 - p, 6)) for p in row["probabilities"].values())


def test_a_method_without_probabilities(tmp_path: Path, spy_run: Callable[..., RunResult]) -> None:
    run = spy_run("words", logits=False, states=["ok", "invalid", "failed"])
    source = lines(tmp_path / "in.jsonl", [{"text": word} for word in WORDS])
    position, rows = do(run, source, tmp_path / "out.csv", columns=InputColumns())
    assert list(rows[0]) == ["row", "status", "reason", "label", "confidence", "raw"]
    assert [(row["status"], row["label"], row["raw"]) for row in rows] == [
        ("ok", "alpha", "I read: alpha"),
        ("invalid", "", "I read: beta"),
        ("failed", "", "I read: gamma"),
    ]
    assert position.rows == 3
    with pytest.raises(OptionError, match="spy gives no probabilities"):
        do(run, source, tmp_path / "other.csv", abstain=0.5)


def test_private_text_goes_nowhere_unless_asked(tmp_path: Path, spy_run: Callable[..., RunResult]) -> None:
    run = spy_run("secret")
    source = lines(tmp_path / "in.jsonl", [{"text": "alpha whisper"}])
    do(run, source, tmp_path / "out.jsonl", columns=InputColumns())
    assert "whisper" not in (tmp_path / "out.jsonl").read_text()
    _, (row,) = do(run, source, tmp_path / "kept.jsonl", columns=InputColumns(keep=("text",)))
    assert row["text"] == "alpha whisper"


def test_columns_that_are_kept(tmp_path: Path, words: RunResult) -> None:
    rows = [{"text": "beta", "n": 3, "tags": ["a"], "x": float("nan")}, {"text": "beta", "x": "\ud800"}]
    source, columns = lines(tmp_path / "in.jsonl", rows), InputColumns(keep=("n", "tags", "x"))
    _, found = do(words, source, tmp_path / "out.jsonl", columns=columns)
    assert [[row[name] for name in columns.keep] for row in found] == [[3, ["a"], None], [None, None, "\ud800"]]
    _, found = do(words, source, tmp_path / "out.parquet", columns=columns)
    assert [[row[name] for name in columns.keep] for row in found] == [["3", '["a"]', None], [None, None, "\\ud800"]]
    with pytest.raises(UsageError, match="--keep label: the output has a column 'label' of its own"):
        do(words, source, tmp_path / "other.jsonl", columns=InputColumns(keep=("label",)))


def test_formula_injection_in_a_csv(tmp_path: Path, words: RunResult) -> None:
    ids = ["=cmd()", "+1-1", "-2", "@x", "\tx", "\rx", "x=1"]
    source = lines(tmp_path / "in.jsonl", [{"id": cell, "text": "beta"} for cell in ids])
    _, rows = do(words, source, tmp_path / "out.csv")
    assert [row["id"] for row in rows] == ["'=cmd()", "'+1-1", "-2", "'@x", "'\tx", "'\rx", "x=1"]
    assert [predict_output.unguarded(row["id"]) for row in rows] == ids


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_stream_in_and_a_stream_out(
    words: RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "gamma"}\n{"text": 5}\nno\n')))
    do(words, "-", "-", columns=InputColumns(), output_format=form)
    found = capsys.readouterr().out.splitlines()
    assert [line[: len('{"row": 1')] for line in found] == (
        ['{"row": 1', '{"row": 2', '{"row": 3']
        if form == "jsonl"
        else ["row,statu", "1,ok,,gam", "2,ok,,alp", "3,bad,not"]
    )


def test_chunks_end_by_characters_too(tmp_path: Path, words: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand texts of a million characters are no chunk."""
    monkeypatch.setattr(predict, "CHUNK_CHARACTERS", 100)
    sizes: list[int] = []
    source = lines(tmp_path / "in.jsonl", [{"text": "beta" * length} for length in (1, 30, 1, 1, 1)])
    do(words, source, tmp_path / "out.jsonl", columns=InputColumns(), progress=Watched(sizes.append))
    assert sizes == [2, 3]


class Watched:
    """A Progress that tells somebody how many rows are done."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self.told = told

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "docs") -> Iterator[Callable[[int], None]]:
        yield self.told


class Killed(BaseException):
    """Ends a call at once, as a kill does."""


@pytest.mark.parametrize("form", FORMATS)
def test_killed_at_every_point_no_row_is_lost_or_doubled(
    tmp_path: Path, words: RunResult, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Before and after every write, every move of the position and every rename, until the call comes through."""
    source = lines(tmp_path / "in.jsonl", numbered(13))
    do(words, source, tmp_path / f"whole.{form}", chunk_size=4)
    expected = (tmp_path / f"whole.{form}").read_bytes()
    model, target = labeller(words), tmp_path / f"out.{form}"
    steps = {"left": 0}

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            _count()
            result = call(*arguments, **named)
            _count()
            return result

        return step

    def _count() -> None:
        steps["left"] -= 1
        if steps["left"] == 0:
            raise Killed

    monkeypatch.setattr(predict_output, "write_json", counted(predict_output.write_json))
    monkeypatch.setattr(predict_output, "to_parquet", counted(predict_output.to_parquet))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    kills = 0
    for point in range(1, 200):
        for file in tmp_path.glob("*out*"):
            file.unlink()
        steps["left"] = point
        try:
            predict_file(
                words, str(source), str(target), Settings(InputColumns(id="id"), chunk_size=4), lambda: model, Silent()
            )
        except Killed:
            kills += 1
        else:
            break
        if target.exists() and not predict_output.beside(target, "position").exists():
            assert target.read_bytes() == expected
            continue
        steps["left"] = 0
        predict_file(
            words, str(source), str(target), Settings(InputColumns(id="id"), chunk_size=4), lambda: model, Silent()
        )
        assert target.read_bytes() == expected, f"killed at point {point}"
        assert [file.name for file in tmp_path.glob("*out.*")] == [target.name]
    assert kills > 15


def test_a_real_kill_while_rows_are_written(tmp_path: Path, words: RunResult) -> None:
    rows = 6_000
    source, target = lines(tmp_path / "in.jsonl", numbered(rows)), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "evalsuite", "predict", str(words.directory), str(source), "-o", str(target)]
    command += ["--id_column", "id", "--chunk_size", "2", "--plugin", str(SPY)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
        while not (tmp_path / "out.jsonl.position").exists():
            assert child.poll() is None, child.stderr and child.stderr.read()
            time.sleep(0.01)
        time.sleep(0.2)
        child.send_signal(signal.SIGKILL)
    done = json.loads((tmp_path / "out.jsonl.position").read_text())["rows"]
    assert 0 < done < rows
    _, found = do(words, source, target)
    assert [row["row"] for row in found] == list(range(1, rows + 1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_after_the_chunk_and_the_same_call_goes_on(tmp_path: Path, words: RunResult, number: int) -> None:
    source, target = lines(tmp_path / "in.jsonl", numbered(30)), tmp_path / "out.csv"
    with pytest.raises(Interrupted, match="stopped after 10 rows; the same command goes on") as stop:
        do(words, source, target, chunk_size=10, progress=Watched(lambda rows: os.kill(os.getpid(), number)))
    assert stop.value.exit_code == 75
    assert not target.exists()
    done: list[int] = []
    _, rows = do(words, source, target, chunk_size=7, progress=Watched(done.append))
    assert done == [7, 7, 6]
    assert [row["id"] for row in rows] == [f"d{row}" for row in range(30)]


@pytest.fixture
def begun(tmp_path: Path, words: RunResult) -> tuple[Path, Path]:
    """An input and an output that 10 of its 30 rows are in."""
    source, target = lines(tmp_path / "in.jsonl", numbered(30)), tmp_path / "out.jsonl"
    with pytest.raises(Interrupted):
        do(words, source, target, chunk_size=10, progress=Watched(lambda rows: os.kill(os.getpid(), signal.SIGTERM)))
    return source, target


def test_an_unfinished_output_of_another_request_is_not_gone_on_with(
    begun: tuple[Path, Path], words: RunResult, spy_run: Callable[..., RunResult]
) -> None:
    with pytest.raises(UsageError, match=r"begun with another abstain \(10 rows are there\).*--overwrite"):
        do(words, *begun, abstain=0.9)
    with pytest.raises(UsageError, match="begun with another run"):
        do(spy_run("words", bias=0.5), *begun)
    _, rows = do(words, *begun, abstain=1.0, overwrite=True)
    assert [row["row"] for row in rows] == list(range(1, 31))
    assert {row["status"] for row in rows} == {"abstained", "bad"}


def test_an_unfinished_output_of_a_changed_input_is_not_gone_on_with(
    begun: tuple[Path, Path], words: RunResult
) -> None:
    source, target = begun
    lines(source, [{"id": "d0", "text": "changed"}, *numbered(30)[1:]])
    with pytest.raises(UsageError, match="its first 10 rows are not those that"):
        do(words, source, target)
    lines(source, numbered(5))
    with pytest.raises(UsageError, match="its first 10 rows are not those that"):
        do(words, source, target)


def test_an_unfinished_output_that_was_cut(begun: tuple[Path, Path], words: RunResult) -> None:
    os.truncate(predict_output.beside(begun[1], "partial"), 5)
    with pytest.raises(StoreError, match="was cut or changed; delete it to start again"):
        do(words, *begun)
    predict_output.beside(begun[1], "position").write_text("{")
    with pytest.raises(StoreError, match="delete it to start again"):
        do(words, *begun)


def test_an_output_is_replaced_only_where_that_is_asked_for(tmp_path: Path, words: RunResult) -> None:
    source, target = lines(tmp_path / "in.jsonl", numbered(3)), tmp_path / "out.jsonl"
    target.write_text("mine")
    with pytest.raises(UsageError, match="is there already; add --overwrite"):
        do(words, source, target)
    assert target.read_text() == "mine"
    _, rows = do(words, source, target, overwrite=True)
    assert len(rows) == 3


def test_two_processes_do_not_write_one_output(tmp_path: Path, words: RunResult) -> None:
    source, target = lines(tmp_path / "in.jsonl", numbered(3)), tmp_path / "out.jsonl"

    def again(rows: int) -> None:
        with pytest.raises(StoreError, match="being written by another process"):
            do(words, source, target)

    assert len(do(words, source, target, progress=Watched(again))[1]) == 3


def test_an_input_that_cannot_be_read_leaves_nothing_and_loads_no_model(tmp_path: Path, words: RunResult) -> None:
    lines(tmp_path / "in.jsonl", [{"txet": "beta"}])
    settings = Settings(InputColumns())
    source, target = str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")
    with pytest.raises(evalsuite.errors.DataError, match="did you mean txet"):
        predict_file(words, source, target, settings, pytest.fail, Silent())
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]
    with pytest.raises(StoreError, match="there is no folder"):
        do(words, source, tmp_path / "none" / "out.jsonl")


@pytest.mark.parametrize(("name", "value"), [("abstain", 0.0), ("abstain", 1.5), ("chunk_size", 0)])
def test_settings_that_do_not_fit(tmp_path: Path, words: RunResult, name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"--{name} {value:g} must be"):
        do(words, "-", tmp_path / "out.jsonl", **{name: value})


PEAK = """
import resource, sys
from evalsuite.cli.app import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux counts it")
def test_memory_does_not_grow_with_the_input(tmp_path: Path, words: RunResult) -> None:
    """Eight times the rows take less than 50 MB more; held in memory, they would take several times that."""

    def peak(rows: int, form: str) -> int:
        with (tmp_path / f"{rows}.csv").open("w") as stream:
            stream.write("id,text\n")
            stream.writelines(f"d{row},market game court {row} {'x' * 600}\n" for row in range(rows))
        source, target = str(tmp_path / f"{rows}.csv"), str(tmp_path / f"out_{rows}.{form}")
        arguments = ["predict", str(words.directory), source, "-o", target, "--keep", "text"]
        child = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
        return int(child.stdout)

    assert peak(40_000, "parquet") - peak(5_000, "parquet") < 50
