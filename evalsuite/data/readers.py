"""Rows of CSV, TSV, JSONL, JSON, Parquet and hub datasets, as mappings from column to cell.

A file that cannot be read is a ``DataError`` that names the file and, for text formats, the line. A row that does not
fit its file (a wrong number of cells) is left out and noted in the findings.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.data.documents import SPLIT_NAMES, Findings, note
from evalsuite.errors import DataError, nearest

Row = Mapping[str, Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True)
class Source:
    """One file of rows. split: "train", "validation", "test", or "" where the file does not say."""

    path: Path
    split: str = ""


@dataclass(frozen=True)
class Format:
    """How text files are written. ``header``: the column names of a CSV file whose first row is data already."""

    encoding: str = "utf-8"
    delimiter: str = ""
    header: tuple[str, ...] = ()


def find_sources(path: Path) -> list[Source]:
    """The files that ``path`` stands for: itself, or ``train.*``, ``validation.*`` and ``test.*`` in a folder.

    A split may be in numbered parts (``train-00000-of-00002.parquet``). A folder with one readable file and no such
    names is that file. Raises ``DataError`` where nothing, or more than one thing, could be meant.
    """
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{path}: cannot read {path.suffix or 'a file without suffix'}; known: {', '.join(SUFFIXES)}"
            )
        return [Source(path)]
    if not path.is_dir():
        raise DataError(f"no file or folder {str(path)!r}{_neighbour(path)}")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    found: dict[str, list[Path]] = {}
    for file in files:
        stem = re.sub(r"-\d+-of-\d+$", "", file.stem).lower()
        if stem in SPLIT_NAMES:
            found.setdefault(SPLIT_NAMES[stem], []).append(file)
    for split, parts in found.items():
        if len(parts) > 1 and not all(re.search(r"-\d+-of-\d+$", part.stem) for part in parts):
            names = " and ".join(part.name for part in parts)
            raise DataError(f"{path}: both {names} could be the {split} split; name one file")
    if found and "train" not in found:
        raise DataError(f"{path}: no train file beside {', '.join(file.name for file in files)}")
    if found:
        sources = [Source(part, split) for split, parts in found.items() for part in parts]
        return sources if len(sources) > 1 else [Source(sources[0].path)]
    if len(files) != 1:
        seen = (
            f"found {', '.join(file.name for file in files[:6])}" if files else f"found none of {', '.join(SUFFIXES)}"
        )
        raise DataError(f"{path}: expected train.*, test.* and perhaps validation.*, {seen}; name one file")
    return [Source(files[0])]


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {str(path.parent)!r} either"
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in SUFFIXES]
    return f"; {nearest(path.name, names)}" if names else ""


def read_rows(path: Path, columns: Sequence[str], form: Format, findings: Findings) -> Iterator[tuple[int, Row]]:
    """Numbered rows (from 1) of one file, each with at least ``columns`` where the file has them.

    Raises:
        DataError: the file is empty, lacks one of ``columns``, or cannot be read as what its suffix says.
    """
    readers: dict[str, Callable[[Path, Sequence[str], Format, Findings], Iterator[tuple[int, Row]]]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    rows = readers.get(path.suffix.lower(), _read_json)(path, columns, form, findings)
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} line {_undecodable_line(path, form.encoding)}: byte 0x{error.object[error.start]:02x} is not "
            f"{form.encoding}; name the file's encoding, for instance encoding=cp1252"
        ) from error
    except LookupError as error:  # an encoding that Python does not know
        raise DataError(f"{path}: {error}; known encodings are utf-8, latin-1, cp1252, utf-16 and others") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _undecodable_line(path: Path, encoding: str) -> int:
    number = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):  # noqa: B007 - the number is the result
            try:
                line.decode(encoding)
            except UnicodeDecodeError:
                break
    return number


def check_columns(wanted: Sequence[str], present: Sequence[str], where: str) -> None:
    """Raises ``DataError``, with the nearest column, for the first of ``wanted`` that is not ``present``."""
    for name in wanted:
        if name not in present:
            raise DataError(f"{where} has no column {name!r}; {nearest(name, present)}")


def _read_csv(path: Path, columns: Sequence[str], form: Format, findings: Findings) -> Iterator[tuple[int, Row]]:
    delimiter = form.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    encoding = "utf-8-sig" if form.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else form.encoding
    limit = csv.field_size_limit(2**31 - 1)  # patent descriptions exceed the default of 131,072 characters
    try:
        with path.open(encoding=encoding, newline="") as handle:
            # strict: otherwise a quote that is never closed swallows the rest of the file as one cell.
            cells = csv.reader(handle, delimiter=delimiter, strict=True)
            header = list(form.header) or next((row for row in cells if row), [])
            if not header:
                raise DataError(f"{path} is empty; expected a header and rows")
            check_columns(columns, header, str(path))
            yield from _csv_rows(path, cells, header, findings)
    finally:
        csv.field_size_limit(limit)


def _csv_rows(path: Path, cells: Any, header: list[str], findings: Findings) -> Iterator[tuple[int, Row]]:
    number, line = 0, cells.line_num
    while True:
        try:
            row = next(cells, None)
        except csv.Error as error:
            raise DataError(f"{path} line {line + 1}: {error}; quotes inside a quoted cell must be doubled") from error
        line = cells.line_num
        if row is None:
            return
        if not row:
            continue
        number += 1
        if len(row) == len(header):
            yield number, dict(zip(header, row, strict=True))
        else:
            note(findings, "wrong number of cells", f"{path.name} line {line}")


def _read_json(path: Path, columns: Sequence[str], form: Format, findings: Findings) -> Iterator[tuple[int, Row]]:
    number = 0
    for number, (where, value) in enumerate(_json_values(path, form.encoding), 1):
        if not isinstance(value, dict):
            raise DataError(f"{where}: expected an object with columns, got {type(value).__name__}")
        if number == 1:
            check_columns(columns, list(value), where)
        yield number, value
    if not number:
        raise DataError(f"{path} is empty; expected one JSON object a line")


def _json_values(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    """Values with the place they came from: one a line, or the members of one array that fills the file."""
    with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding) as handle:
        for line_number, line in enumerate(handle, 1):
            where = f"{path} line {line_number}"
            if not line.strip():
                continue
            if line_number == 1 and line.lstrip().startswith("["):
                try:
                    members = json.loads(line + handle.read())
                except json.JSONDecodeError as error:
                    raise DataError(f"{path} line {error.lineno}: not JSON ({error.msg})") from error
                yield from ((f"{path} member {index}", member) for index, member in enumerate(members, 1))
                return
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
            yield where, value


def _read_parquet(path: Path, columns: Sequence[str], form: Format, findings: Findings) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(columns, file.schema_arrow.names, str(path))
            if not file.metadata.num_rows:
                raise DataError(f"{path} is empty; expected rows")
            batches = file.iter_batches(columns=list(columns))
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not Parquet, or damaged ({str(error).splitlines()[0]})") from error
