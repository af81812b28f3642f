"""Sentences about a pair."""

from __future__ import annotations

from typing import Any

import pytest

from evalsuite.compare.wording import Finding, documents_to_settle, sentence, verdict


def finding(interval: tuple[float, float], gap: float = 0.01, **changes: Any) -> Finding:
    facts: dict[str, Any] = {
        "certified": False,
        "alpha": 0.05,
        "same_direction": None,
        "across_seeds": None,
        "documents": 1_000,
        "seeds_drawn": False,
    }
    return Finding("bert", "tfidf", gap, interval, **{**facts, **changes})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (finding((0.004, 0.03), certified=True), "certified at 5%"),
        (finding((0.004, 0.03), certified=True, alpha=0.001), "certified at 0.1%"),
        (
            finding((-0.01, 0.03)),
            "cannot tell: the interval is wider than 2 points; about 4,000 documents would settle it",
        ),
        (
            finding((-0.01, 0.03), same_direction=(5, 5)),
            "same direction in 5 of 5 seeds, not certified; about 4,000 documents would settle it",
        ),
        (
            finding((-0.01, 0.03), same_direction=(4, 5)),
            "cannot tell: the interval is wider than 2 points; about 4,000 documents would settle it",
        ),
        (
            finding((-0.01, 0.03), seeds_drawn=True),
            "cannot tell: the interval is wider than 2 points; more documents or more seeds would narrow it",
        ),
        (finding((-0.004, 0.008), same_direction=(5, 5)), "a tie within 0.8 points, not certified"),
        (finding((-0.01, 0.01)), "a tie within 1 point, not certified"),
        (finding((0.0, 0.0), gap=0.0), "no difference: the metric cannot tell them apart on any document"),
    ],
)
def test_verdicts(found: Finding, words: str) -> None:
    assert verdict(found) == words


def test_a_sentence_names_the_better_one_and_its_numbers() -> None:
    told = "bert is 1 point better than tfidf (95% interval 0.4 to 3): certified at 5%."
    assert sentence(finding((0.004, 0.03), certified=True)) == told


def test_what_is_certified_and_may_turn_with_other_seeds_is_said_to() -> None:
    """Ten thousand documents make any two seeds differ for sure; that says nothing of the next seed."""
    sure = finding((0.004, 0.03), certified=True, across_seeds=(-0.02, 0.04), same_direction=(3, 3))
    assert sentence(sure).endswith(
        "certified at 5% for these seeds; other seeds may turn it, as across seeds the interval is -2 to 4."
    )
    steady = finding((0.004, 0.03), certified=True, across_seeds=(0.001, 0.04), same_direction=(3, 3))
    assert sentence(steady).endswith("certified at 5%.")


def test_a_difference_too_small_for_a_decimal_is_no_zero() -> None:
    told = sentence(finding((-0.019, 0.018), gap=0.0001))
    assert told.startswith("bert and tfidf differ by less than 0.1 points (95% interval -1.9 to 1.8): ")


@pytest.mark.parametrize(
    ("documents", "width", "needed"),
    [(1_000, 0.04, 4_000), (400, 0.1, 10_000), (7_600, 0.021, 8_400), (30, 0.3, 6_800), (28_926, 0.0201, 30_000)],
)
def test_documents_to_settle_scale_with_the_square_of_the_width(documents: int, width: float, needed: int) -> None:
    assert documents_to_settle(documents, (-width / 2, width / 2)) == needed
