"""How answers are had from a causal language model, the same for one that was trained to answer and one that was not.

What the probabilities of a prediction mean depends on ``decode``:

score: a label's logit is the exact log-likelihood of its answer, so that the softmax over labels is the model's
    probability of each label given that it writes one of them. The default where a document has one label.
per_label: a label's logit is the log-odds of yes against no after a question about it, so that its sigmoid is the
    probability of that label, whatever the others; where a document has one label, the softmax weighs labels by their
    odds (see ``branches``).
constrained: greedy decoding that can write labels, separators and the end mark only. There are labels and no
    probabilities: those are null. The default where a document has any number of labels.
free: greedy decoding of anything, read as an answer or counted as invalid. No probabilities.

Shapes: n documents, k labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from evalsuite.contracts import RunContext, Scores
from evalsuite.errors import OptionError
from evalsuite.llm.answers.branches import LabelBranches
from evalsuite.llm.answers.generation import AnswerGrammar, decode
from evalsuite.llm.answers.label_scoring import LabelScorer, answer_sizes
from evalsuite.llm.answers.packing import packs
from evalsuite.llm.batching import Encoded
from evalsuite.llm.loading.backbone import Backbone, longest_input
from evalsuite.llm.loading.source import check_available, load_tokenizer
from evalsuite.llm.options import AnsweringOptions
from evalsuite.llm.training.footprint import model_facts
from evalsuite.prompts import PromptEncoder

Decode = Literal["score", "per_label", "constrained", "free"]


class Answerer:
    """A loaded model, with its adapter where it has one, that answers the prompts of ``ctx.prompts``.

    decode: how, "auto" resolved. encoder: makes the token ids. max_length: tokens of prompt and answer together, of
    which ``reserve`` are kept free for the answer. divisors: of label scores. branches: the questions of
    decode=per_label, else None. scorer: what gives logits, None where answers are written, ``packed`` where the model
    can read prompts in one row.

    Raises:
        OptionError: a ``decode`` that does not fit the task.
        ModelError: a tokenizer that cannot end an answer.
        TemplateError: labels that the tokenizer cannot tell apart.
    """

    def __init__(self, backbone: Backbone, ctx: RunContext, config: AnsweringOptions) -> None:
        self.backbone, self.ctx, self.config = backbone, ctx, config
        self.decode = resolve_decode(config, ctx)
        self.encoder = PromptEncoder(backbone.tokenizer, ctx.prompts)
        self.max_length = longest_input(backbone, config.max_length)
        self.reserve = answer_room(self.encoder, self.decode, self.max_length)
        self.divisors: list[float] | None = None
        self.branches = self._branches() if self.decode == "per_label" else None
        self.scorer = self._label_scorer() if self.decode == "score" else self.branches
        self.packed, self.packing = (False, "") if self.scorer else packs(backbone, self.max_length)

    def encode(self, texts: Sequence[str], answers: Sequence[int] = ()) -> Encoded:
        """Token ids of n prompts; ``answers``: lengths of answers that have to fit too."""
        reserves = [max(self.reserve, answer) for answer in answers or [0] * len(texts)]
        side = self.config.truncation_side
        return Encoded.of(self.encoder.encode(texts, max_length=self.max_length, reserves=reserves, side=side))

    def answer(self, prompts: Sequence[Sequence[int]], count: Callable[[int], None] = lambda documents: None) -> Scores:
        """What the model says after n prompts (token ids); ``count`` is told how many are done.

        decode=score and per_label: logits [n, k] in nats; otherwise predicted [n, k] and the answers as written.
        """
        if self.scorer is not None:
            return Scores(logits=self.scorer.score(prompts, count))
        encoder, grammar = self.encoder, None
        if self.decode == "constrained":
            grammar = AnswerGrammar(encoder.first, encoder.later, encoder.none, encoder.end, self.ctx.multilabel)
        written = decode(
            self.backbone,
            prompts,
            encoder.end,
            grammar=grammar,
            max_new_tokens=self.reserve if grammar else self.config.max_new_tokens,
            token_budget=self.config.token_budget,
            packed=self.packed,
            done=count,
        )
        raw = [self.backbone.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]
        if grammar:
            found: list[tuple[int, ...] | None] = [grammar.read(ids) for ids in written]
        else:
            found = [self.ctx.prompts.read(text) for text in raw]
        predicted = np.zeros((len(found), len(self.ctx.labels)), dtype=np.bool_)
        for row, labels in enumerate(found):
            predicted[row, list(labels or ())] = True
        status = ["invalid" if labels is None else "ok" for labels in found]
        return Scores(predicted=predicted, status=status, raw=raw)

    def predict(self, texts: Sequence[str]) -> Scores:
        """``encode`` and ``answer`` for n documents, timed and reported in the run's facts."""
        started = time.monotonic()
        encoded = self.encode(texts)
        with self.ctx.progress.bar("predicting", len(texts)) as count:
            scores = self.answer(encoded.ids, count)
        self.ctx.facts.update(
            predict_tokens=sum(encoded.lengths),
            predict_seconds=time.monotonic() - started,
            truncated_share=encoded.truncated,
            truncation_side=self.config.truncation_side,
        )
        return scores

    def facts(self) -> dict[str, Any]:
        """What a result reports of the model and of how it is asked."""
        found = {
            **model_facts(self.backbone, self.config),
            "decode": self.decode,
            "normalise": self.config.normalise,
            "chat_template": self.encoder.chat,
        }
        if self.scorer is not None:
            found["label_scoring"] = f"{self.scorer.way}: {self.scorer.reason}"
        else:
            found["decoding"] = f"{'prompts in one row' if self.packed else 'a row for each prompt'}: {self.packing}"
        return found

    def _label_scorer(self) -> LabelScorer:
        candidates = self.encoder.candidates
        self.divisors = answer_sizes(self.config.normalise, candidates, self.ctx.prompts.verbalizers)
        return LabelScorer(
            self.backbone,
            candidates,
            max_length=self.max_length - self.reserve,
            token_budget=self.config.token_budget,
            divisors=self.divisors,
        )

    def _branches(self) -> LabelBranches:
        return LabelBranches(
            self.backbone,
            self.encoder.question_ids,
            self.encoder.yes_no_ids,
            max_length=self.max_length - self.reserve,
            token_budget=self.config.token_budget,
        )


