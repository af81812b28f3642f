"""A real HTTP server on loopback that speaks enough of the Hugging Face hub's interface for the real client.

It keeps repositories in memory, takes small files within a commit and large ones by git LFS, gives them back for
download, checks tokens, and fails as told: ``faults`` maps a step to the responses that come before the right one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Fault = Callable[["Handler"], None]
LARGE = (".safetensors", ".npz", ".bin", ".onnx")


@dataclass
class Repository:
    """One model repository: its branches, each a mapping of path to content, and its commits' messages."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    messages: list[str] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the main branch."""
        return self.branches["main"]


@dataclass
class Hub:
    """What the server knows and saw. tokens: token -> owners it may write to."""

    tokens: dict[str, set[str]] = field(default_factory=lambda: {"hf_test": {"ann"}})
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    card_warnings: list[str] = field(default_factory=list)
    card_errors: list[str] = field(default_factory=list)

    def commit(self, name: str, branch: str) -> str:
        """A hash that stands for the state of a branch."""
        content = self.repositories[name].branches[branch]
        return hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    # Method, pattern of the path, the step's name: also the method that answers it.
    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "card"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/branch/(?P<branch>[^/]+)", "branch"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/preupload/(?P<branch>[^/]+)", "preupload"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/commit/(?P<branch>[^/]+)", "commit"),
        ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)(/revision/(?P<branch>[^/]+))?", "info"),
        ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<branch>[^/]+)", "tree"),
        ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/objects/(?P<oid>\w+)", "put"),
        ("(GET|HEAD)", r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<branch>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        """One request."""
        self.answer()

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self.answer()

    def do_POST(self) -> None:
        """As GET."""
        self.answer()

    def do_PUT(self) -> None:
        """As GET."""
        self.answer()

    def answer(self) -> None:
        """Fail where a fault is due, else do what the step does."""
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for method, pattern, step in self.ROUTES:
            found = re.fullmatch(pattern, path)
            if found is None or not re.fullmatch(method, self.command):
                continue
            hub.requests.append((step, self.headers.get("Authorization", "")))
            if hub.faults.get(step):
                return hub.faults[step].pop(0)(self)
            if step not in ("put", "card") and not self.may(step, found.groupdict().get("name")):
                return None
            return getattr(self, step)(**found.groupdict())
        return self.send(404, {"error": "Not Found"})

    def may(self, step: str, name: str | None) -> bool:
        """Whether the token allows it; says so where it does not."""
        hub = self.server.hub
        owners = hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        owner = name.partition("/")[0] if name else json.loads(self.body)["organization"]
        repository = hub.repositories.get(name or "")
        public = repository is not None and not repository.private
        if step in ("info", "tree", "resolve") and (public or (repository and owners and owner in owners)):
            return True
        if owners is None:
            self.send(401, {"error": "Invalid credentials in Authorization header"})
        elif name and repository is None:
            self.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif owner not in owners:
            self.send(403, {"error": f"You don't have the rights to create a model under the namespace {owner}"})
        else:
            return True
        return False

    def send(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        """A JSON response, or bytes as they are."""
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def create(self) -> None:
        """A new repository, or 409."""
        hub, asked = self.server.hub, json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in hub.repositories
        if not there:
            hub.repositories[name] = Repository(asked.get("visibility") == "private" or asked.get("private") is True)
        self.send(409 if there else 200, {"url": f"{self.server.url}/{name}", "error": "there" if there else None})

    def card(self) -> None:
        """Whether the card's front matter is fine."""
        hub = self.server.hub
        said = {"warnings": hub.card_warnings, "errors": hub.card_errors}
        told = {kind: [{"message": text} for text in texts] for kind, texts in said.items()}
        self.send(400 if hub.card_errors else 200, told)

    def branch(self, name: str, branch: str) -> None:
        """A new branch, or 409."""
        branches = self.server.hub.repositories[name].branches
        status = 409 if branch in branches else 201
        branches.setdefault(branch, dict(branches["main"]))
        self.send(status, {"error": "Reference already exists"} if status == 409 else {})

    def info(self, name: str, branch: str | None) -> None:
        """What is known of a repository."""
        hub, branch = self.server.hub, branch or "main"
        repository = hub.repositories[name]
        if branch not in repository.branches:
            return self.send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": path} for path in sorted(repository.branches[branch])]
        facts = {"id": name, "modelId": name, "private": repository.private, "tags": [], "cardData": repository.card}
        return self.send(200, {**facts, "sha": hub.commit(name, branch), "siblings": siblings})

    def tree(self, name: str, branch: str) -> None:
        """The files of a revision."""
        files = sorted(self.content(name, branch).items())
        entries = [{"type": "file", "path": path, "size": len(data), "oid": git_hash(data)} for path, data in files]
        self.send(200, entries)

    def content(self, name: str, revision: str) -> dict[str, bytes]:
        """The files of a branch, or of the commit that a branch is at."""
        hub = self.server.hub
        branches = hub.repositories[name].branches
        return next(data for branch, data in branches.items() if revision in (branch, hub.commit(name, branch)))

    def preupload(self, name: str, branch: str) -> None:
        """Which files go by LFS, and what is there already."""
        present = self.server.hub.repositories[name].branches[branch]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": git_hash(present[file["path"]]) if file["path"] in present else None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.send(200, {"files": modes})

    def batch(self, name: str) -> None:
        """Where large files are to be put."""
        answers = []
        for asked in json.loads(self.body)["objects"]:
            href = f"{self.server.url}/objects/{asked['oid']}?signature=secret"
            there = asked["oid"] in self.server.hub.objects
            answers.append(asked | ({} if there else {"actions": {"upload": {"href": href}}}))
        self.send(200, {"transfer": "basic", "objects": answers})

    def put(self, oid: str) -> None:
        """A large file."""
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.hub.objects[oid] = self.body
        self.send(200, b"")

    def commit(self, name: str, branch: str) -> None:
        """All files at once."""
        hub = self.server.hub
        repository = hub.repositories[name]
        files = dict(repository.branches[branch])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.messages.append(value["summary"])
            else:
                small = line["key"] == "file"
                files[value["path"]] = base64.b64decode(value["content"]) if small else hub.objects[value["oid"]]
        repository.branches[branch] = files
        oid = hub.commit(name, branch)
        self.send(200, {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid})

    def resolve(self, name: str, branch: str, path: str) -> None:
        """One file's content."""
        hub, content = self.server.hub, self.content(name, branch)
        if path not in content:
            return self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        data = content[path]
        commit = hub.commit(name, branch) if branch in hub.repositories[name].branches else branch
        return self.send(200, data, {"ETag": f'"{git_hash(data)}"', "X-Repo-Commit": commit})


class Server(ThreadingHTTPServer):
    """The server, with its hub."""

    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    @property
    def url(self) -> str:
        """What ``HF_ENDPOINT`` takes."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no matter of the tests."""


def git_hash(data: bytes) -> str:
    """A blob's name in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def fails(status: int, message: str = "out of order") -> Fault:
    """An HTTP error."""
    return lambda handler: handler.send(status, {"error": message})


def drops(handler: Handler) -> None:
    """The connection ends before a response."""
    handler.close_connection = True
    handler.connection.close()


def says(data: Any) -> Fault:
    """HTTP 200 with something else than was agreed."""
    return lambda handler: handler.send(200, data)


@contextmanager
def serving(hub: Hub) -> Iterator[Server]:
    """A server that runs inside the block."""
    server = Server(hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
