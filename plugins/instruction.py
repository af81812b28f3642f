"""``instruction``: fine-tune a causal language model to write the label after a prompt.

The other of the two ways that arXiv 2512.12677 compares. A template turns the document into a prompt and each label
into an answer; a LoRA adapter learns the answers, with a loss on their tokens alone. What the probabilities of a
prediction mean depends on ``decode``:

score: a label's logit is the exact log-likelihood of its answer, so that the softmax over labels is the model's
    probability of each label given that it writes one of them. The default where a document has one label.
constrained: greedy decoding that can write labels, separators and the end mark only. There are labels and no
    probabilities: those are null. The default where a document has any number of labels.
free: greedy decoding of anything, read as an answer or counted as invalid. No probabilities.

Shapes: n documents, k labels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evalsuite.contracts import Example, MethodSpec, RunContext, Scores
from evalsuite.errors import OptionError
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import HOUSE, LoraOptions, ModelOptions, TrainingOptions
from evalsuite.options import option
from evalsuite.prompts import PromptEncoder

if TYPE_CHECKING:
    from evalsuite.llm.label_scoring import LabelScorer

Decode = Literal["score", "constrained", "free"]


class InstructionConfig(ModelOptions, LoraOptions, TrainingOptions):
    """Options of the instruction method."""

    decode: Literal["auto", "score", "constrained", "free"] = option(
        "auto", "how an answer is had; auto: score for one label a document, constrained otherwise", source=HOUSE
    )
    normalise: Literal["none", "token", "byte"] = option(
        "none", "decode=score: what a label's log-likelihood is divided by, its tokens or its bytes", source=HOUSE
    )
    max_new_tokens: int = option(
        64, "decode=free: where an answer without an end mark is cut", unit="tokens", ge=1, source=HOUSE
    )


class Instruction:
    """A causal language model that writes labels."""

    def __init__(self, config: InstructionConfig, ctx: RunContext, adapter: Path | None = None) -> None:
        """``adapter``: a folder that ``save`` wrote; None before ``fit``."""
        from evalsuite.llm.backbone import attach_adapter, base_of, load_causal_lm
        from evalsuite.llm.label_scoring import answer_sizes

        self.config, self.ctx = config, ctx
        self.decode = resolve_decode(config, ctx)
        self.backbone = load_causal_lm(config, ctx.device)
        if adapter is not None:
            attach_adapter(self.backbone, adapter)
        self.encoder = PromptEncoder(self.backbone.tokenizer, ctx.prompts)
        context = getattr(base_of(self.backbone.model).config.get_text_config(), "max_position_embeddings", None)
        self.max_length = min(config.max_length, context or config.max_length)
        candidates = self.encoder.candidates
        self.reserve = answer_room(self.encoder, self.max_length)
        self.divisors = answer_sizes(config.normalise, candidates, ctx.prompts.verbalizers)
        self.scorer = self._make_scorer(candidates) if self.decode == "score" else None
        self._report_model()

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Train the adapter; ``validation``, predicted as the test will be, decides which state is kept."""
        from evalsuite.llm.backbone import attach_lora
        from evalsuite.llm.logits import answer_batch, answer_losses
        from evalsuite.llm.seeding import seed_everything
        from evalsuite.llm.training import Objective
        from evalsuite.llm.training import train as run

        seed_everything(self.ctx.seed)  # before the adapter is drawn
        attach_lora(self.backbone, self.config)
        self._report_model()
        answers = [self.encoder.answer_ids(example.labels) for example in train]
        prompts, truncated = self._encode([example.text for example in train], [len(answer) for answer in answers])
        held_out, _ = self._encode([example.text for example in validation])
        metric, pad_id = self.ctx.primary_metric, self.backbone.tokenizer.pad_token_id
        self.ctx.facts["train_truncated_share"] = truncated
        objective = Objective(
            items=list(zip(prompts, answers, strict=True)),
            lengths=[len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)],
            collate=lambda items: answer_batch(items, pad_id),
            losses=answer_losses,
            validate=(lambda: metric(self._answer(held_out), validation)) if metric and validation else None,
            ids=[example.id for example in train],
        )
        run(self.backbone, objective, self.config, self.ctx)

    def predict(self, texts: Sequence[str]) -> Scores:
        """decode=score: logits [n, k] in nats; otherwise predicted [n, k] and the answers as written."""
        started = time.monotonic()
        prompts, truncated = self._encode(texts)
        with self.ctx.progress.bar("predicting", len(texts)) as count:
            scores = self._answer(prompts, count)
        self.ctx.facts.update(
            predict_tokens=sum(map(len, prompts)),
            predict_seconds=time.monotonic() - started,
            truncated_share=truncated,
            truncation_side=self.config.truncation_side,
        )
        return scores

    def save(self, directory: Path) -> None:
        """Write ``adapter/``: the peft adapter and the tokenizer."""
        from evalsuite.llm.backbone import save_adapter

        save_adapter(self.backbone, directory / "adapter")

    @classmethod
    def load(cls, directory: Path, config: InstructionConfig, ctx: RunContext) -> Instruction:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the adapter is missing, cut short, or belongs to another model.
        """
        return cls(config, ctx, directory / "adapter")

    def card_snippet(self) -> str:
        """Python that classifies a text with the saved ``adapter`` folder, transformers and peft alone."""
        from evalsuite.llm.answer_snippet import answer_snippet

        return answer_snippet(self.backbone, self.config, self.encoder, self.divisors, self.decode == "score")

    def _make_scorer(self, candidates: Sequence[Sequence[int]]) -> LabelScorer:
        from evalsuite.llm.label_scoring import LabelScorer

        scorer = LabelScorer(
            self.backbone,
            candidates,
            max_length=self.max_length - self.reserve,
            token_budget=self.config.token_budget,
            divisors=self.divisors,
        )
        self.ctx.facts["label_scoring"] = f"{scorer.way}: {scorer.reason}"
        return scorer

    def _encode(self, texts: Sequence[str], answers: Sequence[int] = ()) -> tuple[list[list[int]], float]:
        """(token ids of n prompts, share of documents cut); ``answers``: lengths of answers that have to fit too."""
        encoded = [
            self.encoder.prompt_ids(
                text, max_length=self.max_length, reserve=max(self.reserve, answer), side=self.config.truncation_side
            )
            for text, answer in zip(texts, answers or [0] * len(texts), strict=True)
        ]
        return [ids for ids, _ in encoded], sum(cut for _, cut in encoded) / max(1, len(encoded))

    def _answer(self, prompts: Sequence[Sequence[int]], count: Any = lambda documents: None) -> Scores:
        """What the model says after n prompts (token ids)."""
        from evalsuite.llm.generation import AnswerGrammar, decode

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

    def _report_model(self) -> None:
        from evalsuite.llm.footprint import count_parameters

        parameters = count_parameters(self.backbone.model)
        self.ctx.facts.update(
            trainable_parameters=parameters.trainable,
            total_parameters=parameters.total,
            attn_implementation=self.backbone.attn_implementation,
            dtype=str(self.backbone.dtype).removeprefix("torch."),
            quantised=self.backbone.quantised,
            decode=self.decode,
            normalise=self.config.normalise,
            chat_template=self.encoder.chat,
        )


def answer_room(encoder: PromptEncoder, max_length: int) -> int:
    """Tokens kept free for the answer: the longest one's, at most a quarter of the input.

    With many labels the longest answer would leave no room for the document, and nobody writes it.
    """
    every = range(len(encoder.prompts.labels))
    longest = encoder.answer_ids(every) if encoder.prompts.multilabel else max(encoder.candidates, key=len)
    return min(len(longest), max_length // 4)


def resolve_decode(config: InstructionConfig, ctx: RunContext) -> Decode:
    """How answers are had, "auto" resolved.

    Raises:
        OptionError: scoring one label a document where a document has any number.
    """
    if config.decode == "score" and ctx.multilabel:
        raise OptionError(
            f"decode=score names one label a document, but in task {ctx.task!r} it may have any number: "
            "use decode=constrained or free"
        )
    if config.decode == "auto":
        return "constrained" if ctx.multilabel else "score"
    return config.decode


def preflight(config: InstructionConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Memory and disk in bytes, worked out from the model's shape before anything is loaded.

    Raises:
        OptionError: options that do not fit the task, or no room for a document beside prompt and answer.
        ModelError: a model that is absent or gated, or whose tokenizer cannot end an answer.
        TemplateError: labels that its tokenizer cannot tell apart.
    """
    from evalsuite.llm.footprint import estimate_training
    from evalsuite.llm.source import check_available, load_tokenizer

    resolve_decode(config, ctx)
    check_available(config)
    encoder = PromptEncoder(load_tokenizer(config), ctx.prompts)
    encoder.prompt_ids("a", max_length=config.max_length, reserve=answer_room(encoder, config.max_length))
    return estimate_training(config, config, config, ctx.device)


@hookimpl
def evalsuite_register_methods() -> list[MethodSpec]:
    """The instruction method."""
    return [
        MethodSpec(
            name="instruction",
            build=Instruction,
            load=Instruction.load,
            config=InstructionConfig,
            needs=frozenset({"model", "prompts"}),
            description="a causal language model writes the label after a prompt, LoRA on its layers",
            preflight=preflight,
        )
    ]
