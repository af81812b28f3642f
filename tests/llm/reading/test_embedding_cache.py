"""Embeddings on disk: found again, never wrong, whatever happens to the files."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.errors import StoreError
from evalsuite.llm.reading.embedding_cache import EmbeddingCache, make_records

TEXTS = ["one", "two", "", "with nul \0 and surrogate \ud800"]
WAY = {"model": "m", "layer": 2}


def vectors(texts: list[str], width: int = 8) -> Any:
    return np.stack([np.full(width, len(text) + 0.5, np.float32) for text in texts])


def filled(folder: Path, texts: list[str] = TEXTS) -> EmbeddingCache:
    cache = EmbeddingCache(folder, WAY, 8)
    cache.add(make_records(texts, vectors(texts)))
    return cache


def test_what_was_kept_is_found_by_a_later_process(tmp_path: Path) -> None:
    filled(tmp_path)
    found = EmbeddingCache(tmp_path, WAY, 8).find(["two", "three", *TEXTS])
    assert sorted(found) == [0, 2, 3, 4, 5]
    for place, text in enumerate(["two", "three", *TEXTS]):
        if place != 1:
            assert found[place]["vector"].tolist() == vectors([text])[0].tolist()


@pytest.mark.parametrize("other", [{"model": "n"}, {"layer": 1}, {"dtype": "bfloat16"}])
def test_another_way_of_reading_finds_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    filled(tmp_path)
    assert EmbeddingCache(tmp_path, {**WAY, **other}, 8).find(TEXTS) == {}
    assert EmbeddingCache(tmp_path, WAY, 4).find(TEXTS) == {}


def test_a_text_is_its_exact_characters(tmp_path: Path) -> None:
    filled(tmp_path)
    assert EmbeddingCache(tmp_path, WAY, 8).find(["One", "one ", " one"]) == {}


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other form"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = filled(tmp_path)
    (path,) = cache.folder.glob("*.npy")
    whole = path.read_bytes()
    if damage == "other form":
        np.save(path, np.zeros(3))
    else:
        path.write_bytes({"cut": whole[:-10], "garbage": b"nonsense" * 20, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, logger="evalsuite"):
        again = EmbeddingCache(tmp_path, WAY, 8)
    assert again.find(TEXTS) == {}
    assert "computed again" in caplog.text
    again.add(make_records(TEXTS, vectors(TEXTS)))  # the same texts make the same name: the damaged file is replaced
    assert len(EmbeddingCache(tmp_path, WAY, 8).find(TEXTS)) == len(TEXTS)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    (path,) = filled(tmp_path).folder.glob("*.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 4  # in the last record's vector
    path.write_bytes(content)
    assert sorted(EmbeddingCache(tmp_path, WAY, 8).find(TEXTS)) == [0, 1, 2]


def _work(folder: str, number: int) -> None:
    for start in range(10):
        filled(Path(folder), [f"text {start + offset}" for offset in range(number, number + 5)])


def test_processes_at_once_do_no_harm(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("spawn").Process(target=_work, args=(str(tmp_path), n)) for n in (0, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    cache = EmbeddingCache(tmp_path, WAY, 8)
    texts = [f"text {index}" for index in range(17)]
    assert len(cache.find(texts)) == 17
    assert [path.suffix for path in cache.folder.iterdir()].count(".npy") == len(list(cache.folder.iterdir()))


def test_no_text_is_written(tmp_path: Path) -> None:
    filled(tmp_path, ["a most private sentence"])
    for path in tmp_path.rglob("*"):
        assert "private" not in path.name
        if path.is_file():
            assert b"private" not in path.read_bytes()


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot write the embedding cache .* set cache=false"):
        filled(tmp_path / "taken")
