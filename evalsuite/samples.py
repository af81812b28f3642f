"""One row a scored document: what was expected, what was said, how sure.

Small tables are ``samples_<task>.jsonl`` (lm-eval's name), large ones ``predictions.parquet``, with the same columns.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools
from evalsuite.errors import StoreError
from evalsuite.spec import ScoredSplit

PARQUET = "predictions.parquet"
# Above this many probabilities a JSONL table is slow to read and tens of megabytes large.
MOST_CELLS_IN_JSONL = 500_000
# Of a table that is being written or read, this much is held as rows.
CELLS_OF_A_BLOCK = 100_000
ROWS_OF_A_BATCH = 1_000
READ = frozenset({"doc_id", "split", "doc_hash", "target", "prediction", "probabilities", "status"})


@dataclass(frozen=True)
class Samples:
    """The scored documents of a run: n documents, k labels.

    ``probabilities`` [n, k] is None where the method gives none; the row of a document without a valid answer says
    nothing, is written as null and read back as NaN. ``split``: the one that the documents come from.
    """

    ids: tuple[str, ...]
    hashes: tuple[str, ...]
    gold: Bools
    predicted: Bools
    probabilities: npt.NDArray[np.float64] | None
    status: tuple[str, ...]
    labels: tuple[str, ...]
    split: ScoredSplit = "test"


def write_samples(
    directory: Path, task: str, samples: Samples, texts: Sequence[str] | None, raw: Sequence[str] | None
) -> Path:
    """Write the table of a scored split. ``texts`` and ``raw`` answers are None where the task is private.

    Rows are made and written a block at a time: beside the samples themselves, no memory grows with their number.
    """
    blocks = _blocks(samples, texts, raw)
    if samples.gold.size <= MOST_CELLS_IN_JSONL:
        path = directory / f"samples_{task}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for rows in blocks:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return path
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / PARQUET
    schema = _schema(texts is not None, raw is not None).with_metadata({"labels": json.dumps(samples.labels)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in blocks:
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return path


def _blocks(samples: Samples, texts: Sequence[str] | None, raw: Sequence[str] | None) -> Iterator[list[dict[str, Any]]]:
    n, k = samples.gold.shape
    size = max(1, CELLS_OF_A_BLOCK // k)
    for start in range(0, n, size):
        block = range(start, min(n, start + size))
        given = samples.probabilities
        rounded = [None] * len(block) if given is None else given[start : start + size].round(6).tolist()
        yield [_row(number, samples, chances, texts, raw) for number, chances in zip(block, rounded, strict=True)]


def _row(
    number: int,
    samples: Samples,
    chances: list[float] | None,
    texts: Sequence[str] | None,
    raw: Sequence[str] | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "doc_id": samples.ids[number],
        "split": samples.split,
        "doc_hash": samples.hashes[number],
        "target": [samples.labels[index] for index in np.flatnonzero(samples.gold[number])],
        "prediction": [samples.labels[index] for index in np.flatnonzero(samples.predicted[number])],
        "probabilities": chances if samples.status[number] == "ok" else None,
        "status": samples.status[number],
    }
    if texts is not None:
        row["doc"] = {"text": texts[number]}
    if raw is not None:
        row["resps"] = [raw[number]]
    return row


def _schema(texts: bool, raw: bool) -> Any:
    import pyarrow as pa

    text = pa.string()
    columns = dict.fromkeys(("doc_id", "split", "doc_hash"), text)
    columns |= {"target": pa.list_(text), "prediction": pa.list_(text), "probabilities": pa.list_(pa.float64())}
    columns |= {"status": text}
    columns |= {"doc": pa.struct({"text": text})} if texts else {}
    columns |= {"resps": pa.list_(text)} if raw else {}
    return pa.schema(list(columns.items()))


def read_samples(directory: Path, labels: Sequence[str]) -> Samples:
    """Read back what ``write_samples`` wrote; ``labels`` is the label order of the run's ``results.json``.

    Raises:
        StoreError: there is no table of predictions in ``directory``.
    """
    k, place = len(labels), {label: index for index, label in enumerate(labels)}
    ids, hashes, status, splits = list[str](), list[str](), list[str](), set[str]()
    # Flat and one byte or one number a cell: the rows themselves take ten times the memory.
    gold, predicted, probabilities, unknown = bytearray(), bytearray(), array("d"), array("d", [math.nan] * k)
    given = False
    for row in _rows(directory, READ):
        # Interned: the runs of a comparison share their documents.
        ids.append(sys.intern(row["doc_id"]))
        hashes.append(sys.intern(row["doc_hash"]))
        status.append(sys.intern(row["status"]))
        splits.add(row.get("split", "test"))
        for table, names in ((gold, row["target"]), (predicted, row["prediction"])):
            table += bytes(k)
            for name in names:
                table[place[name] - k] = 1
        chances = row["probabilities"]
        given = given or chances is not None
        probabilities.extend(unknown if chances is None else chances)
    return Samples(
        ids=tuple(ids),
        hashes=tuple(hashes),
        gold=np.frombuffer(gold, np.bool_).reshape(-1, k),
        predicted=np.frombuffer(predicted, np.bool_).reshape(-1, k),
        probabilities=np.frombuffer(probabilities).reshape(-1, k) if given else None,
        status=tuple(status),
        labels=tuple(labels),
        split=cast(ScoredSplit, splits.pop() if splits else "test"),
    )


def difference(first: Samples, second: Samples) -> str | None:
    """The first way in which two runs did not score the same documents by the same labels; None where they did."""
    if first.labels != second.labels:
        return f"they have other labels, or in another order: {_where(first.labels, second.labels, 'label')}"
    if first.hashes != second.hashes:
        counts = f"({len(first.hashes):,} and {len(second.hashes):,})"
        return f"they scored other documents {counts}: {_where(first.hashes, second.hashes, 'document')}"
    if (rows := np.flatnonzero((first.gold != second.gold).any(axis=1))).size:
        row = int(rows[0])
        gold = [
            [labels[place] for place in np.flatnonzero(table[row])]
            for labels, table in ((first.labels, first.gold), (second.labels, second.gold))
        ]
        return f"document {row + 1} ({first.ids[row]}) is labelled {gold[0]} and {gold[1]}"
    return None


def _where(first: Sequence[str], second: Sequence[str], kind: str) -> str:
    """The first place at which two sequences differ."""
    pairs = enumerate(zip(first, second, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
    names = [repr(names[place]) if place < len(names) else "none" for names in (first, second)]
    return f"{kind} {place + 1} is {names[0]} and {names[1]}"


def _rows(directory: Path, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table one by one, in their order; at least the ``columns`` that it has."""
    if (directory / PARQUET).is_file():
        import pyarrow.parquet as pq

        with pq.ParquetFile(directory / PARQUET) as file:
            there = [name for name in file.schema_arrow.names if name in columns]
            for batch in file.iter_batches(ROWS_OF_A_BATCH, columns=there):
                yield from batch.to_pylist()
        return
    with _jsonl(directory).open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def _jsonl(directory: Path) -> Path:
    files = sorted(directory.glob("samples_*.jsonl"))
    if not files:
        raise StoreError(f"{directory} has no samples_*.jsonl and no {PARQUET}: is it a run directory?")
    return files[0]


