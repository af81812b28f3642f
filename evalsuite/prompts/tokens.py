"""Token ids of prompts and answers. Training, scoring and decoding take theirs from one ``PromptEncoder``.

Tokenizers come as arguments, so that nothing here imports a model library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

from evalsuite.contracts import Example
from evalsuite.errors import ModelError, OptionError, TemplateError
from evalsuite.prompts.prompt_set import PromptSet

# Words in a model's name that say it was tuned to answer in turns.
INSTRUCT = re.compile(r"(^|[-_./])(instruct|chat|it|sft|dpo|rlhf)($|[-_./])", re.IGNORECASE)
# An answer is tokenised after one of these and their tokens are dropped: alone, SentencePiece would put a space that is
# not there before it. The second serves where the first would melt into the answer.
ANCHORS = ("\n", "a")
TEXTS_A_CALL = 1000  # the tokenizer's own records of a text take many times the memory of its ids


class PromptEncoder:
    """What one tokenizer makes of one prompt set (k labels).

    A multi-label answer is the concatenation of segments, each tokenised by itself. What an answer is made of is worked
    out when it is first asked for, so that a model that only reads prompts need not be able to end one. ``bos`` is the
    token that the tokenizer puts before every text, or None.

    Raises:
        ModelError: an instruct model without a chat template.
    """

    def __init__(self, tokenizer: Any, prompts: PromptSet) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.chat = uses_chat_template(tokenizer, prompts.chat)
        self.bos = tokenizer.bos_token_id if self._encode("a", special=True)[0] == tokenizer.bos_token_id else None
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= set(tokenizer.all_special_tokens)
        self._special = sorted((token for token in special if len(token) > 1), key=len, reverse=True)

    @cached_property
    def first(self) -> list[list[int]]:
        """k segments: a label that opens an answer, with the whitespace between prompt and answer before it.

        Raises:
            ModelError: the tokenizer cannot end an answer.
            TemplateError: two labels with the same tokens.
        """
        return self._told_apart("answer", self._before(self.prompts.boundary), self.prompts.verbalizers, self.end)

    @cached_property
    def later(self) -> list[list[int]]:
        """k segments: a label that goes on in an answer, with the separator before it. Raises: as ``first``."""
        return self._told_apart("answer", self.prompts.separator, self.prompts.verbalizers, self.end)

    @cached_property
    def none(self) -> list[int]:
        """The answer without a label."""
        return self._segment(self._before(self.prompts.boundary) + self.prompts.none_answer)

    @cached_property
    def end(self) -> int:
        """The token that closes every answer: the end of the chat turn, or of the text.

        Raises:
            ModelError: the tokenizer has no such token.
        """
        if self.chat:
            turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer."}]
            tail = self.tokenizer.apply_chat_template(turns, tokenize=False).rpartition("answer.")[2]
            for token in self._encode(tail):
                if token in self.tokenizer.all_special_ids:
                    return token
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                f"the tokenizer of {self.tokenizer.name_or_path or 'the model'} has no end-of-text token (eos_token), "
                "which every answer ends with: set eos_token in its tokenizer_config.json, or use method 'embedding'"
            )
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def question_ids(self) -> list[list[int]]:
        """The k questions, each with the whitespace between prompt and question before it.

        Raises:
            TemplateError: two labels with the same tokens.
        """
        return self._told_apart("question", self._before(self.prompts.question_boundary), self.prompts.questions)

    @cached_property
    def yes_no_ids(self) -> tuple[list[int], list[int]]:
        """What follows a question where the document has the label, and where it has not.

        Raises:
            TemplateError: one of them begins with the other's tokens.
        """
        yes, no = self._segment(self.prompts.yes), self._segment(self.prompts.no)
        if yes[: len(no)] == no or no[: len(yes)] == yes:
            raise TemplateError(
                f"template {self.prompts.name!r}: {self.prompts.yes!r} becomes tokens {yes} and {self.prompts.no!r} "
                f"{no}, one of which begins with the other: set other yes and no in question.j2"
            )
        return yes, no

    @property
    def candidates(self) -> list[list[int]]:
        """The k answers of one label each, in label order."""
        return [self.answer_ids((label,)) for label in range(len(self.first))]

    def answer_ids(self, labels: Sequence[int]) -> list[int]:
        """Token ids of the answer for ``labels`` (indices), end mark included: the one place that makes them."""
        ordered = sorted(labels)
        if not ordered:
            return [*self.none, self.end]
        ids = list(self.first[ordered[0]])
        for label in ordered[1:]:
            ids += self.later[label]
        return [*ids, self.end]

    def prompt_ids(
        self,
        text: str,
        *,
        max_length: int,
        reserve: int = 0,
        side: Literal["right", "left"] = "right",
        examples: Sequence[tuple[str, Sequence[int]]] | None = None,
    ) -> tuple[list[int], bool]:
        """Token ids of the prompt, at most ``max_length - reserve``, and whether the document was cut for that.

        Only the document is cut, from its ``side`` end; the instruction, the examples and the room for the answer
        (``reserve`` tokens) stay. ``examples`` replace the prompt set's own. There is exactly one BOS where the
        tokenizer has the habit of adding one.

        Raises:
            OptionError: nothing of the document would be left.
        """
        text = self._plain(text)
        return self._fitted(text, self._prompt(text, examples), max_length, reserve, side, examples)

    def encode(
        self,
        texts: Sequence[str],
        *,
        max_length: int,
        reserves: Sequence[int] = (),
        side: Literal["right", "left"] = "right",
    ) -> Iterator[tuple[list[int], bool]]:
        """``prompt_ids`` of n documents, many tokenised by one call: the tokenizer then works on all cores.

        ``reserves``: the reserve of each document; none where it is left out.
        """
        for start in range(0, len(texts), TEXTS_A_CALL):
            part = [self._plain(text) for text in texts[start : start + TEXTS_A_CALL]]
            whole = self.tokenizer([self.prompt_text(text) for text in part], add_special_tokens=False, verbose=False)
            for at, (text, ids) in enumerate(zip(part, whole["input_ids"], strict=True), start):
                reserve = reserves[at] if reserves else 0
                yield self._fitted(text, self._begun(ids), max_length, reserve, side, None)

    def _fitted(
        self,
        text: str,
        ids: list[int],
        max_length: int,
        reserve: int,
        side: Literal["right", "left"],
        examples: Sequence[tuple[str, Sequence[int]]] | None,
    ) -> tuple[list[int], bool]:
        """The whole prompt's ``ids`` where they fit, else those of one with less of ``text``: see ``prompt_ids``."""
        budget = max_length - reserve
        if len(ids) <= budget:
            return ids, False
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = spans["offset_mapping"]
        excess = len(ids) - budget
        keep = len(offsets) - excess
        while keep > 0:
            cut = text[: offsets[keep - 1][1]] if side == "right" else text[offsets[-keep][0] :]
            ids = self._prompt(cut, examples)
            if len(ids) <= budget:
                return ids, True
            # Merges at the cut, or a template that prints the document twice: a little more has to go.
            keep -= len(ids) - budget
        raise OptionError(
            f"max_length={max_length} leaves no room for a document: the prompt without one takes "
            f"{len(self._prompt('', examples))} tokens, the answer {reserve}; raise max_length or shorten the template"
        )

    def prompt_text(self, text: str, examples: Sequence[tuple[str, Sequence[int]]] | None = None) -> str:
        """The prompt as it is tokenised: in the chat template where that applies. ``examples``: see ``prompt_ids``."""
        shots = self.prompts.shots if examples is None else examples
        prompt = self.prompts.prompt(self._plain(text), [(self._plain(shown), labels) for shown, labels in shots])
        if not self.chat:
            return prompt
        turns = [{"role": "user", "content": prompt}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _prompt(self, text: str, examples: Sequence[tuple[str, Sequence[int]]] | None) -> list[int]:
        return self._begun(self._encode(self.prompt_text(text, examples)))

    def _begun(self, ids: list[int]) -> list[int]:
        """``ids`` with BOS before them; a chat template may have printed it itself, and a second one is not added."""
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    def _plain(self, text: str) -> str:
        """``text`` with a space inside every spelling of a special token, so that a document cannot end its turn."""
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _encode(self, text: str, special: bool = False) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return ids

    def _segment(self, text: str) -> list[int]:
        for anchor in ANCHORS:
            head, ids = self._encode(anchor), self._encode(anchor + text)
            if head and len(ids) > len(head) and ids[: len(head)] == head:
                return ids[len(head) :]
        return self._encode(text)

    def _before(self, boundary: str) -> str:
        """What stands between the prompt and what follows: nothing after the header of the assistant's turn."""
        return "" if self.chat else boundary

    def _told_apart(self, kind: str, before: str, texts: Sequence[str], end: int | None = None) -> list[list[int]]:
        """k ``texts`` with ``before`` in front of each: no two alike, and none empty or with ``end`` in it."""
        segments = [self._segment(before + text) for text in texts]
        owner: dict[tuple[int, ...], int] = {}
        for label, ids in enumerate(segments):
            other = owner.setdefault(tuple(ids), label)
            if other != label or end in ids or not ids:
                names = " and ".join(repr(texts[i]) for i in sorted({other, label}))
                raise TemplateError(
                    f"{kind} {names} of template {self.prompts.name!r} becomes tokens {ids}, which "
                    f"{self.tokenizer.name_or_path or 'the model'} cannot tell from another {kind}: "
                    f"use {kind}s it can spell, e.g. template 'numbers'"
                )
        return segments


def uses_chat_template(tokenizer: Any, chat: bool | None) -> bool:
    """Whether prompts go through the chat template: see ``PromptSet.chat``. Base models get the plain prompt.

    Raises:
        ModelError: an instruct model, by its name, whose tokenizer has no chat template.
    """
    if chat is False:
        return False
    instruct = bool(INSTRUCT.search(tokenizer.name_or_path or ""))
    if tokenizer.chat_template is None and instruct:
        raise ModelError(
            f"{tokenizer.name_or_path} is an instruct model by its name, but its tokenizer has no chat template: "
            "add chat_template.jinja to its folder, or use the base model"
        )
    return tokenizer.chat_template is not None and (chat is True or instruct)


def preview(
    prompts: PromptSet, examples: Sequence[Example], limit: int, tokenizer: Any = None
) -> list[dict[str, str | int]]:
    """The exact prompt and gold answer of the first ``limit`` examples; with a tokenizer, as the model reads them,
    and their lengths in tokens."""
    encoder = PromptEncoder(tokenizer, prompts) if tokenizer is not None else None
    rows: list[dict[str, str | int]] = []
    for example in examples[:limit]:
        row: dict[str, str | int] = {
            "id": example.id,
            "prompt": prompts.prompt(example.text, prompts.shots),
            "answer": prompts.boundary + prompts.answer(example.labels),
        }
        if encoder is not None:
            ids, _ = encoder.prompt_ids(example.text, max_length=10**9)
            answer = encoder.answer_ids(example.labels)
            row |= {"prompt": tokenizer.decode(ids), "answer": tokenizer.decode(answer)}
            row |= {"prompt_tokens": len(ids), "answer_tokens": len(answer)}
        rows.append(row)
    return rows
