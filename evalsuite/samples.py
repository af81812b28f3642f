"""One row a scored document: what was expected, what was said, how sure.

Small tables are ``samples_<task>.jsonl`` (lm-eval's name), large ones ``predictions.parquet``, with the same columns.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools
from evalsuite.errors import StoreError
from evalsuite.spec import ScoredSplit

PARQUET = "predictions.parquet"
# Above this many probabilities a JSONL table is slow to read and tens of megabytes large.
MOST_CELLS_IN_JSONL = 500_000


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
    """Write the table of a scored split. ``texts`` and ``raw`` answers are None where the task is private."""
    rows = (_row(number, samples, texts, raw) for number in range(len(samples.ids)))
    if samples.gold.size <= MOST_CELLS_IN_JSONL:
        path = directory / f"samples_{task}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return path
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / PARQUET
    table = pa.Table.from_pylist(list(rows)).replace_schema_metadata({"labels": json.dumps(samples.labels)})
    pq.write_table(table, path, compression="zstd")
    return path


def _row(number: int, samples: Samples, texts: Sequence[str] | None, raw: Sequence[str] | None) -> dict[str, Any]:
    probabilities = samples.probabilities if samples.status[number] == "ok" else None
    row: dict[str, Any] = {
        "doc_id": samples.ids[number],
        "split": samples.split,
        "doc_hash": samples.hashes[number],
        "target": [samples.labels[index] for index in np.flatnonzero(samples.gold[number])],
        "prediction": [samples.labels[index] for index in np.flatnonzero(samples.predicted[number])],
        "probabilities": None if probabilities is None else [round(float(p), 6) for p in probabilities[number]],
        "status": samples.status[number],
    }
    if texts is not None:
        row["doc"] = {"text": texts[number]}
    if raw is not None:
        row["resps"] = [raw[number]]
    return row


def read_samples(directory: Path, labels: Sequence[str]) -> Samples:
    """Read back what ``write_samples`` wrote; ``labels`` is the label order of the run's ``results.json``.

    Raises:
        StoreError: there is no table of predictions in ``directory``.
    """
    rows = _rows(directory)
    place = {label: index for index, label in enumerate(labels)}
    gold, predicted = np.zeros((2, len(rows), len(labels)), dtype=bool)
    for number, row in enumerate(rows):
        gold[number, [place[label] for label in row["target"]]] = True
        predicted[number, [place[label] for label in row["prediction"]]] = True
    given = [row["probabilities"] for row in rows]
    unknown = [float("nan")] * len(labels)
    return Samples(
        ids=tuple(row["doc_id"] for row in rows),
        hashes=tuple(row["doc_hash"] for row in rows),
        gold=gold,
        predicted=predicted,
        probabilities=np.array([entry or unknown for entry in given]) if any(given) else None,
        status=tuple(row["status"] for row in rows),
        labels=tuple(labels),
        split=rows[0].get("split", "test") if rows else "test",
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


def _rows(directory: Path) -> list[dict[str, Any]]:
    if (directory / PARQUET).is_file():
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(directory / PARQUET).to_pylist()
        return rows
    with _jsonl(directory).open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


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
        import pyarrow.parquet as pq

        found = [
            name.encode() for name in pq.read_table(directory / PARQUET, columns=["doc_hash"])["doc_hash"].to_pylist()
        ]
    else:
        # Within a JSON string a quotation mark has a backslash before it: no text can look like this key.
        found = re.findall(rb'"doc_hash": "([^"]*)"', _jsonl(directory).read_bytes())
    return hashlib.blake2b(b"\n".join(found), digest_size=8).hexdigest()


def read_texts(directory: Path, hashes: Collection[str]) -> dict[str, str]:
    """Document hash -> text, of those ``hashes`` whose text the table of predictions holds."""
    wanted = frozenset(hashes)
    rows = (row for row in _rows(directory) if row["doc_hash"] in wanted)
    return {row["doc_hash"]: doc["text"] for row in rows if (doc := row.get("doc"))}


def has_answers(directory: Path) -> bool:
    """Whether the table of predictions holds the answers as they were written."""
    if (directory / PARQUET).is_file():
        import pyarrow.parquet as pq

        return "resps" in pq.read_schema(directory / PARQUET).names
    with _jsonl(directory).open(encoding="utf-8") as stream:
        return "resps" in json.loads(stream.readline() or "{}")
