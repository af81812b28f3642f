from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.contracts import Example, Splits
from evalsuite.data import TableOptions, load_table
from evalsuite.data.table import _cell_text, _sorted_names
from evalsuite.errors import DataError

ROWS = [{"text": f"document number {n}", "label": "ab"[n % 2], "tags": ["x", "y"][: n % 3]} for n in range(120)]


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["text", "label", "tags"], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows({**row, "tags": ";".join(row["tags"])} for row in rows)


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_json_array(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "rows.csv": _write_csv,
    "rows.tsv": _write_csv,
    "rows.jsonl": _write_jsonl,
    "rows.json": _write_json_array,
    "rows.parquet": _write_parquet,
}


def _load(path: Path, **options: Any) -> Splits:
    return load_table(TableOptions(data=str(path), **options), path.parent / "cache")


def _all(splits: Splits) -> list[Example]:
    return sorted(
        [*splits.train, *splits.validation, *splits.test],
        key=lambda example: int(example.id.split("-")[1].partition("#")[0]),
    )


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    splits = _load(tmp_path / name)
    assert [(example.text, "ab"[example.labels[0]]) for example in _all(splits)] == [
        (row["text"], row["label"]) for row in ROWS
    ]
    assert splits.labels == ("a", "b")
    assert not splits.findings


@pytest.mark.parametrize("name", WRITERS)
def test_multilabel_cells_may_be_lists_or_separated_and_may_be_empty(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    splits = _load(tmp_path / name, label="tags", multilabel=True)
    assert splits.labels == ("x", "y")
    assert [example.labels for example in _all(splits)] == [tuple(range(n % 3)) for n in range(120)]


def test_a_folder_of_splits(tmp_path: Path) -> None:
    for name, count in (("train.csv", 60), ("dev.csv", 10), ("test.csv", 20)):
        _write_csv(tmp_path / name, ROWS[:count])
    splits = _load(tmp_path)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [60, 10, 20]
    assert splits.train[0].id == "train-1"


def test_numbered_parts_of_a_split(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "train-00000-of-00002.parquet", ROWS[:50])
    _write_parquet(tmp_path / "train-00001-of-00002.parquet", ROWS[50:])
    _write_parquet(tmp_path / "test-00000-of-00001.parquet", ROWS[:10])
    splits = _load(tmp_path)
    assert len(splits.train) + len(splits.validation) == 120
    assert len(splits.test) == 10
    assert not splits.findings


def test_files_for_validation_and_test_by_option(tmp_path: Path) -> None:
    for name, count in (("a.csv", 60), ("b.jsonl", 10), ("c.csv", 20)):
        WRITERS["rows" + Path(name).suffix](tmp_path / name, ROWS[:count])
    splits = _load(tmp_path / "a.csv", validation=str(tmp_path / "b.jsonl"), test=str(tmp_path / "c.csv"))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [60, 10, 20]


def test_a_split_column(tmp_path: Path) -> None:
    rows = [{**row, "part": ["train", "Valid", "test", "extra"][n % 4]} for n, row in enumerate(ROWS)]
    _write_jsonl(tmp_path / "rows.jsonl", rows)
    splits = _load(tmp_path / "rows.jsonl", split="part")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [30, 30, 30]
    assert len(splits.findings["unknown split"]) == 30


def test_several_text_columns_are_joined(tmp_path: Path) -> None:
    _write_jsonl(tmp_path / "rows.jsonl", [{**row, "title": "T"} for row in ROWS])
    assert _all(_load(tmp_path / "rows.jsonl", text="title, text", joiner=" "))[0].text == "T document number 0"


def test_labels_by_name_order_or_value(tmp_path: Path) -> None:
    _write_csv(tmp_path / "rows.csv", ROWS)
    assert _load(tmp_path / "rows.csv", labels="b,a").labels == ("b", "a")
    named = _load(tmp_path / "rows.csv", labels={"b": "second", "a": "first"}, descriptions={"first": "one", "no": ""})
    assert named.labels == ("second", "first")
    assert named.descriptions == {"first": "one"}
    assert named.labels[_all(named)[0].labels[0]] == "first"


def test_labels_that_are_numbers_sort_as_numbers() -> None:
    assert _sorted_names({"10", "9", "1"}) == ["1", "9", "10"]
    assert _sorted_names({"10", "9", "x"}) == ["10", "9", "x"]
    assert [_cell_text(value) for value in (3.0, 3, "3", 2.5, True)] == ["3", "3", "3", "2.5", "True"]


def test_unusable_rows_are_counted_and_never_dropped_in_silence(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        {"text": None, "label": "a"},
        {"text": "no label", "label": None},
        {"text": "not a number", "label": math.nan},
        {"text": ["list"], "label": "a"},
        {"text": 7, "label": "a"},
        {"text": "half \ud800 pair", "label": "a"},
        {"text": "what", "label": "c"},
        {"label": "a"},
        {"text": "a list where one label belongs", "label": ["a"]},
    ]
    _write_jsonl(tmp_path / "rows.jsonl", ROWS + bad)
    splits = _load(tmp_path / "rows.jsonl", labels=("a", "b"))
    assert splits.findings == {
        "no text": ["row-121", "row-128"],
        "no label": ["row-122", "row-123"],
        "text is not a string": ["row-124"],
        "text is a number": ["row-125"],
        "broken surrogate": ["row-126"],
        "unknown label": ["row-127", "row-129"],
    }
    texts = {example.id: example.text for example in _all(splits)}
    assert texts["row-125"] == "7"
    assert texts["row-126"] == "half � pair"
    assert len(texts) == 122


def test_an_empty_text_is_a_document(tmp_path: Path) -> None:
    _write_csv(tmp_path / "rows.csv", [*ROWS, {"text": "", "label": "a", "tags": []}])
    assert len(_all(_load(tmp_path / "rows.csv"))) == 121


def test_duplicate_ids_are_made_unique_and_counted(tmp_path: Path) -> None:
    _write_jsonl(tmp_path / "rows.jsonl", [{**row, "key": f"k-{n // 2}"} for n, row in enumerate(ROWS)])
    splits = _load(tmp_path / "rows.jsonl", id="key")
    assert len({example.id for example in _all(splits)}) == 120
    assert splits.findings["duplicate id"][0] == "k-0#2"
    assert len(splits.findings["duplicate id"]) == 60


def test_a_table_leaves_no_copy_of_its_text_in_the_cache(tmp_path: Path) -> None:
    _write_csv(tmp_path / "rows.csv", ROWS)
    _load(tmp_path / "rows.csv")
    assert not (tmp_path / "cache").exists()


def test_the_text_never_reaches_an_error_or_a_finding(tmp_path: Path) -> None:
    _write_jsonl(tmp_path / "rows.jsonl", [{"text": "secret", "label": "hidden"}] * 3)
    with pytest.raises(DataError) as caught:
        _load(tmp_path / "rows.jsonl", labels=("a", "b"))
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