def answer_room(encoder: PromptEncoder, decode: Decode, max_length: int) -> int:
    """Tokens kept free after the prompt: the longest question with its answer, or the longest answer.

    Of an answer at most a quarter of the input: with many labels the longest one would leave no room for the document,
    and nobody writes it.
    """
    if decode == "per_label":
        return max(map(len, encoder.question_ids)) + max(map(len, encoder.yes_no_ids))
    every = range(len(encoder.prompts.labels))
    longest = encoder.answer_ids(every) if encoder.prompts.multilabel else max(encoder.candidates, key=len)
    return min(len(longest), max_length // 4)


def resolve_decode(config: AnsweringOptions, ctx: RunContext) -> Decode:
    """How answers are had, "auto" resolved.

    Raises:
        OptionError: scoring one label a document where a document has any number.
    """
    if config.decode == "score" and ctx.multilabel:
        raise OptionError(
            f"decode=score names one label a document, but in task {ctx.task!r} it may have any number: "
            "use decode=constrained, per_label or free"
        )
    if config.decode == "auto":
        return "constrained" if ctx.multilabel else "score"
    return config.decode


def check(config: AnsweringOptions, ctx: RunContext) -> None:
    """Everything that can be known with the tokenizer alone, before a model is loaded.

    Raises:
        OptionError: options that do not fit the task, or no room for a document beside prompt and answer.
        ModelError: a model that is absent or gated, or whose tokenizer cannot end an answer.
        TemplateError: labels that its tokenizer cannot tell apart.
    """
    decode = resolve_decode(config, ctx)
    check_available(config)
    encoder = PromptEncoder(load_tokenizer(config), ctx.prompts)
    encoder.prompt_ids("a", max_length=config.max_length, reserve=answer_room(encoder, decode, config.max_length))
