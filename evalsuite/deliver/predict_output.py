"""Predictions on disk: written chunk by chunk, complete or not there, and gone on with after a kill at any point.

Beside ``OUTPUT`` there are, while it grows, ``OUTPUT.partial`` with its lines and ``OUTPUT.position`` with how far they
count. Lines behind the position are cut off before more are written: no row is lost and none is there twice. Parquet,
which cannot be appended to, is made of JSON Lines at the end.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from evalsuite.errors import StoreError, UsageError
from evalsuite.store import plain, write_json, writing

Record = Mapping[str, Any]
SEPARATORS = (";", "|")
BLOCK_BYTES = 4_000_000  # of JSON Lines that become one row group of a Parquet file

# What a spreadsheet would run as a formula; a plain number is none.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Columns:
    """The columns of an output. ``probabilities``, ``raw``, ``id``: whether it has them. ``keep``: copied ones."""

    labels: tuple[str, ...]
    multilabel: bool
    probabilities: bool
    raw: bool
    id: bool
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        own = {*self._before, *self._after, "probabilities"}
        if taken := [name for name in self.keep if name in own]:
            raise UsageError(f"--keep {taken[0]}: the output has a column {taken[0]!r} of its own; rename yours")

    @property
    def label(self) -> str:
        """The name of the column that holds what was predicted."""
        return "labels" if self.multilabel else "label"

    @property
    def separator(self) -> str:
        """What stands between the labels of one CSV cell."""
        return separator_of(self.labels)

    @property
    def _before(self) -> list[str]:
        return ["row", *(["id"] if self.id else []), "status", "reason", self.label, "confidence"]

    @property
    def _after(self) -> list[str]:
        chances = [f"p_{label}" for label in self.labels] if self.probabilities else []
        return [*chances, *(["raw"] if self.raw else [])]

    @property
    def names(self) -> list[str]:
        """The columns of a table, in order; JSON Lines have one object ``probabilities`` instead of ``p_LABEL``."""
        return [*self._before, *self._after, *self.keep]

    def row(self, record: Record) -> list[Any]:
        """A record as the cells of ``names``, the labels still a list for multi-label."""
        chances = record.get("probabilities") or {}
        after = [chances.get(label) for label in self.labels] if self.probabilities else []
        raw = [record["raw"]] if self.raw else []
        return [*(record[name] for name in self._before), *after, *raw, *(record[name] for name in self.keep)]


def separator_of(labels: Iterable[str]) -> str:
    """What separates labels in a cell: the first of ``;`` and ``|`` that is in none of their names.

    Raises:
        UsageError: both are.
    """
    text = "".join(labels)
    for separator in SEPARATORS:
        if separator not in text:
            return separator
    raise UsageError("the label names hold both ; and |, so that no cell can hold several; use JSON Lines")


def guarded(cell: str) -> str:
    """Text that no spreadsheet runs: an apostrophe stands before a leading ``= + - @``, tab or carriage return."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unguarded(cell: str) -> str:
    """What :func:`guarded` was given."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell[1:]) else cell


def as_text(cell: Any) -> str | None:
    """A cell that is copied, for a column of text: JSON where it is a list or an object."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, list | dict | bool):
        return json.dumps(plain(cell), ensure_ascii=False, default=str)
    return str(cell)


class Lines(Protocol):
    """A text format: what stands first, and what a chunk of records adds."""

    def head(self) -> str: ...
    def body(self, records: Sequence[Record]) -> str: ...


@dataclass(frozen=True)
class JsonLines:
    """One object a line."""

    def head(self) -> str:
        return ""

    def body(self, records: Sequence[Record]) -> str:
        return "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)


@dataclass(frozen=True)
class Csv:
    """A header and one row a record; numbers are as they are, text is guarded."""

    columns: Columns
    delimiter: str = ","

    def head(self) -> str:
        return self._written([self.columns.names])

    def body(self, records: Sequence[Record]) -> str:
        return self._written(self.columns.row(record) for record in records)

    def _written(self, rows: Iterable[Sequence[Any]]) -> str:
        stream = io.StringIO()
        # Lines end as RFC 4180 has it: csv quotes a carriage return within a cell only where lines end in one.
        writer = csv.writer(stream, delimiter=self.delimiter, lineterminator="\r\n")
        writer.writerows([self._cell(cell) for cell in row] for row in rows)
        return stream.getvalue()

    def _cell(self, cell: Any) -> Any:
        if isinstance(cell, tuple):
            cell = self.columns.separator.join(cell)
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return cell
        return guarded(as_text(cell) or "")


def lines_of(form: str, columns: Columns) -> Lines:
    """How ``form`` is written while it grows."""
    if form in ("csv", "tsv"):
        if columns.multilabel:
            separator_of(columns.labels)  # refused now and not after the first chunk
        return Csv(columns, "\t" if form == "tsv" else ",")
    return JsonLines()


@dataclass
class Position:
    """How far an output is. ``digest``: of the input rows that are in it. ``counts``: rows by status and by reason."""

    request: Mapping[str, Any]
    rows: int = 0
    bytes: int = 0
    digest: str = ""
    status: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    finished: bool = False

    def count(self, records: Iterable[Record]) -> None:
        """Add records that were written."""
        for record in records:
            self.rows += 1
            self.status[record["status"]] += 1
            if record["reason"]:
                self.reasons[record["reason"].partition(":")[0]] += 1


