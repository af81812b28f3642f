"""Every row of an input comes out, whatever is wrong with it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.deliver import predict_input
from evalsuite.deliver.predict_input import InputColumns, TextRow, format_of, read_rows, row_estimate, text_rows
from evalsuite.errors import DataError, OptionError, UnknownNameError

WITH_ID = InputColumns(id="id")


def rows_of(path: Path, columns: InputColumns = WITH_ID, encoding: str = "utf-8") -> list[TextRow]:
    form = format_of(str(path), None, "--input_format")
    return list(text_rows(read_rows(str(path), form, columns.all, encoding), columns))


def told(rows: list[TextRow]) -> list[tuple[int, Any, str]]:
    """Number, id, and the text or what is wrong."""
    return [(row.number, row.id, row.problem or row.text) for row in rows]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_broken_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "text": "fine"}',
        '{"id": 2}',
        '{"id": 3, "text": null}',
        '{"id": 4, "text": NaN}',
        '{"id": 5, "text": ["a"]}',
        '{"id": 6, "text": true}',
        '{"id": 7, "text": 17.0}',
        '{"id": 8, "text": "cut off',
        "[9]",
        '{"id": 10, "text": "nul \\u0000 here"}',
        '{"id": 11, "text": "half a pair \\ud800"}',
        '{"id": 12, "text": " \\t"}',
        "",
        '{"id": 13, "text": "fine too"}',
    ]
    assert told(rows_of(write(tmp_path / "in.jsonl", "\n".join(lines)))) == [
        (1, 1, "fine"),
        (2, 2, "no text"),
        (3, 3, "no text"),
        (4, 4, "no text"),
        (5, 5, "text is not a string: list"),
        (6, 6, "text is not a string: bool"),
        (7, 7, "17"),
        (8, None, "not JSON: Invalid control character at at column 27"),
        (9, None, "not a JSON object: list"),
        (10, 10, "NUL character in the text"),
        (11, 11, "text is not valid Unicode"),
        (12, 12, "empty text"),
        (13, 13, "fine too"),
    ]


def test_broken_csv_rows(tmp_path: Path) -> None:
    lines = [
        "id,text",
        "1,fine",
        "2",
        "3,too,many",
        '4,"a ""quoted"" one, over',
        'two lines"',
        '5,"wrong"quote',
        "6,",
        "",
    ]
    path = write(tmp_path / "in.csv", "\n".join(lines).encode() + b"7,na\xefve\n8,nul\0\n")
    assert told(rows_of(path)) == [
        (1, "1", "fine"),
        (2, None, "wrong number of cells: 1, expected 2"),
        (3, None, "wrong number of cells: 3, expected 2"),
        (4, "4", 'a "quoted" one, over\ntwo lines'),
        (5, None, "not CSV: ',' expected after '\"'"),
        (6, "6", "empty text"),
        (7, "7", "text is not valid Unicode"),
        (8, "8", "NUL character in the text"),
    ]


@pytest.mark.parametrize("later", ['9,"fine"', "9,fine"], ids=["a quote follows", "none follows"])
def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path, later: str) -> None:
    """Otherwise the rest of the file would be one cell."""
    path = write(tmp_path / "in.csv", f'id,text\n1,fine\n2,"open\n3,three\n\n4,four\n{later}\n')
    rows = told(rows_of(path))
    assert [row[1:] for row in rows if row[0] != 2] == [("1", "fine"), ("3", "three"), ("4", "four"), ("9", "fine")]
    assert rows[1][2].startswith("not CSV")


def test_a_million_characters_are_read_and_ten_million_are_not(tmp_path: Path) -> None:
    """csv's own limit is 131,072 characters."""
    long, longer = "a" * 1_000_000, "b" * 10_000_001
    rows = rows_of(write(tmp_path / "in.csv", f"id,text\n1,{long}\n2,{longer}\n3,fine\n"))
    assert [(len(row.text), row.problem) for row in rows] == [
        (1_000_000, ""),
        (0, "not CSV: field larger than field limit (10000000)"),
        (4, ""),
    ]
    (row,) = rows_of(write(tmp_path / "in.jsonl", json.dumps({"id": 1, "text": longer})))
    assert row.problem == "text too long: 10,000,001 characters, at most 10,000,000 are read"


