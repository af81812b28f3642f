from __future__ import annotations

import time
from pathlib import Path

import pytest

from evalsuite.data.samples import sample_folder
from evalsuite.data.synthetic import Difficulty, generate
from evalsuite.errors import StoreError


def test_the_same_arguments_give_the_same_documents() -> None:
    first, again, other = (list(generate(4, 20, Difficulty(), seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_length_imbalance_and_further_labels_are_as_asked() -> None:
    difficulty = Difficulty(shortest=10, longest=20, imbalance=1.0, second_label=0.3)
    documents = list(generate(4, 2000, difficulty, 0))
    lengths = {sum(len(sentence.split()) for sentence in document.sentences) for document in documents}
    assert (min(lengths), max(lengths)) == (10, 20)
    main = [document.classes[0] for document in documents]
    assert main.count(0) / main.count(3) == pytest.approx(4, rel=0.25)
    assert 1.1 < sum(len(document.classes) for document in documents) / 2000 < 1.4
    assert all(len(set(document.classes)) == len(document.classes) for document in documents)


def test_signal_and_noise_decide_how_far_classes_can_be_told_apart() -> None:
    own = Difficulty(signal=1.0, noise=0.0, shared=0)
    vocabulary: dict[int, set[str]] = {0: set(), 1: set()}
    for document in generate(2, 200, own, 0):
        vocabulary[document.classes[0]].update(" ".join(document.sentences).split())
    assert not vocabulary[0] & vocabulary[1]
    wrong = Difficulty(signal=1.0, noise=0.5, shared=0)
    mixed = sum(
        not set(" ".join(document.sentences).split()) <= vocabulary[document.classes[0]]
        for document in generate(2, 1000, wrong, 0)
    )
    assert mixed / 1000 == pytest.approx(0.25, abs=0.06)  # half of the wrong draws hit the right class


def test_a_sample_is_made_once_and_complete(tmp_path: Path) -> None:
    made = []

    def write(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("x", encoding="utf-8")

    first, again = (sample_folder(tmp_path / "cache", "s-1", write) for _ in range(2))
    assert first == again
    assert (first / "file").read_text(encoding="utf-8") == "x"
    assert len(made) == 1
    assert [path.name for path in first.parent.iterdir()] == ["s-1"]


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        sample_folder(tmp_path, "s-1", write)
    assert not list((tmp_path / "samples").iterdir())


def test_generation_takes_less_than_a_second() -> None:
    start = time.process_time()
    list(generate(14, 600, Difficulty(shortest=60, longest=110), 0))
    assert time.process_time() - start < 1
