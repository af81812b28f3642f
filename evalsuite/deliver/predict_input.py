"""Rows of a CSV, JSON Lines or Parquet file or stream, one by one: every row comes out, also those that are broken."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from evalsuite.data.readers import check_columns
from evalsuite.errors import DataError, OptionError, UnknownNameError

STREAM = "-"
FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
LONGEST_CELL = 10_000_000
"""Characters; a cell that is longer, such as the rest of a file behind a quote that nobody closed, is no text."""
PEEKED_ROWS = 100  # of JSON Lines, whose columns stand in no header
BATCH_ROWS = 1_000


@dataclass(frozen=True)
class Row:
    """One row of a table. ``number`` counts from 1. ``problem`` says why it cannot be read; it has no cells then."""

    number: int
    cells: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class TextRow:
    """One row to predict. ``text`` is "" where ``problem`` says why there is none. ``kept``: column -> cell."""

    number: int
    id: Any
    text: str
    problem: str
    kept: Mapping[str, Any]


@dataclass(frozen=True)
class InputColumns:
    """Which columns hold what. ``text``: several are joined by ``joiner``. ``keep``: those that are copied."""

    text: tuple[str, ...] = ("text",)
    id: str | None = None
    keep: tuple[str, ...] = ()
    joiner: str = "\n"

    @property
    def all(self) -> list[str]:
        return [*self.text, *([self.id] if self.id else []), *self.keep]


def format_of(place: str, named: str | None, flag: str) -> str:
    """ "csv", "tsv", "jsonl" or "parquet": as ``named`` by ``flag``, else by the suffix; JSON Lines for a stream.

    Raises:
        UnknownNameError: another name.
        OptionError: a suffix that says nothing, or Parquet through a stream.
    """
    if named is not None and named not in FORMATS.values():
        raise UnknownNameError("format", named, set(FORMATS.values()), f"given by {flag}")
    form = named or ("jsonl" if place == STREAM else FORMATS.get(Path(place).suffix.lower()))
    if form is None:
        raise OptionError(f"{place}: its suffix names no format ({', '.join(FORMATS)}); say which with {flag}")
    if form == "parquet" and place == STREAM:
        raise OptionError("Parquet cannot be read or written in a stream; name a file instead of -")
    return form


def read_rows(place: str, form: str, columns: Sequence[str] = (), encoding: str = "utf-8") -> Iterator[Row]:
    """The rows of ``place``, a file or ``-`` for stdin, in constant memory. Blank lines are no rows.

    Raises:
        DataError: no such file, one without any of ``columns``, or one that is not what ``form`` says.
    """
    if form == "parquet":
        return _parquet_rows(Path(place), columns)
    return _text_rows(place, form, columns, encoding)


def text_rows(rows: Iterable[Row], columns: InputColumns) -> Iterator[TextRow]:
    """Each row's text, its id and what is copied of it; or what is wrong with it."""
    for row in rows:
        text, problem = ("", row.problem) if row.problem else _text(row.cells, columns)
        kept = {name: row.cells.get(name) for name in columns.keep}
        yield TextRow(row.number, row.cells.get(columns.id) if columns.id else None, text, problem, kept)


def _text(cells: Mapping[str, Any], columns: InputColumns) -> tuple[str, str]:
    """A row's text and "", or "" and what is wrong with it. Numbers are read as they are written, as in training."""
    parts = []
    for name in columns.text:
        cell = cells.get(name)
        if is_missing(cell):
            continue
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            return "", f"text is not a string: {type(cell).__name__}"
        parts.append(cell_text(cell))
    text = columns.joiner.join(parts)
    if not any(part.strip() for part in parts):
        return "", "empty text" if parts else "no text"
    if "\0" in text:
        return "", "NUL character in the text"
    if len(text) > LONGEST_CELL:
        return "", f"text too long: {len(text):,} characters, at most {LONGEST_CELL:,} are read"
    return ("", "text is not valid Unicode") if not _is_unicode(text) else (text, "")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, or a byte that was not of the encoding
        return False
    return True


def is_missing(cell: Any) -> bool:
    """Null, or the NaN that some writers put in its place."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def cell_text(cell: Any) -> str:
    """A cell as text; 3.0, which is how tables with gaps store the number 3, is "3"."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell if isinstance(cell, str) else str(cell)