def documents_digest(directory: Path) -> str:
    """A short hash of which documents were scored, in their order; the probabilities are not read for it.

    Raises:
        StoreError: there is no table of predictions in ``directory``.
    """
    if (directory / PARQUET).is_file():
        found = (row["doc_hash"].encode() for row in _rows(directory, ("doc_hash",)))
        return _digest(found)
    with _jsonl(directory).open("rb") as lines:
        # Within a JSON string a quotation mark has a backslash before it: no text can look like this key.
        return _digest(match[1] for line in lines if (match := re.search(rb'"doc_hash": "([^"]*)"', line)))


def _digest(hashes: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for found in hashes:
        digest.update(found + b"\n")
    return digest.hexdigest()


def read_texts(directory: Path, hashes: Collection[str]) -> dict[str, str]:
    """Document hash -> text, of those ``hashes`` whose text the table of predictions holds."""
    wanted = frozenset(hashes)
    rows = (row for row in _rows(directory, ("doc_hash", "doc")) if row["doc_hash"] in wanted)
    return {row["doc_hash"]: doc["text"] for row in rows if (doc := row.get("doc"))}


def has_answers(directory: Path) -> bool:
    """Whether the table of predictions holds the answers as they were written."""
    if (directory / PARQUET).is_file():
        import pyarrow.parquet as pq

        return "resps" in pq.read_schema(directory / PARQUET).names
    with _jsonl(directory).open(encoding="utf-8") as stream:
        return "resps" in json.loads(stream.readline() or "{}")
