"""Embeddings kept on disk, so that no text is read twice by the same model in the same way.

A folder holds what one way of reading made of texts. Each call adds one file of records, written beside its place and
moved there: processes that work at once only ever add files. A text is known by its hash and is not written.
Shapes: n texts, h hidden.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Floats
from evalsuite.errors import StoreError

log = logging.getLogger("evalsuite")

FORMAT = 1
Records = npt.NDArray[Any]


def record_type(width: int) -> np.dtype[Any]:
    """One text: its hash, a checksum, tokens read, the share of its batch that was cut, seconds it took, its vector."""
    fields = [("key", "V16"), ("check", "<u4"), ("tokens", "<u4"), ("cut", "<f4"), ("seconds", "<f4")]
    return np.dtype([*fields, ("vector", "<f4", (width,))])


def make_records(texts: Sequence[str], vectors: Floats) -> Records:
    """Records [n] of texts and their vectors [n, h]; tokens, cut and seconds are still zero."""
    records = np.zeros(len(texts), record_type(vectors.shape[1]))
    records["key"] = [text_key(text) for text in texts]
    records["vector"] = vectors
    return records


def text_key(text: str) -> bytes:
    """BLAKE2b-128 of the exact text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class EmbeddingCache:
    """The records of one way of reading, ``described`` by everything that can change a vector (width h)."""

    def __init__(self, folder: Path, described: Mapping[str, Any], width: int) -> None:
        text = json.dumps({**described, "format": FORMAT, "width": width}, sort_keys=True, default=str)
        self.folder = folder / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        self.dtype = record_type(width)
        self._known: dict[bytes, tuple[Records, int]] = {}
        for path in sorted(self.folder.glob("*.npy")):
            self._add(path)

    def find(self, texts: Sequence[str]) -> dict[int, np.void]:
        """The records of those texts that are known, by their place in ``texts``; a damaged one is not known."""
        found = {}
        for place, text in enumerate(texts):
            shard, row = self._known.get(text_key(text), (None, 0))
            if shard is not None and int(shard[row]["check"]) == _checksum(shard[row]):
                found[place] = shard[row]
        return found

    def add(self, records: Records) -> None:
        """Keep records, in one new file.

        Raises:
            StoreError: the cache cannot be written.
        """
        for record in records:
            record["check"] = _checksum(record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, building = tempfile.mkstemp(prefix=".building-", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as stream:
                    np.save(stream, records)
                path = self.folder / f"{hashlib.blake2b(records['key'].tobytes(), digest_size=12).hexdigest()}.npy"
                Path(building).replace(path)
            finally:
                Path(building).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write the embedding cache {self.folder}: {error.strerror or error}; free space, or set"
                " cache=false"
            ) from error
        self._add(path)

    def _add(self, path: Path) -> None:
        """Map a file's records; vectors stay on disk until they are asked for."""
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            log.warning("embeddings in %s cannot be read (%s): computed again", path, error)
            return
        if shard.dtype != self.dtype or shard.ndim != 1:
            log.warning("embeddings in %s are of another form: computed again", path)
            return
        self._known.update((key.tobytes(), (shard, row)) for row, key in enumerate(shard["key"]))


def _checksum(record: np.void) -> int:
    return zlib.crc32(record["vector"].tobytes(), zlib.crc32(record["key"].tobytes()))
