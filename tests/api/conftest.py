"""A hosted model that knows three labels, and the options that reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosted_server import Model, Server, serving

from evalsuite.api import HostedOptions

WORDS = {"treaty": "A", "match": "B", "shares": "C"}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Model(dict(WORDS))) as running:
        yield running


@pytest.fixture
def options(server: Server) -> Callable[..., HostedOptions]:
    """``options(max_retries=1)``: those that reach the server, with waits too short to notice."""

    def make(**changes: Any) -> HostedOptions:
        defaults = {"model": "openai/test", "base_url": server.url, "backoff": 0.001, "timeout": 5}
        return HostedOptions(**(defaults | changes))

    return make
