"""How answers are had from a hosted model: as text, with log-probabilities of the labels where the endpoint gives them.

``api=completions``: a label's logit is the log-likelihood of its answer after the prompt, which the endpoint echoes. As
    for a local model, but without an end mark: no endpoint scores one.
``api=chat``: a label's logit is the log of the probability that the first token alone reads as its answer. It is had
    only where all labels are among the 20 likeliest first tokens, as with single letters (template ``letters``).

Where one answered document lacks a label there are logits for none, and the answers count as written.

Shapes: n documents, k labels.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalsuite.api.client import Client, Question, Reply
from evalsuite.api.endpoint import HostedOptions, check_endpoint
from evalsuite.contracts import Floats, RunContext, Scores
from evalsuite.errors import ModelError, OptionError
from evalsuite.prompts import PromptSet

TOP = 20  # the most alternatives that a chat endpoint lists at a token
UNKNOWN_PARAMETER = ("HTTP 400", "HTTP 422")


class HostedAnswerer:
    """A hosted model that answers the prompts of ``ctx.prompts``.

    insist: nothing but logits will do. measures: whether log-probabilities are asked for; whether the endpoint has any
    is learnt from the first document.

    Raises:
        OptionError: options that do not fit the task, or a private task without leave.
        UsageError: no key in the environment.
    """

    def __init__(self, config: HostedOptions, ctx: RunContext, *, insist: bool = False) -> None:
        check(config, ctx, insist=insist)
        self.config, self.ctx, self.prompts = config, ctx, ctx.prompts
        self.insist = insist or config.logprobs == "required"
        self.client = Client(config, ctx.cache, private=ctx.private)
        self.measures = config.logprobs != "off" and not _obstacle(config, ctx)
        self.probed = False

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits [n, k], or predicted [n, k]; a document that got no answer is "failed".

        Raises:
            ModelError: the endpoint refuses, never answers, or gives no log-probabilities where only they will do.
        """
        started = time.monotonic()
        if self.measures and not self.probed and texts:
            self._probe(texts[0])
        scores = self._echoes(texts) if self.measures and self.config.api == "completions" else None
        scores = scores or self._written(texts)
        self.client.require_answers()
        self.ctx.facts.update(
            self.client.facts(),
            predict_seconds=time.monotonic() - started,
            truncated_share=sum(self._cut(text) != text for text in texts) / max(1, len(texts)),
            truncation_side=self.config.truncation_side,
        )
        return scores

    def _probe(self, text: str) -> None:
        """Learn from one document whether the endpoint gives log-probabilities."""
        self.probed = True
        plain, measured = self._question(text, measured=False), self._measured(text)[0]
        if not self.insist and self.client.knows(plain) and not self.client.knows(measured):
            self.measures = False  # an earlier run learnt it
            return
        (reply,) = self.client.ask([measured])
        if reply.answer is not None:
            refused = _gives_none(reply.answer)
        else:  # some endpoints refuse the very question, and answer without it
            refused = reply.failure in UNKNOWN_PARAMETER and self.client.ask([plain])[0].answer is not None
        if refused and self.insist:
            raise ModelError(
                f"{self.client.url} gives no log-probabilities of {self.client.model!r} by api={self.config.api}, but "
                "logprobs=required or contextual_calibration needs them; leave these out, or name another endpoint"
            )
        self.measures = not refused

    def _echoes(self, texts: Sequence[str]) -> Scores | None:
        """The log-likelihood of every label's answer, one request each; None where the endpoint leaves one out."""
        k = len(self.ctx.labels)
        replies = self._ask([question for text in texts for question in self._measured(text)])
        rows = [replies[start : start + k] for start in range(0, len(replies), k)]
        failures = [next((reply.failure for reply in row if reply.answer is None), "") for row in rows]
        logits = np.zeros((len(rows), k), dtype=np.float32)
        lacking = 0
        for index, row in enumerate(rows):
            values = [self._normalised(label, reply.answer or {}) for label, reply in enumerate(row)]
            if None not in values:
                logits[index] = values
            elif not failures[index]:
                lacking += 1
        if self._lacking(lacking, len(texts)):
            return None
        self._report(replies, failures, "log-likelihoods of the answers, by the endpoint")
        return Scores(logits=logits, status=["failed" if failure else "ok" for failure in failures])

    def _written(self, texts: Sequence[str]) -> Scores:
        """Answers as text, and logits from their first tokens where these tell every label."""
        replies = self._ask([self._question(text, measured=self.measures) for text in texts])
        answers = [reply.answer for reply in replies]
        read = [
            None if answer is None or answer["refused"] else self.prompts.read(answer["text"]) for answer in answers
        ]
        raw = [str(answer["text"]) if answer else "" for answer in answers]
        failures = [reply.failure for reply in replies]
        logits = self._first_tokens(answers) if self.measures and self.config.api == "chat" else None
        if logits is not None:
            self._report(replies, failures, "probabilities of the first token, by the endpoint")
            states = ["failed" if a is None else "invalid" if a["refused"] else "ok" for a in answers]
            return Scores(logits=logits, status=states, raw=raw)
        self._report(replies, failures, "none: answers as written")
        predicted = np.zeros((len(texts), len(self.ctx.labels)), dtype=np.bool_)
        for row, labels in enumerate(read):
            predicted[row, list(labels or ())] = True
        states = [
            "failed" if failure else "invalid" if labels is None else "ok"
            for failure, labels in zip(failures, read, strict=True)
        ]
        return Scores(predicted=predicted, status=states, raw=raw)

    def _first_tokens(self, answers: Sequence[Mapping[str, Any] | None]) -> Floats | None:
        """Logits [n, k], zeros where there is no answer; None where an answer leaves a label out."""
        logits = np.zeros((len(answers), len(self.ctx.labels)), dtype=np.float32)
        lacking = 0
        for row, answer in enumerate(answers):
            if answer is None or answer["refused"]:
                continue
            found = first_token_logits(answer["top"] or (), self.prompts)
            lacking += found is None
            logits[row] = 0 if found is None else found
        return None if self._lacking(lacking, len(answers)) else logits

    def _lacking(self, count: int, total: int) -> bool:
        """Whether documents lack a label's log-probability; a reader of the result is told how many."""
        self.ctx.facts["lacking_logprobs"] = count
        if count and self.insist:
            raise ModelError(
                f"{self.client.url} gave no log-probability of every label for {count} of {total} documents, and "
                "logprobs=required or contextual_calibration needs them; a template of single letters may help: "
                "--template letters"
            )
        return count > 0

    def _report(self, replies: Sequence[Reply], failures: Sequence[str], scoring: str) -> None:
        self.ctx.facts.update(
            label_scoring=scoring,
            failed=dict(Counter(filter(None, failures))),
            predict_tokens=sum(reply.tokens for reply in replies),
        )

    def _ask(self, questions: Sequence[Question]) -> list[Reply]:
        with self.ctx.progress.bar("asking", len(questions), "requests") as count:
            return self.client.ask(questions, count)

    def _question(self, text: str, *, measured: bool) -> Question:
        """What makes the model write an answer; ``measured``: and list the likeliest first tokens."""
        prompt = self.prompts.prompt(self._cut(text), self.prompts.shots)
        arguments: dict[str, Any] = {}
        if self.config.temperature is not None:
            arguments["temperature"] = self.config.temperature
        if self.config.api == "completions":
            # A base model goes on writing; what follows the first line is no part of an answer.
            stop = {} if "\n" in self.prompts.boundary else {"stop": ["\n"]}
            return Question(
                "completions", {"prompt": prompt, "max_tokens": self.config.max_new_tokens, **stop, **arguments}
            )
        # OpenAI's newer models refuse max_tokens; other servers may know no other name.
        limit = "max_tokens" if self.client.is_elsewhere else "max_completion_tokens"
        arguments |= {"messages": [{"role": "user", "content": prompt}], limit: self.config.max_new_tokens}
        return Question("chat", arguments | ({"logprobs": True, "top_logprobs": TOP} if measured else {}))

    def _measured(self, text: str) -> list[Question]:
        """The requests that give log-probabilities of one document's labels: one, or one a label."""
        if self.config.api == "chat":
            return [self._question(text, measured=True)]
        prompt = self.prompts.prompt(self._cut(text), self.prompts.shots)
        answers = [self.prompts.boundary + verbalizer for verbalizer in self.prompts.verbalizers]
        shared = {"max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
        return [Question("completions", {"prompt": prompt + answer, **shared}, answer) for answer in answers]

    def _normalised(self, label: int, answer: Mapping[str, Any]) -> float | None:
        if (value := answer.get("logprob")) is None:
            return None
        sizes = {"none": 1, "token": answer["tokens"], "byte": len(self.prompts.verbalizers[label].encode())}
        return float(value) / float(sizes[self.config.normalise])

    def _cut(self, text: str) -> str:
        limit = self.config.max_characters
        if limit is None or len(text) <= limit:
            return text
        return text[:limit] if self.config.truncation_side == "right" else text[-limit:]


def first_token_logits(top: Sequence[tuple[str, float]], prompts: PromptSet) -> Floats | None:
    """Log-probabilities [k] of the labels from the likeliest first tokens; None where one is not among them.

    Tokens that read alike ("A", " A") add up. A token that only begins an answer says nothing: others may begin so too.
    """
    logits = np.full(len(prompts.labels), -np.inf)
    for token, logprob in top:
        for label in prompts.read(token) or ():
            logits[label] = np.logaddexp(logits[label], logprob)
    return logits.astype(np.float32) if np.isfinite(logits).all() else None


def check(config: HostedOptions, ctx: RunContext, *, insist: bool = False) -> None:
    """Everything that can be known before an endpoint is asked; ``insist``: nothing but logits will do.

    Raises:
        OptionError: a private task without leave, or options that do not fit the task or each other.
        UsageError: no key in the environment.
        ModelError: the ``openai`` package is not installed.
    """
    if ctx.private and not config.allow_private_upload:
        raise OptionError(
            f"task {ctx.task!r} is private, and a hosted model would be sent its text; use a local model, or say "
            "--allow-private-upload true"
        )
    if config.decode != "auto":
        raise OptionError(f"decode={config.decode} is for local models; a hosted one goes by api and logprobs")
    obstacle = "logprobs=off" if config.logprobs == "off" else _obstacle(config, ctx)
    if obstacle and (insist or config.logprobs == "required"):
        raise OptionError(f"log-probabilities of the labels are demanded, but cannot be had: {obstacle}")
    check_endpoint(config)


def _obstacle(config: HostedOptions, ctx: RunContext) -> str:
    """Why no endpoint could give a logit of every label; empty where one could."""
    answers = ctx.prompts.verbalizers
    if ctx.multilabel:
        return "a document may have any number of labels; name a local model, with decode=per_label"
    if config.api == "chat" and len(answers) > TOP:
        return f"api=chat lists {TOP} tokens at most, and there are {len(answers)} labels; use api=completions"
    for answer in answers if config.api == "completions" else ():
        if longer := next((other for other in answers if other != answer and other.startswith(answer)), None):
            # Without an end mark the shorter answer would be likelier always.
            return f"the answer {answer!r} begins the answer {longer!r}; use template letters"
    return ""


def _gives_none(answer: Mapping[str, Any]) -> bool:
    """Whether an answer to a measured question has no log-probabilities; a refusal need not have any."""
    return not answer.get("refused") and answer.get("logprob", answer.get("top")) is None
