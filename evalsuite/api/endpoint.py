"""Where a hosted model is asked, with what key, and at what pace and price."""

from __future__ import annotations

import os
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from evalsuite.errors import ModelError, OptionError, UsageError
from evalsuite.llm.options import HOUSE, AnsweringOptions
from evalsuite.options import option

KEY = "OPENAI_API_KEY"
ADDRESS = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
NO_KEY = "no-key"  # what a server on this machine gets that asks for no key
PREFIX = "openai/"


class HostedOptions(AnsweringOptions):
    """A model that answers prompts, on this machine or behind an endpoint, and how it is asked there."""

    hosted: bool | None = option(
        None,
        "whether an endpoint answers; unset: where the model's name begins with openai/. That is an organisation on "
        "the hub too: false loads such a model here",
    )
    base_url: str | None = option(
        None,
        "hosted: address of the endpoint, up to /v1; unset: the variable OPENAI_BASE_URL, else OpenAI's",
        identity=False,  # the address in use counts, wherever it comes from: see endpoint_url
    )
    api: Literal["chat", "completions"] = option("chat", "hosted: which of the endpoint's interfaces is used")
    logprobs: Literal["auto", "required", "off"] = option(
        "auto", "hosted: use log-probabilities of labels where the endpoint gives them, insist on them, or never ask"
    )
    temperature: float | None = option(
        0.0, "hosted: sampling temperature; null: not sent, for models that refuse it", ge=0, source=HOUSE
    )
    max_characters: int | None = option(
        None, "hosted: longest document, cut to fit; unset: sent whole", unit="characters", ge=1
    )
    allow_private_upload: bool = option(False, "hosted: send a private task's text to the endpoint", identity=False)
    concurrency: int = option(
        8, "hosted: requests under way at once", unit="requests", ge=1, le=256, source=HOUSE, identity=False
    )
    timeout: float = option(
        60, "hosted: longest wait for a response", unit="seconds", gt=0, source=HOUSE, identity=False
    )
    max_retries: int = option(
        6, "hosted: attempts after a rate limit, a server error or a timeout", ge=0, source=HOUSE, identity=False
    )
    backoff: float = option(
        1, "hosted: wait before the first retry; doubles each time", unit="seconds", ge=0, source=HOUSE, identity=False
    )
    price_in: float | None = option(
        None, "hosted: price of prompt tokens; none is built in", unit="USD per million", ge=0, identity=False
    )
    price_out: float | None = option(
        None, "hosted: price of answer tokens; none is built in", unit="USD per million", ge=0, identity=False
    )
    # Part of the identity, unlike the prices: what a cap leaves unanswered is missing from the result.
    max_usd: float | None = option(
        None, "hosted: spending cap of a run; what stays unanswered counts as failed", unit="USD", gt=0
    )

    @property
    def local(self) -> bool:
        """Whether the model is loaded on this machine."""
        return not (self.model.startswith(PREFIX) if self.hosted is None else self.hosted)

    @property
    def hosted_name(self) -> str:
        """The model's name as its endpoint knows it."""
        return self.model.removeprefix(PREFIX)


def endpoint_url(options: HostedOptions) -> str:
    """The address in use: the option's, the environment's, or OpenAI's."""
    return (options.base_url or os.environ.get(ADDRESS) or OPENAI).rstrip("/")


def read_key(url: str) -> str:
    """The key from the environment; a server on this machine may do without.

    Raises:
        UsageError: there is none, or it holds what no key can.
    """
    key = os.environ.get(KEY, "").strip()
    if not key and is_loopback(url):
        return NO_KEY
    if not key:
        raise UsageError(
            f"{url} needs a key: set the environment variable {KEY} (to any word, where the endpoint asks for none)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        # Said here without the key: the HTTP library's own error would quote it.
        raise UsageError(f"the environment variable {KEY} holds spaces or characters that no key has; set it again")
    return key


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_endpoint(options: HostedOptions) -> None:
    """Everything about an endpoint that can be wrong before it is asked.

    Raises:
        OptionError: an address that is none or holds a password, half a price, or a cap without prices.
        UsageError: no key in the environment.
        ModelError: the ``openai`` package is not installed.
    """
    url = endpoint_url(options)
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise OptionError(f"base_url at {parts.hostname} holds a password or a query; a key belongs into {KEY}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionError(f"base_url {url!r} is no address; expected one as in http://127.0.0.1:8000/v1")
    if (options.price_in is None) != (options.price_out is None):
        raise OptionError("price_in and price_out go together, in USD per million tokens; give both")
    if options.max_usd is not None and options.price_in is None:
        raise OptionError(f"max_usd={options.max_usd:g} needs price_in and price_out, in USD per million tokens")
    read_key(url)
    if find_spec("openai") is None:
        raise ModelError("hosted models need the openai package: pip install 'evalsuite[openai]'")