def _text_rows(place: str, form: str, columns: Sequence[str], encoding: str) -> Iterator[Row]:
    with _opened(place, encoding) as stream:
        if form == "jsonl":
            yield from _json_rows(stream, columns, place)
        else:
            yield from _csv_rows(stream, columns, place, "\t" if form == "tsv" else ",")


@contextmanager
def _opened(place: str, encoding: str) -> Iterator[TextIO]:
    """Text in which a byte that is not of the encoding stands as half a surrogate: its row alone is broken."""
    encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        if place == STREAM:
            stream: io.TextIOWrapper = io.TextIOWrapper(sys.stdin.buffer, encoding, "surrogateescape", newline="")
        else:
            stream = open(place, encoding=encoding, errors="surrogateescape", newline="")  # noqa: PTH123, SIM115
    except LookupError as error:
        raise DataError(f"{place}: {error}; known encodings are utf-8, latin-1, cp1252, utf-16 and others") from None
    except OSError as error:
        raise DataError(f"cannot read {place}: {error.strerror or error}") from None
    try:
        yield stream
    except UnicodeDecodeError as error:  # of encodings that have no place for a wrong byte, such as UTF-16
        raise DataError(f"{place} is not {encoding}: {error.reason}; name the encoding with --encoding") from None
    finally:
        if place == STREAM:
            stream.detach()  # the process's own stdin stays open
        else:
            stream.close()


def _json_rows(stream: TextIO, columns: Sequence[str], place: str) -> Iterator[Row]:
    rows = (_json_row(number, line) for number, line in enumerate(filter(str.strip, stream), 1))
    first = list(islice(rows, PEEKED_ROWS))
    objects = [row for row in first if not row.problem]
    if first and not objects:
        raise DataError(f"{place}: none of its first rows is a JSON object ({first[0].problem}); is it JSON Lines?")
    if objects:
        check_columns(columns, list(dict.fromkeys(name for row in objects for name in row.cells)), place)
    yield from chain(first, rows)


def _json_row(number: int, line: str) -> Row:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(number, {}, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # a number of too many digits, brackets in too many brackets
        return Row(number, {}, f"not JSON: {error}")
    if not isinstance(value, dict):
        return Row(number, {}, f"not a JSON object: {type(value).__name__}")
    return Row(number, value)


class _Tape:
    """Lines that can be given back: a quote that is never closed takes the rest of the file for one cell."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._ahead = iter(lines), deque[str]()
        self.taken: list[str] = []

    def __iter__(self) -> _Tape:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """All lines of the record but its first one are still to be read."""
        self._ahead.extendleft(reversed(self.taken[1:]))


def _csv_rows(stream: TextIO, columns: Sequence[str], place: str, delimiter: str) -> Iterator[Row]:
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        records = _records(_Tape(stream), delimiter)
        header, problem = next(records, ([], ""))
        if problem or not header:
            raise DataError(f"{place}: no header of column names ({problem or 'it is empty'})")
        check_columns(columns, header, place)
        if twice := [name for name in columns if header.count(name) > 1]:
            raise DataError(f"{place} has column {twice[0]!r} twice; rename one of them")
        for number, (cells, problem) in enumerate(records, 1):
            if not problem and len(cells) != len(header):
                problem = f"wrong number of cells: {len(cells)}, expected {len(header)}"
            yield Row(number, {} if problem else dict(zip(header, cells, strict=True)), problem)
    finally:
        csv.field_size_limit(limit)


def _records(tape: _Tape, delimiter: str) -> Iterator[tuple[list[str], str]]:
    """The cells of each record, or none and what is wrong: the record is its first line then, and no more."""
    # strict: otherwise a wrong quote is repaired by guessing.
    reader = csv.reader(tape, delimiter=delimiter, strict=True)
    while True:
        tape.taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            tape.give_back()
            yield [], f"not CSV: {error}"
            continue
        if cells:
            yield cells, ""


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(columns, file.schema_arrow.names, str(path))
            batches = file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns)) or None)
            cells = (cells for batch in batches for cells in batch.to_pylist())
            yield from (Row(number, row) for number, row in enumerate(cells, 1))
    except pa.ArrowException as error:
        raise DataError(f"{path}: not Parquet, or damaged ({str(error).splitlines()[0]})") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def row_estimate(place: str, form: str) -> int:
    """About how many rows a file has, for a bar: lines that break inside a cell count twice. 0 for a stream."""
    if place == STREAM:
        return 0
    if form == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(place).num_rows)
    with Path(place).open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
