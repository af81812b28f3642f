"""Greedy decoding of answers in batches: free, or held to the label set by a grammar of answer tokens.

Shapes: n prompts, b prompts of a batch, v entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from evalsuite.llm.answers.packing import OneRow, Rows
from evalsuite.llm.answers.prefix import read_prefix
from evalsuite.llm.batching import map_batches
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.reading.logits import evaluation

# Readings of the tokens so far: (last label written, or -1; tokens of the segment under way).
State = frozenset[tuple[int, tuple[int, ...]]]


class AnswerGrammar:
    """Which token may follow in an answer: labels in label order, separators between them, the end mark.

    first, later: k segments each, of a label that opens an answer and of one that goes on; none: the answer without a
    label; end: the end mark (see ``evalsuite.prompts.PromptEncoder``). With one label an answer, ``multilabel`` False.
    """

    def __init__(
        self,
        first: Sequence[Sequence[int]],
        later: Sequence[Sequence[int]],
        none: Sequence[int],
        end: int,
        multilabel: bool,
    ) -> None:
        self.end = end
        self._first = [tuple(segment) for segment in first]
        self._later = [tuple(segment) for segment in later] if multilabel else []
        self._none = tuple(none) if multilabel else None
        self._options: dict[State, dict[int, State]] = {}

    start: State = frozenset({(-1, ())})

    def options(self, state: State) -> dict[int, State]:
        """Every token that may follow, with the state after it; the state after the end mark is empty."""
        if state not in self._options:
            found: dict[int, set[tuple[int, tuple[int, ...]]]] = {}
            for last, written in state:
                self._continue(last, written, found)
            self._options[state] = {token: frozenset(after) for token, after in found.items()}
        return self._options[state]

    def allowed(self, state: State, room: int) -> list[int]:
        """The tokens that may follow where ``room`` more are to be written, end mark included.

        That is the end mark alone where the answer can end and the next label might not fit, or has ended already.
        """
        tokens = list(self.options(state))
        if self.end in tokens:
            written = {label for last, ids in state for label, segment in self._segments(last) if segment == ids}
            if any(len(segment) >= room for label in written for _, segment in self._segments(label)):
                return [self.end]
        return tokens or [self.end]

    def read(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The labels (indices) of a complete answer that the grammar allowed.

        Raises:
            ValueError: the tokens are no answer.
        """
        body = tuple(ids[:-1])
        if body == self._none:
            return ()
        found = self._read(-1, body)
        if found is None or ids[-1] != self.end:
            raise ValueError(f"tokens {list(ids)} are no answer")
        return found

    def _segments(self, last: int) -> list[tuple[int, tuple[int, ...]]]:
        if last < 0:
            return list(enumerate(self._first))
        return [(label, segment) for label, segment in enumerate(self._later) if label > last]

    def _continue(self, last: int, written: tuple[int, ...], found: dict[int, set[Any]]) -> None:
        at = len(written)
        segments = self._segments(last)
        if last < 0 and self._none is not None:
            # after a label past the last nothing but the end can follow
            segments.append((len(self._first), self._none))
        for label, segment in segments:
            if segment[:at] != written:
                continue
            if at < len(segment):
                found.setdefault(segment[at], set()).add((last, segment[: at + 1]))
            elif at:
                found.setdefault(self.end, set())
                self._continue(label, (), found)

    def _read(self, last: int, body: tuple[int, ...]) -> tuple[int, ...] | None:
        if not body:
            return ()
        for label, segment in self._segments(last):
            if body[: len(segment)] == segment:
                rest = self._read(label, body[len(segment) :])
                if rest is not None:
                    return (label, *rest)
        return None


def decode(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    end: int,
    *,
    max_new_tokens: int,
    grammar: AnswerGrammar | None = None,
    token_budget: int = 8192,
    packed: bool = False,
    done: Callable[[int], None] = lambda count: None,
) -> list[list[int]]:
    """The likeliest next token again and again, until ``end``: n answers as token ids, end mark included.

    An answer that reaches ``max_new_tokens`` is cut. With a ``grammar`` it is whole: once the next label might not fit,
    it ends after the one under way, of which there is at least one. ``packed``: the model can read prompts in one row
    (``packing.packs``), which is done where they share more than they have of their own.
    """
    with evaluation(backbone.model):
        prefix, rests = read_prefix(backbone, prompts) if packed else (None, prompts)
        if prefix is not None and sum(map(len, rests)) <= len(rests) * len(prefix):
            # of what a prompt looks at, no more than the beginning's size twice is hidden from it
            token_budget = min(token_budget, 2 * len(prefix))
        else:
            prefix, rests = None, prompts

        def batch(indices: list[int]) -> list[list[int]]:
            reader = Rows(backbone) if prefix is None else OneRow(backbone, prefix)
            return _decode_batch(reader, [rests[index] for index in indices], end, max_new_tokens, grammar)

        return map_batches(batch, [len(ids) + max_new_tokens for ids in rests], token_budget, done)


def _decode_batch(
    reader: Rows | OneRow,
    prompts: Sequence[Sequence[int]],
    end: int,
    max_new_tokens: int,
    grammar: AnswerGrammar | None,
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in prompts]
    states: list[State] = [AnswerGrammar.start for _ in prompts]
    unread: dict[int, Sequence[int]] = dict(enumerate(prompts))
    while unread:
        logits = reader.read(unread)
        room = max_new_tokens - len(answers[min(unread)])
        allowed = [grammar.allowed(states[row], room) for row in unread] if grammar else None
        chosen = dict(zip(unread, _likeliest(logits, allowed), strict=True))
        for row, token in chosen.items():
            answers[row].append(token)
            states[row] = grammar.options(states[row])[token] if grammar else states[row]
        whole = {row for row in chosen if grammar is None and len(answers[row]) >= max_new_tokens}
        unread = {row: [token] for row, token in chosen.items() if token != end and row not in whole}
    return answers


def _likeliest(logits: Tensor, allowed: Sequence[Sequence[int]] | None) -> list[int]:
    """The best token of each row of ``logits`` [b, v], among the allowed ones where they are given."""
    if allowed is not None:
        rows = [row for row, tokens in enumerate(allowed) for _ in tokens]
        columns = [token for tokens in allowed for token in tokens]
        open_to = torch.zeros_like(logits, dtype=torch.bool)
        open_to[rows, columns] = True
        logits = logits.masked_fill(~open_to, -torch.inf)
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    return chosen
