"""Hosted models behind an OpenAI-compatible endpoint: asked in parallel, with retries, a cap on spending and a cache.

The key comes from the environment and goes nowhere but into the request. What an endpoint failed to answer is a failure
and no answer: ``Reply.answer`` is None and ``Reply.failure`` says why. Answers are kept on disk by a hash of everything
that decides them, so that nothing is paid for twice and a run that died goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

from evalsuite.api.endpoint import KEY, OPENAI, HostedOptions, check_endpoint, endpoint_url, read_key
from evalsuite.api.responses import read_echo, read_text, read_usage, retry_after
from evalsuite.api.spending import Account, Usage
from evalsuite.errors import ModelError, OptionError
from evalsuite.store import writing

SPENDING_CAP = "spending cap"
GIVE_UP = 20  # failures without a single answer after which the endpoint is taken to be down
LONGEST_WAIT = 120.0  # seconds; an endpoint that asks for more is taken to have refused
FORMAT_TOKENS = 64  # what chat formats add around a message, with room to spare
LONGEST_DETAIL = 200  # characters of an endpoint's own message in an error

_dice = random.Random()  # apart from the seeded one: waiting must not move what is drawn


@dataclass(frozen=True)
class Question:
    """One request. ``arguments`` go to the endpoint as they are, with the model.

    Chat and plain completions are answered by text. ``echoed`` turns a completion into a measurement: the prompt ends
    with this text, the endpoint repeats the prompt, and the log-likelihood of the text is what is kept.
    """

    route: Literal["chat", "completions"]
    arguments: Mapping[str, Any]
    echoed: str = ""


@dataclass(frozen=True)
class Reply:
    """What became of a question.

    answer: what ``evalsuite.api.responses`` keeps of a text or an echo; None where none was had: ``failure`` says why.
    tokens: of the prompt, as the endpoint counted them.
    """

    answer: Mapping[str, Any] | None
    failure: str = ""
    tokens: int = 0


class _Trouble(Exception):  # noqa: N818 - one attempt that brought no answer
    """retry: another attempt may bring one. after: seconds that the endpoint asks to wait. billed: it may cost all the
    same. detail: the endpoint's own words."""

    def __init__(
        self, reason: str, *, retry: bool = True, after: float = 0, billed: bool = False, detail: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.after, self.billed, self.detail = reason, retry, after, billed, detail


class Client:
    """Asks one hosted model.

    Raises:
        OptionError: prices or a cap that do not go together, or an address that is none.
        UsageError: no key in the environment.
        ModelError: the ``openai`` package is not installed.
    """

    def __init__(self, options: HostedOptions, cache: Path, *, private: bool = False) -> None:
        """``cache``: where the folder of answers is kept; ``private``: errors must not quote the endpoint."""
        check_endpoint(options)
        self.model, self.options, self.private = options.hosted_name, options, private
        self.url = endpoint_url(options)
        self.is_elsewhere = urlsplit(self.url).hostname != urlsplit(OPENAI).hostname
        self.folder = cache / "answers"
        self.account = Account(options.price_in, options.price_out, options.max_usd)
        self.requests = self.retries = self.recalled = 0
        self._answered = self._failures = 0
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._not_before = 0.0  # on the monotonic clock
        self._last = ""
        self._connection: Any = None

    def ask(self, questions: Sequence[Question], done: Callable[[int], None] = lambda count: None) -> list[Reply]:
        """A reply to every question, in their order; a question asked twice is sent once. ``done`` counts them.

        The first request goes alone, so that a wrong key, model or address is found out by one.

        Raises:
            ModelError: the key or the model is refused, or none of the first 20 requests is answered.
            OptionError: ``max_usd`` does not pay a single request.
        """
        digests = [self._digest(question) for question in questions]
        waiting: dict[str, list[int]] = {}
        for place, digest in enumerate(digests):
            waiting.setdefault(digest, []).append(place)
        replies = {digest: reply for digest in waiting if (reply := self._recall(digest)) is not None}
        done(sum(len(waiting[digest]) for digest in replies))

        def settle(digest: str, reply: Reply) -> None:
            replies[digest] = reply
            self._known.add(digest)
            self._judge(reply)
            done(len(waiting[digest]))

        open_questions = {d: questions[places[0]] for d, places in waiting.items() if d not in replies}
        self._send_all(open_questions, settle)
        return [replies[digest] for digest in digests]

    def require_answers(self) -> None:
        """Nothing asked so far was answered: that is no result. Raises: ModelError."""
        if self._failures and not self._answered and not self.recalled:
            raise ModelError(f"{self.url} answered none of {self._failures} questions; {self._last}")

    def knows(self, question: Question) -> bool:
        """Whether the answer is kept already, so that asking costs nothing."""
        return self._path(self._digest(question)).is_file()

    def facts(self) -> dict[str, Any]:
        """What was asked and what it cost so far; dollars are None without prices."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "answered_from_cache": self.recalled,
            **self.account.to_json(),
        }

    def _send_all(self, questions: Mapping[str, Question], settle: Callable[[str, Reply], None]) -> None:
        todo = list(questions.items())
        if not todo:
            return
        self._stop.clear()
        # Left on an error or an interrupt, the pool waits for requests under way: they are paid for and are kept.
        with self._connect() as self._connection, ThreadPoolExecutor(self.options.concurrency) as pool:
            try:
                if not self._answered:
                    digest, question = todo.pop(0)
                    settle(digest, pool.submit(self._reply, digest, question).result())
                running: dict[Future[Reply], str] = {}
                while todo or running:
                    while todo and len(running) < self.options.concurrency:
                        digest, question = todo.pop(0)
                        running[pool.submit(self._reply, digest, question)] = digest
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        settle(running.pop(future), future.result())
            except BaseException:
                self._stop.set()
                raise

    def _judge(self, reply: Reply) -> None:
        """Count answers and failures; an endpoint that never answers ends the run."""
        if reply.answer is not None:
            self._answered += 1
        elif reply.failure == SPENDING_CAP:
            if not self._answered and not self.recalled:
                raise OptionError(
                    f"max_usd={self.options.max_usd:g} does not pay the worst case of a single request; raise it, or "
                    "lower max_new_tokens or the document's length"
                )
        else:
            self._failures += 1
            if not self._answered and self._failures >= GIVE_UP:
                raise ModelError(f"{self.url} answered none of the first {GIVE_UP} requests; {self._last}")

    def _reply(self, digest: str, question: Question) -> Reply:
        """Ask until there is an answer or no hope of one. Runs in a thread of the pool."""
        worst = self._worst_case(question)
        for attempt in range(self.options.max_retries + 1):
            if not self.account.reserve(worst):
                return Reply(None, SPENDING_CAP)
            try:
                answer, usage = self._attempt(question, worst)
            except _Trouble as trouble:
                failure = trouble
            else:
                self._keep(digest, answer, usage)
                return Reply(answer, tokens=usage.prompt if usage else 0)
            delay = min(LONGEST_WAIT, self.options.backoff * 2**attempt * _dice.uniform(0.5, 1.5))
            hopeless = not failure.retry or failure.after > LONGEST_WAIT or attempt == self.options.max_retries
            if hopeless or self._stop.wait(max(delay, failure.after)):
                break
            with self._lock:
                self.retries += 1
        with self._lock:
            self._last = f"the last failed by {failure.reason}{failure.detail}"
        return Reply(None, failure.reason)

    def _attempt(self, question: Question, worst: Usage) -> tuple[dict[str, Any], Usage | None]:
        """One request. Whatever happens, what was reserved for it is settled."""
        with self._lock:
            self.requests += 1
            hold = self._not_before - time.monotonic()
        usage, billed = None, False
        try:
            if self._stop.wait(max(0.0, hold)):
                raise _Trouble("stopped", retry=False)
            answer, usage = self._send(question)
            billed = True
            return answer, usage
        except _Trouble as trouble:
            billed = trouble.billed
            if trouble.reason == "HTTP 429":
                with self._lock:  # the limit is everybody's: the other threads wait as well
                    self._not_before = max(self._not_before, time.monotonic() + min(trouble.after, LONGEST_WAIT))
            raise
        finally:
            self.account.settle(worst, usage, billed=billed)

    def _send(self, question: Question) -> tuple[dict[str, Any], Usage | None]:
        import openai

        resource = self._connection.chat.completions if question.route == "chat" else self._connection.completions
        try:
            response = resource.with_raw_response.create(model=self.model, **question.arguments)
            body = json.loads(response.http_response.content)
            return read_echo(body, question.echoed) if question.echoed else read_text(body), read_usage(body)
        except openai.APITimeoutError:
            raise _Trouble("timeout", billed=True) from None
        except openai.APIConnectionError as error:
            # By name, since openai has changed its HTTP library before; what was never sent is not billed.
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
            raise _Trouble("connection error", billed=not unsent) from None
        except openai.APIStatusError as error:
            self._refused(error)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _Trouble("unreadable response", billed=True) from None

    def _refused(self, error: Any) -> NoReturn:
        status, detail = int(error.status_code), self._detail(error)
        if status == 401:
            raise ModelError(
                f"{self.url} refused the key (HTTP 401): set the environment variable {KEY} to a valid one"
            )
        if status == 404:
            raise ModelError(
                f"{self.url} knows no model {self.model!r} (HTTP 404){detail}: check --model openai/NAME, and that "
                "--base_url ends where /chat/completions begins"
            )
        if error.code == "insufficient_quota":
            raise ModelError(f"{self.url}: the account's quota is used up (HTTP {status}); the answers so far are kept")
        retry = status in (408, 409, 429) or status >= 500
        raise _Trouble(f"HTTP {status}", retry=retry, after=retry_after(error.response.headers), detail=detail)

    def _detail(self, error: Any) -> str:
        """The endpoint's own words in one line; none for a private task, since they may quote the document."""
        message = error.body.get("message") if isinstance(error.body, Mapping) else None
        if self.private or not isinstance(message, str):
            return ""
        words = " ".join(message.split()).replace(read_key(self.url), "[key]")
        return f": {words[:LONGEST_DETAIL]}"

    def _connect(self) -> Any:
        import openai

        # Retries are counted and paid for here, not by the client.
        return openai.OpenAI(api_key=read_key(self.url), base_url=self.url, timeout=self.options.timeout, max_retries=0)

    def _worst_case(self, question: Question) -> Usage:
        """The most tokens a request can cost: no tokenizer makes more tokens of a text than it has bytes."""
        arguments = question.arguments
        text = json.dumps(arguments.get("messages", arguments.get("prompt")), ensure_ascii=False)
        longest = arguments.get("max_tokens", arguments.get("max_completion_tokens", 0))
        return Usage(len(text.encode()) + FORMAT_TOKENS, max(1, longest))

    def _digest(self, question: Question) -> str:
        whole = [self.url, self.model, question.route, dict(question.arguments), question.echoed]
        return hashlib.blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=20).hexdigest()

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.json"

    def _recall(self, digest: str) -> Reply | None:
        path = self._path(digest)
        if not path.is_file():
            return None
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # cut short by a crash of the machine: asked again
            return None
        usage = Usage(*kept["usage"]) if kept["usage"] else None
        if digest not in self._known:  # neither asked nor counted in this run
            self._known.add(digest)
            self.recalled += 1
            self.account.recall(usage)
        return Reply(kept["answer"], tokens=usage.prompt if usage else 0)

    def _keep(self, digest: str, answer: Mapping[str, Any], usage: Usage | None) -> None:
        """Write an answer whole or not at all; the question is not in it, only its hash is."""
        path = self._path(digest)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: another run may be writing the same answer.
            temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
            temporary.write_text(json.dumps({"answer": answer, "usage": usage}), encoding="utf-8")
            temporary.replace(path)
