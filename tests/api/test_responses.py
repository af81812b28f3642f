"""What is kept of responses that servers really give, and of those that are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from evalsuite.api.responses import read_echo, read_text, read_usage, retry_after
from evalsuite.api.spending import Usage

BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def echo(tokens: list[str], offsets: list[int], values: list[Any], **usage: int) -> dict[str, Any]:
    logprobs = {"tokens": tokens, "text_offset": offsets, "token_logprobs": values}
    return {"choices": [{"text": "", "finish_reason": "length", "logprobs": logprobs}], "usage": usage}


PLAIN = echo(["A", " b", " c", " d"], [0, 1, 3, 5], [None, -1, -2, -4], completion_tokens=0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PLAIN, (-6.0, 2)),
        # The beginning mark counts as text in some servers, and moves every offset.
        (echo(["<s>", "A", " b", " c", " d"], [0, 3, 4, 6, 8], [None, -9, -1, -2, -4]), (-6.0, 2)),
        # Servers that cannot write nothing add a token, which is not part of the answer.
        (echo(["A", " b", " c", " d", "!"], [0, 1, 3, 5, 7], [None, -1, -2, -4, -8], completion_tokens=1), (-6.0, 2)),
        # A token that reaches from the prompt into the answer is no measurement of the answer.
        (echo(["A", " b c", " d"], [0, 1, 5], [None, -1, -4]), (None, 0)),
        (echo(["A", " b", " c", " d"], [0, 1, 3, 5], [None, -1, None, -4]), (None, 0)),
        (echo(["A", " b", " c", " d"], [0, 1, 3, 5], [None, -1, float("nan"), -4]), (None, 0)),
        ({"choices": [{"text": "A b c d", "logprobs": None}]}, (None, 0)),
        (echo([], [], []), (None, 0)),
    ],
    ids=["plain", "beginning mark", "one token more", "straddling", "null", "nan", "no logprobs", "empty"],
)
def test_the_log_likelihood_of_an_echoed_answer(body: dict[str, Any], expected: tuple[float | None, int]) -> None:
    found = read_echo(body, " c d")
    assert (found["logprob"], found["tokens"]) == expected


def chat(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": finish, "message": {"role": "assistant", **message}}]}


@pytest.mark.parametrize(
    ("body", "text", "refused"),
    [
        (chat(content="A"), "A", False),
        (chat(content=None, refusal="no"), "", True),
        (chat("content_filter", content=None), "", True),
        (chat("length", content=None), "", False),
        ({"choices": [{"finish_reason": "stop", "text": " A"}]}, " A", False),
    ],
)
def test_written_answers(body: dict[str, Any], text: str, refused: bool) -> None:
    found = read_text(body)
    assert (found["text"], found["refused"], found["top"]) == (text, refused, None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        "text",
        {"error": {"message": "busy"}},
        {"choices": []},
        {"choices": [{"finish_reason": "stop", "message": "A"}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": ["A"]}}]},
        {"choices": [{"finish_reason": None, "message": {"content": None}}]},
    ],
)
def test_what_is_no_answer(body: Any) -> None:
    with pytest.raises(BROKEN):
        read_text(body)


def test_a_value_that_stands_for_none_is_left_out() -> None:
    body = chat(content="A")
    listed = [{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -9999.0}]
    body["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": listed}]}
    assert read_text(body)["top"] == [["A", -0.1]]


def test_usage_is_what_the_endpoint_says_or_unknown() -> None:
    assert read_usage({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}) == Usage(5, 2)
    assert read_usage({"usage": {"prompt_tokens": 5}}) == Usage(5, 0)
    assert read_usage({"usage": None}) is None
    assert read_usage({}) is None


def test_how_long_to_wait() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25
    assert 50 < retry_after({"retry-after": soon}) <= 60
    assert [retry_after(headers) for headers in ({}, {"retry-after": past}, {"retry-after": "soon"})] == [0, 0, 0]
    assert retry_after({"retry-after": "-5"}) == 0
