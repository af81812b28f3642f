"""What a hosted model's answers become: labels as written, and log-probabilities where there are any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosted_server import Fault, Server, always, fails, filtered, refuses, without_logprobs

from evalsuite.api import HostedAnswerer, HostedOptions
from evalsuite.api.answering import first_token_logits
from evalsuite.contracts import RunContext
from evalsuite.errors import ModelError, OptionError
from evalsuite.progress import Silent
from evalsuite.prompts import PromptSet, load_prompts

LABELS = ("World", "Sports", "Business")
TEXTS = ("a treaty", "the match", "shares fell")
RIGHT = np.eye(3, dtype=bool)

Options = Callable[..., HostedOptions]


def prompts(template: str = "letters", labels: tuple[str, ...] = LABELS, multilabel: bool = False) -> PromptSet:
    return load_prompts(template, task="toy", labels=labels, multilabel=multilabel, descriptions={}, search=[])


def context(folder: Path, template: str = "letters", **changes: Any) -> RunContext:
    arguments = {"task": "toy", "labels": LABELS, "multilabel": False, "seed": 0, "device": "cpu", "workdir": folder}
    arguments |= {"cache": folder, "progress": Silent(), "prompts": prompts(template)} | changes
    return RunContext(**arguments)


def test_letters_get_the_log_probabilities_of_the_first_token(server: Server, options: Options, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    scores = HostedAnswerer(options(), ctx).predict(TEXTS)
    assert scores.logits is not None
    # The server lists the right letter at -0.1 and, with a space before it, at -6; the others at -3 and -4.
    right = np.logaddexp(-0.1, -6.0)
    expected = [[right, -3, -4], [-3, right, -4], [-3, -4, right]]
    np.testing.assert_allclose(scores.logits, expected, rtol=1e-6)
    assert (list(scores.status), scores.raw) == (["ok"] * 3, ["A", "B", "C"])
    assert ctx.facts["label_scoring"] == "probabilities of the first token, by the endpoint"
    assert (ctx.facts["requests"], ctx.facts["lacking_logprobs"], ctx.facts["failed"]) == (3, 0, {})
    assert ctx.facts["predict_tokens"] == sum(used for used, _ in server.model.billed)
    assert {request["temperature"] for request in server.model.requests} == {0}


@pytest.mark.parametrize("kept", ["some", "none"])
def test_without_every_label_there_are_no_logits_at_all(
    server: Server, options: Options, tmp_path: Path, kept: str
) -> None:
    server.model.logprobs = kept
    ctx = context(tmp_path)
    scores = HostedAnswerer(options(), ctx).predict(TEXTS)
    assert scores.logits is None
    np.testing.assert_array_equal(scores.predicted, RIGHT)
    assert ctx.facts["label_scoring"] == "none: answers as written"
    assert ctx.facts.get("lacking_logprobs", 0) == (3 if kept == "some" else 0)


def test_words_of_several_tokens_are_read_and_not_measured(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.answers = {"treaty": "World", "match": " sports.\nBecause", "shares": "Commerce"}
    scores = HostedAnswerer(options(logprobs="off"), context(tmp_path, "listed")).predict(TEXTS)
    assert scores.logits is None
    np.testing.assert_array_equal(scores.predicted, RIGHT * [[1], [1], [0]])
    assert list(scores.status) == ["ok", "ok", "invalid"]
    assert not any("logprobs" in request for request in server.model.requests)


def test_a_token_that_only_begins_an_answer_says_nothing() -> None:
    letters, words = prompts(), prompts("plain")
    full = [("A", -1.0), (" a", -1.0), ("B", -2.0), ("C", -3.0), ("World", -0.5), ("", -9.0)]
    found = first_token_logits(full, letters)
    assert found is not None
    np.testing.assert_allclose(found, [-1 + np.log(2), -2, -3], rtol=1e-6)
    assert first_token_logits(full[:3], letters) is None
    assert first_token_logits([], letters) is None
    assert first_token_logits([("World", -1), ("Sports", -1), ("Bus", -1)], words) is None


@pytest.mark.parametrize(("normalise", "divisor"), [("none", 1), ("token", 1), ("byte", 5)])
def test_completions_give_the_log_likelihood_of_every_answer(
    server: Server, options: Options, tmp_path: Path, normalise: str, divisor: int
) -> None:
    server.model.answers = {"treaty": "World", "match": "Sports", "shares": "Business"}
    ctx = context(tmp_path, "plain")
    answerer = HostedAnswerer(options(api="completions", normalise=normalise), ctx)
    scores = answerer.predict(TEXTS)
    assert scores.logits is not None
    np.testing.assert_allclose(scores.logits[:, 0] * divisor, [-0.25, -2.5, -2.5], rtol=1e-6)
    assert (scores.logits.argmax(axis=1) == [0, 1, 2]).all() or normalise == "byte"
    assert ctx.facts["requests"] == 9
    assert all(request["echo"] and request["max_tokens"] == 0 for request in server.model.requests)
    assert server.model.requests[0]["prompt"].endswith("\nCategory: World")


def test_an_answer_of_several_tokens_is_their_sum(server: Server, options: Options, tmp_path: Path) -> None:
    labels = ("World news", "Sports", "Business")
    server.model.answers = {"treaty": "World news", "match": "Sports", "shares": "Business"}
    ctx = context(tmp_path, labels=labels, prompts=prompts("plain", labels))
    logits = HostedAnswerer(options(api="completions"), ctx).predict(TEXTS).logits
    assert logits is not None
    assert logits[0].tolist() == [-1.25, -2.5, -2.5]
    normalised = HostedAnswerer(options(api="completions", normalise="token"), ctx).predict(TEXTS).logits
    assert normalised is not None
    assert normalised[0].tolist() == [-0.625, -2.5, -2.5]


@pytest.mark.parametrize("kept", ["some", "none"])
def test_completions_without_log_probabilities_are_read(
    server: Server, options: Options, tmp_path: Path, kept: str
) -> None:
    server.model.logprobs = kept
    scores = HostedAnswerer(options(api="completions"), context(tmp_path)).predict(TEXTS)
    assert scores.logits is None
    np.testing.assert_array_equal(scores.predicted, RIGHT)
    assert len(server.model.requests) == (3 * 3 + 3 if kept == "some" else 1 + 3), (
        "one request tells that there are none"
    )


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_an_endpoint_without_log_probabilities_where_they_are_demanded(
    server: Server, options: Options, tmp_path: Path, api: str
) -> None:
    server.model.logprobs = "none"
    with pytest.raises(ModelError, match="gives no log-probabilities of 'test'"):
        HostedAnswerer(options(api=api, logprobs="required"), context(tmp_path)).predict(TEXTS)
    assert len(server.model.requests) == 1, "before the rest is sent"
    server.model.logprobs = "some"
    with pytest.raises(ModelError, match=r"no log-probability of every label for . of 3 documents"):
        HostedAnswerer(options(api=api, logprobs="required"), context(tmp_path / "b")).predict(TEXTS)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_an_endpoint_that_refuses_to_be_asked_for_them(
    server: Server, options: Options, tmp_path: Path, api: str
) -> None:
    server.model.faults["t"] = list(always(without_logprobs))  # in every text
    scores = HostedAnswerer(options(api=api), context(tmp_path)).predict(TEXTS[:2])
    np.testing.assert_array_equal(scores.predicted, RIGHT[:2])
    sent = len(server.model.requests)
    assert sent == 3, "one to find out, one a document"
    HostedAnswerer(options(api=api), context(tmp_path)).predict(TEXTS[:2])
    assert len(server.model.requests) == sent, "a rerun asks nothing, though refusals are not kept"
    with pytest.raises(ModelError, match="gives no log-probabilities"):
        HostedAnswerer(options(api=api, logprobs="required"), context(tmp_path / "b")).predict(TEXTS[:2])


@pytest.mark.parametrize("fault", [refuses, filtered])
@pytest.mark.parametrize("logprobs", ["auto", "off"])
def test_a_refusal_is_invalid_and_takes_no_logits_from_others(
    server: Server, options: Options, tmp_path: Path, fault: Fault, logprobs: str
) -> None:
    server.model.faults["treaty"] = list(always(fault))
    scores = HostedAnswerer(options(logprobs=logprobs), context(tmp_path)).predict(TEXTS)
    assert list(scores.status) == ["invalid", "ok", "ok"]
    assert (scores.logits is not None) == (logprobs == "auto")
    shown = scores.logits if scores.logits is not None else scores.predicted
    assert shown is not None
    assert not shown[0].any()


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("logprobs", ["auto", "off"])
def test_a_failure_is_failed_and_no_answer(
    server: Server, options: Options, tmp_path: Path, api: str, logprobs: str
) -> None:
    server.model.faults["match"] = list(always(fails(500)))
    ctx = context(tmp_path)
    scores = HostedAnswerer(options(api=api, logprobs=logprobs, max_retries=1), ctx).predict(TEXTS)
    assert list(scores.status) == ["ok", "failed", "ok"]
    assert ctx.facts["failed"] == {"HTTP 500": 1}
    assert (scores.logits is not None) == (logprobs == "auto")
    shown = scores.logits if scores.logits is not None else scores.predicted
    assert shown is not None
    assert not shown[1].any()


def test_what_the_cap_leaves_unanswered_is_failed(server: Server, options: Options, tmp_path: Path) -> None:
    texts = ("a match", "b match", "c match")  # of one price and one worst case
    prices = {"price_in": 1000.0, "price_out": 1000.0, "concurrency": 1}
    free = HostedAnswerer(options(**prices), context(tmp_path / "free"))
    free.predict(texts)
    worst = free.client.account.price(free.client._worst_case(free._question(texts[0], measured=True)))
    real = sum(server.model.billed[0]) / 1000
    for answered in (1, 2, 3):
        ctx, cap = context(tmp_path / str(answered)), worst + (answered - 0.5) * real
        scores = HostedAnswerer(options(max_usd=cap, **prices), ctx).predict(texts)
        assert list(scores.status) == ["ok"] * answered + ["failed"] * (3 - answered)
        assert ctx.facts["usd"] == pytest.approx(answered * real)
        assert ctx.facts["failed"] == ({"spending cap": 3 - answered} if answered < 3 else {})


def test_nothing_answered_is_no_result(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.faults["t"] = list(always(fails(500)))
    with pytest.raises(ModelError, match="answered none of 2 questions; the last failed by HTTP 500"):
        HostedAnswerer(options(max_retries=0, logprobs="off"), context(tmp_path)).predict(TEXTS[:2])


def test_any_number_of_labels(server: Server, options: Options, tmp_path: Path) -> None:
    server.model.answers = {"treaty": "World; Business", "match": "none", "shares": "World; Elsewhere"}
    ctx = context(tmp_path, multilabel=True, prompts=prompts("listed", multilabel=True))
    for api in ("chat", "completions"):
        scores = HostedAnswerer(options(api=api), ctx).predict(TEXTS)
        assert scores.logits is None
        np.testing.assert_array_equal(scores.predicted, [[1, 0, 1], [0, 0, 0], [0, 0, 0]])
        assert list(scores.status) == ["ok", "ok", "invalid"]


def test_solved_examples_stand_in_the_prompt_and_long_documents_are_cut(
    server: Server, options: Options, tmp_path: Path
) -> None:
    from dataclasses import replace

    ctx = context(tmp_path, prompts=replace(prompts(), shots=(("an old match", (1,)),)))
    HostedAnswerer(options(max_characters=9), ctx).predict(["a treaty of many words"])
    sent = server.model.requests[0]["messages"][0]["content"]
    assert "Text: an old match\nCategory: B\n" in sent
    assert sent.endswith("Text: a treaty \nCategory:")
    assert (ctx.facts["truncated_share"], ctx.facts["truncation_side"]) == (1, "right")
    left = HostedAnswerer(options(max_characters=8, truncation_side="left"), ctx)
    left.predict(["it was a  a treaty"])
    assert "Text: a treaty\n" in server.model.requests[-1]["messages"][0]["content"]


def test_the_servers_name_for_the_answers_length(server: Server, options: Options, tmp_path: Path) -> None:
    HostedAnswerer(options(temperature=None, max_new_tokens=7), context(tmp_path)).predict(TEXTS[:1])
    assert server.model.requests[0]["max_tokens"] == 7
    assert "temperature" not in server.model.requests[0]


@pytest.mark.parametrize(
    ("changes", "template", "message"),
    [
        ({"decode": "free"}, "letters", "decode=free is for local models"),
        ({"logprobs": "required", "api": "chat"}, "many", "lists 20 tokens at most, and there are 21 labels"),
        ({"logprobs": "required", "api": "completions"}, "prefix", "'Sport' begins the answer 'Sports'"),
        ({"logprobs": "required"}, "multi", "may have any number of labels"),
    ],
)
def test_what_no_endpoint_can_do(
    server: Server, options: Options, tmp_path: Path, changes: dict[str, Any], template: str, message: str
) -> None:
    made = {
        "letters": prompts(),
        "many": prompts(labels=tuple(f"label {index}" for index in range(21))),
        "prefix": prompts("plain", ("Sport", "Sports")),
        "multi": prompts(multilabel=True),
    }[template]
    ctx = context(tmp_path, labels=made.labels, prompts=made, multilabel=made.multilabel)
    with pytest.raises(OptionError, match=message):
        HostedAnswerer(options(**changes), ctx)
    assert not server.model.requests


def test_contextual_calibration_insists(server: Server, options: Options, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="demanded, but cannot be had: logprobs=off"):
        HostedAnswerer(options(logprobs="off"), context(tmp_path), insist=True)


def test_a_private_task_is_not_sent_anywhere_without_leave(server: Server, options: Options, tmp_path: Path) -> None:
    ctx = context(tmp_path, private=True)
    with pytest.raises(OptionError, match="--allow-private-upload true"):
        HostedAnswerer(options(), ctx)
    assert not server.model.requests
    HostedAnswerer(options(allow_private_upload=True), ctx).predict(TEXTS)
    assert len(server.model.requests) == 3
    for path in tmp_path.rglob("*.json"):
        assert set(json.loads(path.read_text())) == {"answer", "usage"}
        assert not any(text in path.read_text() for text in TEXTS)
