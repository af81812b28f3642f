"""A real HTTP server on loopback that speaks enough of the OpenAI interface for the real client, and fails as told.

It answers by what the document says: the label whose word stands in the text. ``faults`` maps a word of the document to
the responses that come before the right one; each is a function of the handler, and the last is repeated if it says so.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Fault = Callable[["Handler", Body], None]


@dataclass
class Model:
    """What the server says and does, and what it saw.

    answers: word of the document -> answer. logprobs: "all" gives every answer's first token a log-probability,
    "some" leaves the last one out, "none" gives none. usage: whether responses say how many tokens were used.
    """

    answers: Mapping[str, str]
    logprobs: str = "all"
    usage: bool = True
    key: str | None = None
    name: str = "test"
    delay: float = 0.0
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[Body] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    running: int = 0
    most_running: int = 0
    billed: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""

    def do_POST(self) -> None:
        """Count, fail where a fault is due, else answer."""
        model = self.server.model
        body: Body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with model.lock:
            model.requests.append({"path": self.path, **body})
            model.keys.add(self.headers.get("Authorization", ""))
            model.running += 1
            model.most_running = max(model.most_running, model.running)
            due = next((queue for word, queue in model.faults.items() if queue and word in document_of(body)), None)
            fault = due.pop(0) if due else None
        try:
            time.sleep(model.delay)
            self.respond(body, fault)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up waiting, as some tests want it to
            self.close_connection = True
        finally:
            with model.lock:
                model.running -= 1

    def respond(self, body: Body, fault: Fault | None) -> None:
        """The response to one request."""
        model = self.server.model
        if model.key is not None and self.headers.get("Authorization") != f"Bearer {model.key}":
            return self.error(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
        if body["model"] != model.name:
            return self.error(404, f"The model {body['model']} does not exist")
        if fault is not None:
            return fault(self, body)
        return self.send(200, self.completion(body) if "prompt" in body else self.chat(body))

    def send(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        """A JSON response."""
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def error(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        """An error as OpenAI words it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send(status, {"error": {"message": message, "type": "error", "param": None, "code": code}}, named)

    def answer(self, body: Body) -> str:
        """What the model writes about the document."""
        text = document_of(body)
        return next((answer for word, answer in self.server.model.answers.items() if word in text), "no idea")

    def billed(self, prompt: str, completion_tokens: int) -> Body:
        """Usage, counted in words, and remembered whether it is told or not."""
        model = self.server.model
        used = (len(prompt.split()), completion_tokens)
        with model.lock:
            model.billed.append(used)
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
        return {"usage": usage} if model.usage else {}

    def chat(self, body: Body, **message: Any) -> Body:
        """A chat completion; ``message`` replaces parts of the assistant's."""
        answer = self.answer(body)
        choice = {
            "index": 0,
            "finish_reason": message.pop("finish_reason", "stop"),
            "message": {"role": "assistant", "content": answer, "refusal": None, **message},
            "logprobs": self.first_token(answer) if body.get("logprobs") else None,
        }
        usage = self.billed(body["messages"][0]["content"], 1)
        return {"id": "1", "object": "chat.completion", "created": 0, "model": "test", "choices": [choice], **usage}

    def first_token(self, answer: str) -> Body | None:
        """The right answer at -0.1, every other one at -3, -4, ..., " A" beside "A", and words that are no answer."""
        model = self.server.model
        if model.logprobs == "none":
            return None
        others = [other for other in model.answers.values() if other != answer]
        listed = [(answer, -0.1), (f" {answer}", -6.0), ("the", -2.5)]
        listed += [(other, -3.0 - place) for place, other in enumerate(others)]
        if model.logprobs == "some":
            listed = [(token, value if token.strip() != others[-1] else -9999.0) for token, value in listed]
        top = [{"token": token, "logprob": value, "bytes": None} for token, value in listed]
        return {"content": [{**top[0], "top_logprobs": top}], "refusal": None}

    def completion(self, body: Body) -> Body:
        """A text completion, or an echo with a log-probability a token."""
        choice: Body = {"index": 0, "finish_reason": "stop", "text": f" {self.answer(body)}\nText: and so on"}
        if body.get("stop"):
            choice["text"] = choice["text"].partition("\n")[0]
        if body.get("echo"):
            choice |= {"finish_reason": "length", "text": body["prompt"], "logprobs": self.echo(body)}
        usage = self.billed(body["prompt"], 0 if body.get("echo") else 1)
        return {"id": "1", "object": "text_completion", "created": 0, "model": "test", "choices": [choice], **usage}

    def echo(self, body: Body) -> Body | None:
        """Tokens are words with the space before them; the beginning mark counts as text, as in some servers."""
        model, prompt = self.server.model, str(body["prompt"])
        if model.logprobs == "none":
            return None
        tokens = ["<s>", *re.findall(r"\s*\S+", prompt)]
        offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
        right = prompt.endswith(f" {self.answer(body)}")
        values: list[float | None] = [None, *(-1.0 for _ in tokens[2:]), -0.25 if right else -2.5]
        if model.logprobs == "some" and not right:
            values[-1] = None
        return {"tokens": tokens, "text_offset": offsets, "token_logprobs": values, "top_logprobs": None}


class Server(ThreadingHTTPServer):
    """The server, with its model."""

    daemon_threads = True

    def __init__(self, model: Model) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = model

    @property
    def url(self) -> str:
        """What ``--base_url`` takes."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def serving(model: Model) -> Iterator[Server]:
    """A server that runs inside the block."""
    server = Server(model)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def document_of(body: Body) -> str:
    """The part of a prompt that is the document: after the last "Text:", without solved examples before it."""
    prompt = str(body["prompt"]) if "prompt" in body else str(body["messages"][0]["content"])
    return prompt.rpartition("Text:")[2].rpartition("\n")[0] or prompt


def fails(status: int, message: str = "out of order", code: str | None = None, **headers: str) -> Fault:
    """An HTTP error."""
    return lambda handler, body: handler.error(status, message, code, **headers)


def hangs(seconds: float) -> Fault:
    """No response for a while, then the right one."""

    def fault(handler: Handler, body: Body) -> None:
        time.sleep(seconds)
        handler.respond(body, None)

    return fault


def breaks_off(handler: Handler, body: Body) -> None:
    """JSON that ends in the middle, as long as announced."""
    handler.send(200, json.dumps(handler.chat(body))[:40].encode())


def drops(handler: Handler, body: Body) -> None:
    """The connection ends in the middle of a response."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def says(data: Any) -> Fault:
    """HTTP 200 with something else than a completion."""
    return lambda handler, body: handler.send(200, data)


def refuses(handler: Handler, body: Body) -> None:
    """The model declines to answer."""
    handler.send(200, handler.chat(body, content=None, refusal="I cannot help with that."))


def filtered(handler: Handler, body: Body) -> None:
    """A content filter took the answer away."""
    handler.send(200, handler.chat(body, content="", finish_reason="content_filter"))


def without_logprobs(handler: Handler, body: Body) -> None:
    """An endpoint that refuses the parameter."""
    if body.get("logprobs"):
        handler.error(400, "logprobs are not supported with this model")
    else:
        handler.respond(body, None)


def always(fault: Fault, times: int = 1000) -> Sequence[Fault]:
    """The same fault again and again."""
    return [fault] * times
