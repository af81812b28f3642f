from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalsuite.data import cache
from evalsuite.data.cache import SourceFiles, cached_corpus, source_key
from evalsuite.data.documents import Document, Findings, note
from evalsuite.data.splits import text_hash
from evalsuite.errors import DataError, StoreError


class _Watched(Document):
    """A document whose life can be followed."""


class _Source:
    """Counts how often it is read."""

    def __init__(self, count: int = 3) -> None:
        self.count, self.reads = count, 0

    def read(self, findings: Findings) -> Iterator[Document]:
        self.reads += 1
        for number in range(self.count):
            note(findings, "seen", str(number))
            yield Document(f"id-{number}", f"täxt {number}", ("A01", "", "B"), "train", "2000-01-02")


def test_what_is_read_back_is_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BATCH", 40)  # characters: five documents
    source = _Source(17)
    first, again = (cached_corpus(tmp_path, "key", source.read) for _ in range(2))
    assert source.reads == 1
    for corpus in (first, again):
        assert len(corpus) == len(corpus.texts) == 17
        assert corpus.ids[-1] == "id-16"
        assert [corpus.texts[row] for row in (0, 5, 16)] == ["täxt 0", "täxt 5", "täxt 16"]
        assert list(corpus.texts) == [corpus.texts[row] for row in range(17)]
        assert corpus.texts[3:6] == ["täxt 3", "täxt 4", "täxt 5"]
        assert corpus.labels[0] == ("A01", "", "B")
        assert (corpus.splits[0], corpus.dates[0]) == ("train", "2000-01-02")
        assert corpus.hashes[0] == text_hash("täxt 0")
        assert corpus.findings == {"seen": [str(number) for number in range(17)]}


def test_memory_is_bounded_by_a_batch_not_by_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BATCH", 100_000)
    alive, most = set(), 0

    def read(findings: Findings) -> Iterator[Document]:
        nonlocal most
        for number in range(200):
            document = _Watched(f"{number}", "x" * 10_000, ())
            alive.add(number)
            weakref.finalize(document, alive.discard, number)
            most = max(most, len(alive))
            yield document

    cached_corpus(tmp_path, "key", read)
    assert most < 30


def test_the_key_changes_with_files_and_options() -> None:
    files = SourceFiles(["a/b.xml", "c.xml"], [10, 20], [1, 2])
    keys = {
        source_key(files, 1, "abstract"),
        source_key(files, 2, "abstract"),
        source_key(files, 1, "title"),
        source_key(SourceFiles(["a/b.xml"], [10], [1]), 1, "abstract"),
        source_key(files._replace(sizes=[11, 20]), 1, "abstract"),
        source_key(files._replace(times=[3, 2]), 1, "abstract"),
        source_key(files._replace(paths=["a/d.xml", "c.xml"]), 1, "abstract"),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "no findings"])
def test_a_damaged_cache_is_read_again(damage: str, tmp_path: Path) -> None:
    source = _Source()
    cached_corpus(tmp_path, "key", source.read)
    (file,) = (tmp_path / "documents").iterdir()
    content = file.read_bytes()
    if damage == "no findings":
        import pyarrow as pa

        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("id", pa.string())])):
            pass
    else:
        file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"noise" * 100}[damage])
    assert cached_corpus(tmp_path, "key", source.read).ids == ["id-0", "id-1", "id-2"]
    assert source.reads == 2


def test_a_read_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def read(findings: Findings) -> Iterator[Document]:
        yield Document("1", "x", ())
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        cached_corpus(tmp_path, "key", read)
    assert not list((tmp_path / "documents").iterdir())


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "documents").touch()
    with pytest.raises(StoreError, match="cannot write the document cache"):
        cached_corpus(tmp_path, "key", _Source().read)