class Output(Protocol):
    """Where chunks of records go. ``position`` says what is there already."""

    position: Position

    def begin(self) -> None: ...
    def write(self, records: Sequence[Record], digest: str) -> None: ...
    def finish(self) -> None: ...


@dataclass
class Stream:
    """Standard output: nothing to go on with."""

    lines: Lines
    position: Position

    def begin(self) -> None:
        """Print what stands first."""
        sys.stdout.write(self.lines.head())

    def write(self, records: Sequence[Record], digest: str) -> None:
        """Print a chunk."""
        # Half a surrogate pair can stand in a cell that is copied, and nowhere in UTF-8.
        sys.stdout.write(encoded(self.lines.body(records)).decode())
        sys.stdout.flush()
        self.position.count(records)

    def finish(self) -> None:
        """There is nothing left to do."""
        self.position.finished = True


def encoded(text: str) -> bytes:
    r"""UTF-8, with half a surrogate pair spelt as ``\ud800``: in JSON that is the same text again."""
    return text.encode("utf-8", "backslashreplace")


@dataclass
class File:
    """A file that grows beside its place, see the module's text; made by :func:`open_file`."""

    path: Path
    form: str
    columns: Columns
    position: Position

    @property
    def partial(self) -> Path:
        return beside(self.path, "partial")

    @property
    def lines(self) -> Lines:
        return lines_of(self.form, self.columns)

    def begin(self) -> None:
        """Cut off what the position does not count; an output that is new begins with its header."""
        if self.position.bytes == 0:
            self.partial.unlink(missing_ok=True)
            self._append(encoded(self.lines.head()))
        elif self.partial.stat().st_size < self.position.bytes:
            raise StoreError(f"{self.partial} was cut or changed; delete it to start again")
        else:
            os.truncate(self.partial, self.position.bytes)

    def write(self, records: Sequence[Record], digest: str) -> None:
        """Append a chunk, then move the position behind it."""
        size = self._append(encoded(self.lines.body(records)))
        self.position.count(records)
        self.position.bytes, self.position.digest = size, digest
        self._save()

    def finish(self) -> None:
        """Move the output to its place. Killed in between, the same call goes on."""
        self.position.finished = True
        self._save()
        if self.partial.exists():
            source = self.partial
            if self.form == "parquet":
                source = beside(self.path, "converted")
                with writing(source):
                    to_parquet(self.partial, source, self.columns)
            source.replace(self.path)
            self.partial.unlink(missing_ok=True)
        beside(self.path, "position").unlink()

    def _append(self, data: bytes) -> int:
        with writing(self.partial), self.partial.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            return stream.tell()

    def _save(self) -> None:
        with writing(self.path):
            write_json(beside(self.path, "position"), asdict(self.position))


def beside(path: Path, what: str) -> Path:
    """``OUTPUT.partial`` and the like."""
    return path.with_name(f"{path.name}.{what}")


@contextmanager
def open_file(path: Path, form: str, columns: Columns, request: Mapping[str, Any], overwrite: bool) -> Iterator[File]:
    """The output at ``path``, as far as the same ``request`` has come before, held for this process alone.

    ``overwrite`` replaces an output that is complete, and gives up an unfinished one of another request.

    Raises:
        UsageError: there is a complete output, or an unfinished one of another request.
        StoreError: the place cannot be written, or another process writes it.
    """
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {path.parent}")
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        with writing(path):
            lock.acquire()
    except Timeout:
        raise StoreError(f"{path} is being written by another process; wait for it to end") from None
    try:
        position = _found_position(path, request, overwrite) or Position(request)
        if path.exists() and not position.rows and not position.finished and not overwrite:
            raise UsageError(f"{path} is there already; add --overwrite to replace it")
        yield File(path, form, columns, position)
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _found_position(path: Path, request: Mapping[str, Any], overwrite: bool) -> Position | None:
    place = beside(path, "position")
    if not place.is_file() or not (beside(path, "partial").exists() or path.exists()):
        return None
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
        position = Position(
            **{**data, "status": Counter(data["status"]), "reasons": Counter(data["reasons"])},
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"cannot read {place}: {error}; delete it to start again") from None
    if not position.finished and not beside(path, "partial").exists():
        return None
    if position.request == plain(request):
        return position
    if overwrite:
        return None
    differs = [name for name, value in plain(request).items() if position.request.get(name) != value]
    raise UsageError(
        f"{path} was begun with another {', '.join(differs)} ({position.rows:,} rows are there); give the same again, "
        "or add --overwrite to start over"
    )


def to_parquet(source: Path, target: Path, columns: Columns) -> None:
    """Records in JSON Lines as a Parquet table, one row group for some megabytes of lines; memory stays constant."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {"row": pa.int64(), "confidence": pa.float64()}
    kinds = {**numbers, **dict.fromkeys((f"p_{label}" for label in columns.labels), pa.float64())}
    if columns.multilabel:
        kinds["labels"] = pa.list_(pa.string())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns.names])
    copied = {"id", *columns.keep}
    with source.open(encoding="utf-8") as stream, pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for lines in iter(lambda: stream.readlines(BLOCK_BYTES), []):
            rows = zip(*(columns.row(json.loads(line)) for line in lines), strict=True)
            table = {
                name: [_parquet_text(cell) for cell in cells] if name in copied else list(cells)
                for name, cells in zip(columns.names, rows, strict=True)
            }
            writer.write_table(pa.table(table, schema))


def _parquet_text(cell: Any) -> str | None:
    text = as_text(cell)
    return None if text is None else encoded(text).decode()
