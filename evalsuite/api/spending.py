"""What requests to a hosted model used and cost, and the cap that no request may pass. Shared by many threads."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """Tokens of a prompt and of its answer."""

    prompt: int
    completion: int


class Account:
    """Counts tokens and dollars. Prices are USD per million tokens, None where unknown; ``cap`` is in USD.

    A request that got no usable response, or one without usage, may have cost its worst case: that much is counted
    against the cap, and reported apart as ``usd_unreported``.
    """

    def __init__(self, price_in: float | None, price_out: float | None, cap: float | None) -> None:
        self.prices = None if price_in is None or price_out is None else (price_in, price_out)
        self.cap = cap
        self.used, self.recalled = Usage(0, 0), Usage(0, 0)
        self.unreported = 0.0
        self._running: list[Usage] = []
        self._stopped = False
        self._changed = threading.Condition()

    def reserve(self, worst: Usage) -> bool:
        """Set the worst case of a request aside; False where the cap might be passed.

        It waits while requests under way may turn out cheaper than feared. After the first False there is no other
        answer: going on with shorter documents would choose the sample by length.
        """
        with self._changed:
            while self._would_pass(worst):
                if self._stopped or not self._running:
                    self._stopped = True
                    self._changed.notify_all()
                    return False
                self._changed.wait()
            if self._stopped:
                return False
            self._running.append(worst)
            return True

    def settle(self, worst: Usage, usage: Usage | None, *, billed: bool) -> None:
        """Replace what was reserved by what was used; ``usage`` None: unknown, and nothing if not ``billed``."""
        with self._changed:
            self._running.remove(worst)
            if usage is not None:
                self.used = _sum(self.used, usage)
            elif billed:
                self.unreported += self.price(worst)
            self._changed.notify_all()

    def recall(self, usage: Usage | None) -> None:
        """Count an answer that was paid for before."""
        self.recalled = _sum(self.recalled, usage or Usage(0, 0))

    def price(self, usage: Usage) -> float:
        """USD; 0 without prices."""
        dear_in, dear_out = self.prices or (0.0, 0.0)
        return (usage.prompt * dear_in + usage.completion * dear_out) / 1e6

    def to_json(self) -> dict[str, Any]:
        """Tokens used by this run, and dollars: spent, at most spent beyond that, and spent before on kept answers."""
        known = self.prices is not None
        return {
            "prompt_tokens": self.used.prompt,
            "completion_tokens": self.used.completion,
            "usd": self.price(self.used) if known else None,
            "usd_unreported": self.unreported if known else None,
            "usd_from_cache": self.price(self.recalled) if known else None,
        }

    def _would_pass(self, worst: Usage) -> bool:
        if self.cap is None:
            return False
        reserved = sum(map(self.price, self._running))
        return self.price(self.used) + self.unreported + reserved + self.price(worst) > self.cap


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(one.prompt + other.prompt, one.completion + other.completion)
