"""Bad input: one clear line each, naming the file, the line and what to do."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from evalsuite.data.documents import Findings
from evalsuite.data.readers import Format, Row, find_sources, read_rows
from evalsuite.errors import DataError


def _read(path: Path, content: bytes | None = None, form: Format | None = None) -> tuple[list[Row], Findings]:
    if content is not None:
        path.write_bytes(content)
    findings: Findings = {}
    return [row for _, row in read_rows(path, ["text", "label"], form or Format(), findings)], findings


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.jsonl", b"\n \n", "a.jsonl is empty"),
        ("a.csv", b"texts,label\nx,y\n", r"a.csv has no column 'text'; did you mean texts\?"),
        ("a.jsonl", b'{"text": 1, "lable": 2}\n', r"line 1 has no column 'label'; did you mean lable\?"),
        ("a.jsonl", b'{"text": "x", "label": "y"}\n{"text": \n', r"a.jsonl line 2: not JSON"),
        ("a.jsonl", b'{"text": "x", "label": "y"}\n[1]\n', r"line 2: expected an object with columns, got list"),
        ("a.json", b'[{"text": "x", "label": "y"},\n 3]', r"member 2: expected an object"),
        ("a.json", b'[{"text": "x",\n "label" "y"}]', r"a.json line 2: not JSON"),
        ("a.csv", b'text,label\nx,y\n"open,y\nz,y\n', r"a.csv line 3: unexpected end of data"),
        ("a.csv", b'text,label\nx,y\n"a"b,y\n', r"a.csv line 3: .* expected after"),
        ("a.csv", b"text,label\nx,y\ncaf\xe9,y\n", r"a.csv line 3: byte 0xe9 is not utf-8; .*encoding=cp1252"),
        ("a.jsonl", b'{"text": "caf\xe9", "label": "y"}\n', r"a.jsonl line 1: byte 0xe9 is not utf-8"),
        ("a.parquet", b"PAR1 but not really", r"a.parquet: not Parquet, or damaged"),
        ("a.parquet", b"", r"a.parquet: not Parquet, or damaged"),
    ],
)
def test_an_unreadable_file_is_one_line_with_its_place(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _read(tmp_path / name, content)
    assert "\n" not in str(caught.value)


def test_ragged_rows_are_left_out_and_named(tmp_path: Path) -> None:
    rows, findings = _read(tmp_path / "a.csv", b"text,label\nx,y\none,two,three\nalone\n\nz,y\n")
    assert [row["text"] for row in rows] == ["x", "z"]
    assert findings == {"wrong number of cells": ["a.csv line 3", "a.csv line 4"]}


def test_other_encodings_by_option_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows, _ = _read(tmp_path / "a.csv", "text,label\ncafé,y\n".encode("cp1252"), Format(encoding="cp1252"))
    assert rows[0]["text"] == "café"
    rows, _ = _read(tmp_path / "a.csv", "\ufefftext,label\ncafé,y\n".encode())
    assert rows[0]["text"] == "café"
    with pytest.raises(DataError, match="unknown encoding: latin-9000"):
        _read(tmp_path / "a.csv", b"text,label\nx,y\n", Format(encoding="latin-9000"))


def test_nul_characters_do_not_stop_the_reader(tmp_path: Path) -> None:
    rows, _ = _read(tmp_path / "a.csv", b"text,label\na\x00b,y\n")
    assert rows[0]["text"] == "a\x00b"


def test_a_cell_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    rows, _ = _read(tmp_path / "a.csv", b"text,label\n" + b"x" * 300_000 + b",y\n")
    assert len(rows[0]["text"]) == 300_000
    assert csv.field_size_limit() == limit


def test_a_parquet_column_that_is_missing(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"txt": ["x"], "label": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'text'; did you mean txt\?"):
        _read(tmp_path / "a.parquet")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    with pytest.raises(DataError, match=r"no file or folder .*trian.csv'; did you mean train.csv\?"):
        find_sources(tmp_path / "trian.csv")
    with pytest.raises(DataError, match="there is no folder"):
        find_sources(tmp_path / "nowhere" / "train.csv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "found none of .csv"),
        (["a.csv", "b.csv"], "found a.csv, b.csv; name one file"),
        (["test.csv"], "no train file beside test.csv"),
        (["train.csv", "train.jsonl"], "both train.csv and train.jsonl could be the train split"),
        (["valid.csv", "dev.csv", "train.csv"], "could be the validation split"),
    ],
)
def test_a_folder_that_says_too_little_or_too_much(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        find_sources(tmp_path)


def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(DataError, match=r"cannot read .xlsx; known: .csv"):
        find_sources(tmp_path / "a.xlsx")


def test_one_file_in_a_folder_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "mail.csv").touch()
    assert find_sources(tmp_path)[0].path.name == "mail.csv"
    (tmp_path / "mail.csv").rename(tmp_path / "train.csv")
    assert find_sources(tmp_path)[0].split == ""  # nothing to test on: it is divided
