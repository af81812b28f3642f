"""The client against a real server: what is retried, what is not, what is kept, and what nobody may see."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hosted_server import (
    Fault,
    Server,
    always,
    breaks_off,
    drops,
    fails,
    filtered,
    hangs,
    refuses,
    says,
)

from evalsuite.api import HostedOptions
from evalsuite.api.client import GIVE_UP, Client, Question, Reply
from evalsuite.errors import ModelError, OptionError, UsageError

Options = Callable[..., HostedOptions]


def question(text: str, **more: Any) -> Question:
    arguments = {"messages": [{"role": "user", "content": f"Text: {text}\nCategory:"}], "max_tokens": 4}
    return Question("chat", arguments | more)


def texts(replies: Sequence[Reply]) -> list[str | None]:
    return [reply.answer["text"] if reply.answer else None for reply in replies]


def test_answers_come_in_the_order_of_the_questions(server: Server, options: Options, tmp_path: Path) -> None:
    client = Client(options(), tmp_path)
    words = ["treaty", "match", "shares"] * 8
    counted: list[int] = []
    replies = client.ask([question(f"{word} {place}") for place, word in enumerate(words)], counted.append)
    assert texts(replies) == [{"treaty": "A", "match": "B", "shares": "C"}[word] for word in words]
    assert sum(counted) == len(words)
    assert all(reply.tokens == 4 for reply in replies), "words of the prompt, as the server counts"
    assert client.facts()["requests"] == len(words)
    assert client.facts()["completion_tokens"] == len(words)
    assert client.facts()["usd"] is None, "no price was given, and none is built in"


@pytest.mark.parametrize("width", [1, 4])
def test_as_many_requests_are_under_way_as_asked_for(
    server: Server, options: Options, tmp_path: Path, width: int
) -> None:
    server.model.delay = 0.1
    Client(options(concurrency=width), tmp_path).ask([question(f"match {place}") for place in range(13)])
    assert server.model.most_running == width


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (fails(429), 2),
        (fails(500), 3),
        (fails(503, "overloaded"), 1),
        (breaks_off, 2),
        (drops, 1),
        (says({"error": {"message": "upstream is down"}}), 1),
        (says(["not", "an", "object"]), 1),
        (says(b"<html>busy</html>"), 1),
        (hangs(1.5), 1),
    ],
    ids=["429", "500", "503", "truncated", "dropped", "error with 200", "list", "html", "timeout"],
)
def test_what_may_pass_is_tried_again(
    server: Server, options: Options, tmp_path: Path, fault: Fault, times: int
) -> None:
    server.model.faults["match"] = [fault] * times
    client = Client(options(timeout=0.5), tmp_path)
    assert texts(client.ask([question("match"), question("treaty")])) == ["B", "A"]
    assert (client.facts()["requests"], client.facts()["retries"]) == (2 + times, times)


@pytest.mark.parametrize(
    ("fault", "reason", "attempts"),
    [
        (fails(500), "HTTP 500", 3),
        (fails(429), "HTTP 429", 3),
        (breaks_off, "unreadable response", 3),
        (drops, "connection error", 3),
        (hangs(1.5), "timeout", 3),
        (fails(400), "HTTP 400", 1),
        (fails(403), "HTTP 403", 1),
    ],
    ids=["500", "429", "truncated", "dropped", "timeout", "400", "403"],
)
def test_what_does_not_pass_is_a_failure_and_no_answer(
    server: Server, options: Options, tmp_path: Path, fault: Fault, reason: str, attempts: int
) -> None:
    server.model.faults["match"] = list(always(fault))
    client = Client(options(max_retries=2, timeout=0.5), tmp_path)
    good, bad = client.ask([question("treaty"), question("match")])
    assert good.answer is not None
    assert (bad.answer, bad.failure) == (None, reason)
    assert client.facts()["requests"] == 1 + attempts
    server.model.faults.clear()
    assert texts(client.ask([question("match")])) == ["B"], "failures are not kept"


def test_the_endpoint_says_how_long_to_wait(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.faults["match"] = [fails(429, Retry_After="1")]
    client = Client(options(), tmp_path)
    started = time.monotonic()
    assert texts(client.ask([question("match")])) == ["B"]
    assert time.monotonic() - started >= 1
    server.model.faults["shares"] = [fails(429, Retry_After="86400")]
    assert client.ask([question("shares")])[0].failure == "HTTP 429", "a day is not waited for"


def test_a_refused_key_ends_it_at_once_and_is_not_shown(
    server: Server, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.model.key = "right"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-secret")
    with pytest.raises(ModelError, match="OPENAI_API_KEY") as caught:
        Client(options(), tmp_path).ask([question(f"match {place}") for place in range(30)])
    assert len(server.model.requests) == 1
    assert "secret" not in str(caught.value)


def test_an_unknown_model_ends_it_at_once(server: Server, options: Options, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"knows no model 'other'.*does not exist"):
        Client(options(model="openai/other"), tmp_path).ask([question(f"match {place}") for place in range(30)])
    assert len(server.model.requests) == 1


def test_a_used_up_quota_ends_it_at_once(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.faults["match"] = [fails(429, "pay first", "insufficient_quota")]
    with pytest.raises(ModelError, match="quota is used up"):
        Client(options(), tmp_path).ask([question("match")])


def test_an_endpoint_that_never_answers_ends_it_early(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.faults["match"] = list(always(fails(500, "the disk is on fire")))
    with pytest.raises(ModelError, match=f"none of the first {GIVE_UP} requests.*HTTP 500: the disk is on fire"):
        Client(options(max_retries=0, concurrency=4), tmp_path).ask([question(f"match {place}") for place in range(99)])
    assert GIVE_UP <= len(server.model.requests) <= GIVE_UP + 4


def test_an_endpoint_that_is_not_there(options: Options, tmp_path: Path) -> None:
    client = Client(options(base_url="http://127.0.0.1:9/v1", max_retries=1), tmp_path)
    assert client.ask([question("match")])[0].failure == "connection error"
    with pytest.raises(ModelError, match="answered none of 1 questions"):
        client.require_answers()


def test_the_endpoints_words_about_private_text_are_not_repeated(
    server: Server, options: Options, tmp_path: Path
) -> None:
    server.model.faults["match"] = list(always(fails(400, "cannot parse: the secret match")))
    client = Client(options(), tmp_path, private=True)
    client.ask([question("the secret match")])
    with pytest.raises(ModelError, match=r"HTTP 400$"):
        client.require_answers()


@pytest.mark.parametrize("fault", [refuses, filtered])
def test_a_refusal_is_an_answer(server: Server, options: Options, tmp_path: Path, fault: Fault) -> None:
    server.model.faults["match"] = [fault]
    client = Client(options(), tmp_path)
    (reply,) = client.ask([question("match")])
    assert reply.answer is not None
    assert (reply.answer["text"], reply.answer["refused"]) == ("", True)
    assert client.facts()["requests"] == 1


def test_a_rerun_asks_nothing(server: Server, options: Options, tmp_path: Path) -> None:
    questions = [question(f"match {place}") for place in range(5)]
    prices = {"price_in": 1.0, "price_out": 2.0}
    first = Client(options(**prices), tmp_path)
    told = first.ask([*questions, questions[0]])
    assert len(server.model.requests) == 5, "a question that comes twice is sent once"
    again = Client(options(concurrency=2, max_retries=0, **prices), tmp_path)
    assert again.ask([*questions, questions[0]]) == told
    assert len(server.model.requests) == 5
    facts = again.facts()
    assert (facts["requests"], facts["answered_from_cache"], facts["usd"]) == (0, 5, 0)
    assert facts["usd_from_cache"] == pytest.approx(first.facts()["usd"])
    assert first.ask(questions) == told[:5]
    assert first.facts()["answered_from_cache"] == 0, "its own answers"


@pytest.mark.parametrize(
    "change",
    [{"temperature": 1}, {"max_tokens": 5}, {"logprobs": True}, {"messages": [{"role": "user", "content": "m"}]}],
)
def test_other_parameters_are_another_question(
    server: Server, options: Options, tmp_path: Path, change: dict[str, Any]
) -> None:
    client = Client(options(), tmp_path)
    client.ask([question("match"), question("match", **change)])
    assert len(server.model.requests) == 2


def test_another_model_or_address_is_another_question(server: Server, options: Options, tmp_path: Path) -> None:
    Client(options(), tmp_path).ask([question("match")])
    there = Client(options(base_url=server.url.replace("127.0.0.1", "localhost")), tmp_path)
    assert not there.knows(question("match"))
    assert not Client(options(model="openai/other"), tmp_path).knows(question("match"))
    assert Client(options(base_url=server.url + "/"), tmp_path).knows(question("match"))


def test_a_run_that_died_goes_on(server: Server, options: Options, tmp_path: Path) -> None:
    questions = [question(f"match {place}") for place in range(12)]

    def dies(finished: int) -> None:
        if len(server.model.requests) >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Client(options(concurrency=2), tmp_path).ask(questions, dies)
    sent = len(server.model.requests)
    assert sent < 12
    assert texts(Client(options(), tmp_path).ask(questions)) == ["B"] * 12
    assert len(server.model.requests) == 12, "answers under way when it died were kept"
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_answer_cut_short_by_a_crash_is_asked_again(server: Server, options: Options, tmp_path: Path) -> None:
    Client(options(), tmp_path).ask([question("match")])
    (kept,) = tmp_path.rglob("*.json")
    kept.write_text('{"answer": {"te')
    assert texts(Client(options(), tmp_path).ask([question("match")])) == ["B"]
    assert len(server.model.requests) == 2


def test_what_is_kept_holds_neither_prompt_nor_key(
    server: Server, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.model.key = "sk-very-secret"
    monkeypatch.setenv("OPENAI_API_KEY", server.model.key)
    server.model.faults["treaty"] = [fails(500, f"{server.model.key} is out of luck")] * 9
    caplog.set_level(logging.DEBUG)
    echo = {"prompt": "Text: confidential match\nCategory: B", "max_tokens": 0, "echo": True, "logprobs": 1}
    client = Client(options(max_retries=0), tmp_path, private=True)
    client.ask([question("confidential match"), Question("completions", echo, " B"), question("treaty")])
    assert server.model.keys == {"Bearer sk-very-secret"}
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert not any("confidential" in text or "secret" in text for text in kept)
    assert "secret" not in caplog.text
    assert "secret" not in json.dumps(client.facts())
    assert "secret" not in client._last


def test_spending_never_passes_the_cap(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.delay = 0.01
    prices = {"price_in": 1000.0, "price_out": 1000.0}
    worst, real = (len(json.dumps(question("match 10").arguments["messages"])) + 64 + 4) * 1e-3, 5e-3
    cap = worst + 10.5 * real
    client = Client(options(max_usd=cap, concurrency=4, **prices), tmp_path)
    questions = [question(f"match {place}") for place in range(10, 60)]
    replies = client.ask(questions)
    answered = sum(reply.answer is not None for reply in replies)
    assert answered == len(server.model.billed) == 11, "the cap is used up as far as the worst case allows"
    assert {reply.failure for reply in replies} == {"", "spending cap"}
    assert client.facts()["usd"] == pytest.approx(answered * real)
    more = Client(options(max_usd=cap, **prices), tmp_path)
    assert (
        sum(reply.answer is not None for reply in more.ask([question(f"match {place}") for place in range(10, 60)]))
        == 22
    )


def test_what_may_have_been_billed_counts_against_the_cap(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.usage = False
    prices = {"price_in": 1000.0, "price_out": 1000.0}
    worst = (len(json.dumps(question("match 10").arguments["messages"])) + 64 + 4) * 1e-3
    client = Client(options(max_usd=3.5 * worst, **prices), tmp_path)
    replies = client.ask([question(f"match {place}") for place in range(10, 20)])
    assert sum(reply.answer is not None for reply in replies) == 3
    assert (client.facts()["usd"], client.facts()["usd_unreported"]) == (0, pytest.approx(3 * worst))


def test_a_cap_too_small_for_one_request(server: Server, options: Options, tmp_path: Path) -> None:
    client = Client(options(max_usd=1e-6, price_in=1.0, price_out=1.0), tmp_path)
    with pytest.raises(OptionError, match="max_usd=1e-06 does not pay"):
        client.ask([question("match")])
    assert not server.model.requests


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_usd": 1}, "max_usd=1 needs price_in and price_out"),
        ({"price_in": 1}, "go together"),
        ({"base_url": "127.0.0.1:8000"}, "is no address"),
        ({"base_url": "http://me:hunter2@127.0.0.1/v1"}, "holds a password"),
        ({"base_url": "http://127.0.0.1/v1?key=hunter2"}, "holds a password or a query"),
    ],
)
def test_options_that_make_no_sense(options: Options, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        Client(options(**changes), tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_key_is_needed_anywhere_but_here(
    server: Server, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert texts(Client(options(), tmp_path).ask([question("match")])) == ["B"]
    for url in ("https://api.example.com/v1", None):
        with pytest.raises(UsageError, match="set the environment variable OPENAI_API_KEY"):
            Client(options(base_url=url), tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-with a newline\nsecret")
    with pytest.raises(UsageError, match="characters that no key has") as caught:
        Client(options(), tmp_path)
    assert "secret" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"pip install 'evalsuite\[openai\]'"):
        Client(options(), tmp_path)


def test_the_address_may_come_from_the_environment(
    server: Server, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert texts(Client(options(base_url=None), tmp_path).ask([question("match")])) == ["B"]