def test_csv_is_read_as_it_is_found_again(tmp_path: Path) -> None:
    """The limit on cells is the process's, not the reader's."""
    import csv

    before = csv.field_size_limit()
    rows_of(write(tmp_path / "in.csv", "id,text\n1,fine\n"))
    assert csv.field_size_limit() == before


def test_parquet_rows(tmp_path: Path) -> None:
    texts = ["fine", None, "nul \0", ""]
    pq.write_table(pa.table({"id": [1, 2, 3, 4], "text": texts, "other": [0] * 4}), tmp_path / "in.parquet")
    assert told(rows_of(tmp_path / "in.parquet")) == [
        (1, 1, "fine"),
        (2, 2, "no text"),
        (3, 3, "NUL character in the text"),
        (4, 4, "empty text"),
    ]


def test_several_columns_are_one_text(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", "title,body\nA,b\n,b\n,\n")
    rows = rows_of(path, InputColumns(("title", "body"), joiner=" - "))
    assert [row.text or row.problem for row in rows] == ["A - b", " - b", "empty text"]


def test_a_tab_separates_and_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "in.tsv", "id\ttext\n1\tnaïve, quite\n".encode("cp1252"))
    assert told(rows_of(path, encoding="cp1252")) == [(1, "1", "naïve, quite")]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert told(rows_of(write(tmp_path / "in.csv", b"\xef\xbb\xbfid,text\n1,fine\n"))) == [(1, "1", "fine")]


@pytest.mark.parametrize(
    ("name", "content"),
    [("in.csv", "id,txet\n1,a\n"), ("in.jsonl", '{"id": 1, "txet": "a"}\nnot json\n'), ("in.parquet", None)],
)
def test_a_missing_column_names_the_nearest(tmp_path: Path, name: str, content: str | None) -> None:
    if content is None:
        pq.write_table(pa.table({"id": [1], "txet": ["a"]}), tmp_path / name)
    else:
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=r"no column 'text'; did you mean txet\?"):
        rows_of(tmp_path / name)


def test_json_objects_may_leave_out_what_is_null(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", '{"id": 1}\n{"id": 2, "text": "fine"}\n')
    assert told(rows_of(path)) == [(1, 1, "no text"), (2, 2, "fine")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "", "no header"),
        ("in.csv", "text,text\na,b\n", "twice"),
        ("in.jsonl", "text\nfine\n", "none of its first rows is a JSON object"),
        ("in.parquet", "text\nfine\n", "not Parquet, or damaged"),
        ("in.csv", b"\xff\xfet\0e\0", "no column 'text'"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(write(tmp_path / name, content), InputColumns())


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl", "none.parquet"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="No such file"):
        rows_of(tmp_path / name)


def test_an_unknown_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="known encodings are utf-8"):
        rows_of(write(tmp_path / "in.csv", "text\na\n"), encoding="utf-88")


def test_stdin_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b'{"text": "fine"}\n'))
    monkeypatch.setattr(predict_input.sys, "stdin", stream)
    assert [row.cells for row in read_rows("-", "jsonl")] == [{"text": "fine"}]
    assert not stream.buffer.closed


def test_formats() -> None:
    assert [format_of(name, None, "") for name in ("a.CSV", "a.tsv", "a.ndjson", "a.parquet", "-")] == [
        "csv",
        "tsv",
        "jsonl",
        "parquet",
        "jsonl",
    ]
    assert format_of("a.txt", "csv", "") == "csv"
    with pytest.raises(OptionError, match=r"a.txt: its suffix names no format .* say which with --input_format"):
        format_of("a.txt", None, "--input_format")
    with pytest.raises(UnknownNameError, match=r"unknown format 'jsnol'; did you mean jsonl\?"):
        format_of("a.csv", "jsnol", "--input_format")
    with pytest.raises(OptionError, match="stream"):
        format_of("-", "parquet", "--input_format")


def test_an_estimate_for_the_bar(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "in.parquet")
    assert row_estimate(str(tmp_path / "in.parquet"), "parquet") == 2
    assert row_estimate(str(write(tmp_path / "in.jsonl", "1\n2\n3\n")), "jsonl") == 3
    assert row_estimate("-", "jsonl") == 0
