"""What is kept of an endpoint's responses: the answer without the prompt.

Whatever is no complete response raises KeyError, IndexError, TypeError, AttributeError or ValueError: anything may
stand where an answer was expected.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from evalsuite.api.spending import Usage

UNLIKELY = -9999.0  # what OpenAI writes where a token is outside the list: no measurement


def read_text(body: Mapping[str, Any]) -> dict[str, Any]:
    """A written answer.

    ``text``; ``finish``, why it ended; ``refused``; ``top``: the likeliest first tokens as [token, log-probability] in
    nats, None where the endpoint gives none.
    """
    (choice, *_) = body["choices"]
    finish = choice["finish_reason"]
    if "message" not in choice:
        text, refusal, first = choice["text"], None, list[Any]()
    else:
        text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        first = ((choice.get("logprobs") or {}).get("content") or [])[:1]
    if not isinstance(text, str | None) or (text is None and refusal is None and finish is None):
        raise ValueError("neither an answer nor a reason why there is none")
    top = [[entry["token"], float(entry["logprob"])] for place in first for entry in place.get("top_logprobs") or []]
    return {
        "text": text or "",
        "finish": finish,
        "refused": bool(refusal) or finish == "content_filter",
        "top": [entry for entry in top if entry[1] > UNLIKELY] or None,
    }


def read_echo(body: Mapping[str, Any], answer: str) -> dict[str, Any]:
    """Log-likelihood of ``answer``, the end of an echoed prompt.

    ``logprob`` in nats, None where the endpoint gives none or no token begins where the answer does; ``tokens``: how
    many it sums over.
    """
    (choice, *_) = body["choices"]
    given = choice.get("logprobs") or {}
    tokens, offsets, values = (given.get(name) or [] for name in ("tokens", "text_offset", "token_logprobs"))
    if not len(tokens) == len(offsets) == len(values):
        raise ValueError("lists of unlike lengths")
    # Servers that cannot stop before the first token write one: it is no part of the prompt.
    echoed = len(tokens) - int((body.get("usage") or {}).get("completion_tokens") or 0)
    nothing = {"logprob": None, "tokens": 0}
    if echoed < 1:
        return nothing
    # Counted from the end: some servers count the characters of a beginning-of-text mark, others do not.
    begin = offsets[echoed - 1] + len(tokens[echoed - 1]) - len(answer)
    if begin not in offsets[:echoed]:
        return nothing
    parts = values[offsets.index(begin) : echoed]
    if any(part is None for part in parts) or not math.isfinite(total := float(sum(parts))):
        return nothing
    return {"logprob": total, "tokens": len(parts)}


def read_usage(body: Mapping[str, Any]) -> Usage | None:
    """Tokens as the endpoint counted them; None where it does not say."""
    told = body.get("usage")
    if not isinstance(told, Mapping) or not isinstance(told.get("prompt_tokens"), int):
        return None
    return Usage(told["prompt_tokens"], int(told.get("completion_tokens") or 0))


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the endpoint asks to wait, 0 where it does not: a number or a date (RFC 9110, 10.2.3)."""
    if "retry-after-ms" in headers:
        return _number(headers["retry-after-ms"]) / 1000
    told = headers.get("retry-after", "")
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return _number(told)


def _number(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
