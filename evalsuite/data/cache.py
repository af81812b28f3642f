"""Parsed documents kept as an Arrow file, so that a corpus of many small files is parsed once.

The file is named by what it was made from (names, sizes and times of the source files, reading options, version), is
written beside its place and moved there, and is mapped, not loaded: texts stay on disk until they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from evalsuite.data.documents import Corpus, Document, Findings
from evalsuite.data.splits import text_hash
from evalsuite.errors import StoreError

BATCH = 4_000_000
"""Characters of text held in memory while the file is written."""

COLUMNS = ("id", "text", "labels", "split", "date", "hash")


class ArrowTexts(Sequence[str]):
    """A string column of a mapped Arrow file, read where it is touched."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._column[index].to_pylist() if isinstance(index, slice) else self._column[index].as_py()

    def __iter__(self) -> Iterator[str]:
        for batch in self._column.chunks:  # a batch at a time: one call a text takes ten times as long
            yield from batch.to_pylist()


class SourceFiles(NamedTuple):
    """The files of a corpus by column: path, bytes, and modification time in ns.

    A tuple for each of many thousand files would keep the garbage collector busy for as long as listing them takes.
    """

    paths: list[str]
    sizes: list[int]
    times: list[int]


def source_key(files: SourceFiles, *options: object) -> str:
    """A name for what is parsed: the files as they are now, and whatever changes parsing."""
    named = "\0".join([repr(options), *files.paths])
    digest = hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=16)
    digest.update(np.array([files.sizes, files.times], np.int64).tobytes())
    return digest.hexdigest()


def cached_corpus(cache: Path, key: str, read: Callable[[Findings], Iterable[Document]]) -> Corpus:
    """The corpus kept under ``key``, which ``read(findings)`` makes the first time, or again where the file is damaged.

    Raises:
        StoreError: the cache cannot be written.
    """
    path = cache / "documents" / f"{key}.arrow"
    if corpus := _open(path):
        return corpus
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, building = tempfile.mkstemp(prefix=f".{key}-", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise StoreError(f"cannot write the document cache {path.parent}: {error.strerror or error}") from error
    try:
        _write(Path(building), read)
        Path(building).replace(path)
    except OSError as error:
        raise StoreError(f"cannot write the document cache {path}: {error.strerror or error}") from error
    finally:
        Path(building).unlink(missing_ok=True)
    corpus = _open(path)
    if corpus is None:
        raise StoreError(f"the document cache {path} cannot be read back; is the disk full or failing?")
    return corpus


def _write(path: Path, read: Callable[[Findings], Iterable[Document]]) -> None:
    import pyarrow as pa

    text = pa.string()
    types = [text, text, pa.list_(text), text, text, text]
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    findings: Findings = {}
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in _batches(read(findings)):
            columns = [
                [document.id for document in batch],
                [document.text for document in batch],
                [document.labels for document in batch],
                [document.split for document in batch],
                [document.date for document in batch],
                [text_hash(document.text) for document in batch],
            ]
            arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
        # The findings are known last: an empty batch carries them, so that the file is one piece.
        empty = pa.record_batch([pa.array([], kind) for kind in types], schema=schema)
        writer.write_batch(empty, custom_metadata={"findings": json.dumps(findings)})


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _open(path: Path) -> Corpus | None:
    """The corpus in a complete file; None where there is none, and where it is damaged (which removes it)."""
    import pyarrow as pa

    if not path.is_file():
        return None
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        findings = json.loads(last.custom_metadata["findings"])
        table = reader.read_all()
        labels = list(_label_tuples(table["labels"]))
        ids, splits, dates, hashes = (table[name].to_pylist() for name in ("id", "split", "date", "hash"))
        return Corpus(ids, ArrowTexts(table["text"]), labels, splits, dates, hashes, findings)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        path.unlink(missing_ok=True)
        return None


def _label_tuples(column: Any) -> Iterator[tuple[str, ...]]:
    """The rows of a column of lists; a list for each would keep the garbage collector busy, as in ``SourceFiles``."""
    for part in column.chunks:
        names = iter(part.flatten().to_pylist())
        for count in part.value_lengths().to_pylist():
            yield tuple(islice(names, count))
