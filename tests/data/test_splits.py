from __future__ import annotations

import random
import string

import pytest

from evalsuite.contracts import Example, Splits
from evalsuite.data.documents import Corpus, Document, build_splits
from evalsuite.data.splits import assign, document_hash, fingerprint, hash_fraction, normalise, text_hash
from evalsuite.errors import DataError


def _texts(count: int, seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    return ["".join(dice.choices(string.ascii_lowercase, k=20)) for _ in range(count)]


def _membership(texts: list[str], gold: list[tuple[int, ...]]) -> dict[str, str]:
    rows = assign([""] * len(texts), [text_hash(text) for text in texts], gold)
    return {texts[row]: split for split, members in rows.items() for row in members}


def test_normalised_text_forgets_case_white_space_and_compatibility_forms() -> None:
    assert normalise("  The ﬁrst\tSTRASSE \n№ 1 ") == "the first strasse no 1"
    assert text_hash("A  b") == text_hash("a B\n")
    assert text_hash("a b") != text_hash("ab")


def test_the_hash_is_the_same_on_every_machine() -> None:
    assert text_hash("Hello  World") == "e9a804b2e527fd3601d2ffc0bb023cd6"
    assert 0 <= hash_fraction(text_hash("x")) < 1


def test_one_file_is_split_80_10_10() -> None:
    texts = _texts(5000)
    where = _membership(texts, [(0,)] * len(texts))
    counts = [list(where.values()).count(split) / len(texts) for split in ("train", "validation", "test")]
    assert counts == pytest.approx([0.8, 0.1, 0.1], abs=0.015)


def test_adding_rows_moves_nobody() -> None:
    texts = _texts(3000)
    gold = [(index % 3,) for index in range(len(texts))]
    before = _membership(texts[:2000], gold[:2000])
    after = _membership(texts, gold)
    assert all(after[text] == split for text, split in before.items())


def test_the_order_of_the_rows_does_not_matter() -> None:
    texts = _texts(400)
    gold = [(0,)] * 390 + [(1,)] * 10
    pairs = list(zip(texts, gold, strict=True))
    random.Random(1).shuffle(pairs)
    assert _membership(texts, gold) == _membership([text for text, _ in pairs], [labels for _, labels in pairs])


def test_copies_of_a_text_stay_together() -> None:
    texts = _texts(500)
    copies = [text.upper() + " " for text in texts]
    rows = assign([""] * 1000, [text_hash(text) for text in texts + copies], [(0,)] * 1000)
    for members in rows.values():
        assert {row % 500 for row in members if row < 500} == {row % 500 for row in members if row >= 500}


@pytest.mark.parametrize(("size", "expected"), [(40, 5), (10, 5), (8, 4), (3, 1), (1, 0)])
def test_a_rare_class_is_topped_up_to_five_and_keeps_half_in_train(size: int, expected: int) -> None:
    texts = [text for text in _texts(6000, seed=3) if hash_fraction(text_hash(text)) >= 0.1]  # none goes by itself
    gold = [(0,)] * (len(texts) - size) + [(1,)] * size
    rows = assign(["train"] * len(texts) + ["test"], [text_hash(text) for text in [*texts, "x"]], [*gold, (0,)])
    assert sum(gold[row] == (1,) for row in rows["validation"]) == expected
    assert sum(gold[row] == (1,) for row in rows["train"]) == size - expected


def test_a_class_does_not_lose_its_only_training_text() -> None:
    lone = next(text for text in _texts(200) if hash_fraction(text_hash(text)) < 0.1)
    texts = [lone, *_texts(300, seed=5)]
    rows = assign(["train"] * 301 + ["test"], [text_hash(text) for text in [*texts, "x"]], [(1,)] + [(0,)] * 301)
    assert 0 in rows["train"]


def test_topping_up_counts_every_label_of_a_document() -> None:
    texts = _texts(300)
    gold = [(0, 1) if row < 20 else (0,) for row in range(300)]
    rows = assign(["train"] * 300 + ["test"], [text_hash(text) for text in [*texts, "x"]], [*gold, ()])
    assert sum(1 in gold[row] for row in rows["validation"]) >= 5


def test_the_splits_of_the_source_are_kept() -> None:
    sources = ["train"] * 50 + ["validation"] * 5 + ["test"] * 5
    rows = assign(sources, [text_hash(text) for text in _texts(60)], [(0,)] * 60)
    assert {split: len(members) for split, members in rows.items()} == {"train": 50, "validation": 5, "test": 5}


def test_latest_holds_out_the_end_of_train() -> None:
    texts = _texts(100)
    dates = [f"2000-01-{1 + row // 10:02d}" for row in range(100)]
    rows = assign(
        ["train"] * 100 + ["test"], [text_hash(text) for text in [*texts, "x"]], [(0,)] * 101, [*dates, ""], "latest"
    )
    assert rows["validation"] == list(range(90, 100))
    with pytest.raises(DataError, match="needs a date"):
        assign(["train"] * 100 + ["test"], ["0" * 32] * 101, [(0,)] * 101, [""] * 101, "latest")


def test_examples_are_a_sequence() -> None:
    documents = [Document(str(row), text, ("a",)) for row, text in enumerate(_texts(200))]
    splits = build_splits(Corpus.collect(documents, {}), ["a", "b"], [(0,)] * 200, multilabel=False)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 200
    assert list(splits.train[1:3]) == [splits.train[1], splits.train[2]]
    assert splits.train[-1] == list(splits.train)[-1]


def test_too_few_rows_for_a_test_split_is_one_clear_line() -> None:
    corpus = Corpus.collect([Document("1", "x", ("a",)), Document("2", "y", ("b",))], {"no text": ["3"]})
    with pytest.raises(DataError, match=r"no usable document for the .* split \(read 2; no text: 1\)"):
        build_splits(corpus, ["a", "b"], [(0,), (1,)], multilabel=False)


def test_the_fingerprint_sees_every_part_of_a_dataset() -> None:
    one, two, three = Example("1", "a", (0,)), Example("2", "b", (1,)), Example("3", "c", (0,))
    splits = Splits(("x", "y"), [one], [two], [three])
    others = [
        Splits(("x", "z"), [one], [two], [three]),
        Splits(("x", "y"), [two], [one], [three]),
        Splits(("x", "y"), [one, two], [], [three]),
        Splits(("x", "y"), [Example("1", "A", (0,))], [two], [three]),
        Splits(("x", "y"), [Example("1", "a", (1,))], [two], [three]),
        Splits(("x", "y"), [Example("9", "a", (0,))], [two], [three]),
        Splits(("x", "y"), [one], [two], [three], multilabel=True),
    ]
    assert fingerprint(splits) == fingerprint(Splits(("x", "y"), [one], [two], [three]))
    assert len({fingerprint(other) for other in [splits, *others]}) == 8
    assert document_hash(one) != document_hash(Example("1", "a", (1,)))
