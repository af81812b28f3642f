from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from evalsuite.contracts import Example, Splits
from evalsuite.data.near import near_copies
from evalsuite.data.validate import Finding, validate

WORDS = [f"word{number}" for number in range(2000)]


def _text(dice: random.Random, length: int = 40) -> str:
    return " ".join(dice.choices(WORDS, k=length))


def _examples(prefix: str, texts: Sequence[str]) -> list[Example]:
    return [Example(f"{prefix}{number}", text, (number % 2,)) for number, text in enumerate(texts)]


def _splits(
    train: Sequence[str], validation: Sequence[str] = ("v0", "v1"), test: Sequence[str] = ("t0", "t1")
) -> Splits:
    parts = (_examples(name, texts) for name, texts in zip("abc", (train, validation, test), strict=True))
    return Splits(("x", "y"), *parts)


def _found(splits: Splits) -> dict[tuple[str, str], Finding]:
    return {(finding.name, finding.split): finding for finding in validate(splits)}


def test_a_clean_dataset_has_no_findings() -> None:
    assert validate(_splits(["one", "two"])) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "empty text"),
        (" \n", "empty text"),
        ("x" * 50_001, "longer than 50000 characters"),
        ("half \ufffd character", "wrong encoding"),
        ("a\x00b", "wrong encoding"),
        ("curly \x93quotes\x94", "wrong encoding"),
        ("cafÃ©", "wrong encoding"),
        ("itâ€™s", "wrong encoding"),
        ("20 Â°C", "wrong encoding"),
    ],
)
def test_a_bad_text_is_named_with_its_row(text: str, name: str) -> None:
    finding = _found(_splits(["one", text]))[name, "train"]
    assert (finding.rows, finding.count, finding.severity) == (("a1",), 1, "warning")
    assert finding.advice


@pytest.mark.parametrize("text", ["café naïve Ångström", "SÃO PAULO", "20 °C", "«Â la carte»", "â"])
def test_other_languages_are_not_a_wrong_encoding(text: str) -> None:
    assert ("wrong encoding", "train") not in _found(_splits(["one", text]))


@pytest.mark.parametrize("text", [None, float("nan")])
def test_none_and_nan_are_errors(text: object) -> None:
    finding = _found(_splits(["one", text]))["text is None or NaN", "train"]  # type: ignore[list-item]
    assert (finding.rows, finding.severity) == (("a1",), "error")


def test_duplicate_text_names_the_copies() -> None:
    assert _found(_splits(["one", "two", "ONE ", "one"]))["duplicate text", "train"].rows == ("a2", "a3")


def test_exact_leakage_is_an_error_that_names_the_test_rows() -> None:
    found = _found(_splits(["one", "two", "three"], ["Two", "four"], ["five", " THREE", "four"]))
    assert found["copy in train", "validation"].rows == ("b0",)
    leak = found["copy in train or validation", "test"]
    assert (leak.rows, leak.severity) == (("c1", "c2"), "error")


def test_near_leakage_names_the_test_rows() -> None:
    dice = random.Random(0)
    train = [_text(dice) for _ in range(50)]
    edited = train[7].split()
    edited[-1] = "changed"
    found = _found(_splits(train, test=[_text(dice), " ".join(edited), train[3].upper()]))
    assert found["near copy in train or validation", "test"].rows == ("c1",)
    assert found["copy in train or validation", "test"].rows == ("c2",)


def test_a_class_that_a_split_lacks() -> None:
    assert _found(_splits(["one"]))["class missing", "train"].rows == ("y",)


def test_an_empty_split_is_an_error_and_comes_first() -> None:
    findings = validate(_splits(["one"], validation=()))
    assert (findings[0].name, findings[0].split, findings[0].severity) == ("empty split", "validation", "error")


def test_what_the_reader_noted_is_reported() -> None:
    parts = _splits(["one", "two"])
    splits = Splits(parts.labels, parts.train, parts.validation, parts.test, findings={"duplicate id": ["7#2"]})
    (finding,) = validate(splits)
    assert (finding.name, finding.split, finding.rows, finding.count) == ("duplicate id", "source", ("7#2",), 1)


def _similarity(left: str, right: str) -> float:
    """Jaccard similarity of three-word shingles, computed plainly."""
    a, b = ({tuple(text.split()[i : i + 3]) for i in range(len(text.split()) - 2)} for text in (left, right))
    return len(a & b) / len(a | b)


def test_near_copies_agree_with_a_plain_comparison_of_all_pairs() -> None:
    dice = random.Random(1)
    references = [_text(dice) for _ in range(60)]
    texts = []
    for reference in references:
        words = reference.split()
        for _ in range(dice.randint(0, 4)):
            words[dice.randrange(40)] = dice.choice(WORDS)
        texts.append(" ".join(words))
    expected = [
        position
        for position, text in enumerate(texts)
        if any(_similarity(text, reference) >= 0.8 for reference in references)
    ]
    assert 10 < len(expected) < 50
    assert near_copies(texts, references) == expected


def test_short_and_empty_texts_have_near_copies_only_where_they_are_equal() -> None:
    assert near_copies(["", "one", "one two", "two"], ["", "one", "two one"]) == [1]


def test_near_copies_of_seven_thousand_documents_take_seconds() -> None:
    dice = random.Random(2)
    texts = [_text(dice, 60) for _ in range(1000)]
    references = [_text(dice, 60) for _ in range(6000)]
    start = time.process_time()
    assert near_copies(texts, references) == []
    assert time.process_time() - start < 10
