"""The table of predictions: both formats say the same, and a private task's text is in neither."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evalsuite import samples as samples_module
from evalsuite.contracts import Example
from evalsuite.errors import StoreError
from evalsuite.metrics import one_hot
from evalsuite.samples import PARQUET, Samples, documents_digest, read_samples, read_texts, write_samples

LABELS = ("a", 'b "quoted"', "ü\n")
TEXTS = ("one", "two\u2028lines\n", "drei ö", "")


def example(probabilities: bool = True) -> Samples:
    chances = np.array([[0.1234567, 0.5, 0.25], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])
    return Samples(
        ids=("1", "2", "x/3", "=4"),
        hashes=("aa", "bb", "cc", "dd"),
        gold=np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]], bool),
        predicted=np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]], bool),
        probabilities=chances if probabilities else None,
        status=("ok", "ok", "invalid", "failed"),
        labels=LABELS,
    )


@pytest.fixture(params=["jsonl", "parquet"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "parquet":
        monkeypatch.setattr(samples_module, "MOST_CELLS_IN_JSONL", 0)
    return str(request.param)


@pytest.mark.parametrize("probabilities", [True, False])
def test_both_formats_give_back_what_was_written(tmp_path: Path, kind: str, probabilities: bool) -> None:
    written = example(probabilities)
    path = write_samples(tmp_path, "news", written, TEXTS, None)
    assert path.name == (PARQUET if kind == "parquet" else "samples_news.jsonl")
    read = read_samples(tmp_path, LABELS)
    assert (read.ids, read.hashes, read.status, read.labels) == (
        written.ids,
        written.hashes,
        written.status,
        written.labels,
    )
    np.testing.assert_array_equal(read.gold, written.gold)
    np.testing.assert_array_equal(read.predicted, written.predicted)
    if written.probabilities is None:
        assert read.probabilities is None
    else:
        assert read.probabilities is not None
        np.testing.assert_allclose(read.probabilities[:2], written.probabilities[:2], atol=5e-7)


def test_a_table_of_many_blocks_is_the_same(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is cut while it is written and read."""
    tables = []
    for name, cells in (("whole", 10**6), ("cut", 1)):
        monkeypatch.setattr(samples_module, "CELLS_OF_A_BLOCK", cells)
        monkeypatch.setattr(samples_module, "ROWS_OF_A_BATCH", cells)
        folder = tmp_path / name
        folder.mkdir()
        write_samples(folder, "news", example(), TEXTS, None)
        read = read_samples(folder, LABELS)
        told = read.gold.tobytes(), read.predicted.tobytes(), read.probabilities.tobytes(), read.ids, read.status
        tables.append((*told, read_texts(folder, read.hashes), documents_digest(folder)))
    assert tables[0] == tables[1]


def test_probabilities_are_rounded_as_python_rounds(tmp_path: Path) -> None:
    chances = np.random.default_rng(0).random((1000, 3))
    gold = np.zeros(chances.shape, bool)
    names = tuple(map(str, range(1000)))
    write_samples(tmp_path, "news", Samples(names, names, gold, gold, chances, ("ok",) * 1000, LABELS), None, None)
    read = read_samples(tmp_path, LABELS).probabilities
    assert read is not None
    assert read.tolist() == [[round(chance, 6) for chance in row] for row in chances.tolist()]


def test_a_document_without_a_valid_answer_has_no_probabilities(tmp_path: Path, kind: str) -> None:
    """Null, never invented."""
    write_samples(tmp_path, "news", example(), None, None)
    read = read_samples(tmp_path, LABELS)
    assert read.probabilities is not None
    assert np.isnan(read.probabilities).all(axis=1).tolist() == [False, False, True, True]


def test_no_document_at_all(tmp_path: Path) -> None:
    empty = np.zeros((0, 2), bool)
    write_samples(tmp_path, "news", Samples((), (), empty, empty, None, (), ("a", "b")), (), None)
    assert read_samples(tmp_path, ("a", "b")).gold.shape == (0, 2)


def test_a_row_has_the_documented_keys(tmp_path: Path) -> None:
    path = write_samples(tmp_path, "news", example(), TEXTS, ["r1", "r2", "r3", "r4"])
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert rows[1] == {
        "doc_id": "2",
        "split": "test",
        "doc_hash": "bb",
        "target": ['b "quoted"', "ü\n"],
        "prediction": ['b "quoted"', "ü\n"],
        "probabilities": [1.0, 0.0, 0.0],
        "status": "ok",
        "doc": {"text": "two\u2028lines\n"},
        "resps": ["r2"],
    }


def test_without_texts_and_answers_there_are_none(tmp_path: Path, kind: str) -> None:
    path = write_samples(tmp_path, "news", example(), None, None)
    assert b"doc\x22:" not in path.read_bytes()
    assert {"doc", "resps"}.isdisjoint(next(samples_module._rows(tmp_path, ("doc", "resps", "doc_id"))))


def test_a_directory_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is it a run directory"):
        read_samples(tmp_path, LABELS)


def test_one_hot_of_none_one_and_several_labels() -> None:
    gold = one_hot([Example("1", "", ()), Example("2", "", (1,)), Example("3", "", (0, 2))], 3)
    assert gold.tolist() == [[False, False, False], [False, True, False], [True, False, True]]
