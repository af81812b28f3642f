"""One row a scored document: what was expected, what was said, how sure.

Small tables are ``samples_<task>.jsonl`` (lm-eval's name), large ones ``predictions.parquet``, with the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools
from evalsuite.errors import StoreError

PARQUET = "predictions.parquet"
# Above this many probabilities a JSONL table is slow to read and tens of megabytes large.
MOST_CELLS_IN_JSONL = 500_000


@dataclass(frozen=True)
class Samples:
    """The scored documents of a run: n documents, k labels.

    ``probabilities`` [n, k] is None where the method gives none; the row of a document without a valid answer says
    nothing, is written as null and read back as NaN.
    """

    ids: tuple[str, ...]
    hashes: tuple[str, ...]
    gold: Bools
    predicted: Bools
    probabilities: npt.NDArray[np.float64] | None
    status: tuple[str, ...]
    labels: tuple[str, ...]


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
    )


def _rows(directory: Path) -> list[dict[str, Any]]:
    if (directory / PARQUET).is_file():
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(directory / PARQUET).to_pylist()
        return rows
    files = sorted(directory.glob("samples_*.jsonl"))
    if not files:
        raise StoreError(f"{directory} has no samples_*.jsonl and no {PARQUET}: is it a run directory?")
    with files[0].open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
