"""``instruction``: fine-tune a causal language model to write the label after a prompt.

The other of the two ways that arXiv 2512.12677 compares. A template turns the document into a prompt and each label
into an answer; a LoRA adapter learns the answers, with a loss on their tokens alone. With ``decode=per_label`` it
learns to answer a question about every label instead. How an answer is had from the model, and what its probabilities
mean, is said in ``evalsuite.llm.answering``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.contracts import Example, MethodSpec, RunContext, Scores
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import AnsweringOptions, LoraOptions, TrainingOptions
from evalsuite.metrics import one_hot

if TYPE_CHECKING:
    from evalsuite.llm.answers.branches import LabelBranches
    from evalsuite.llm.batching import TokenIds
    from evalsuite.llm.export.formats import Exports
    from evalsuite.llm.training.loop import Objective


class InstructionConfig(AnsweringOptions, LoraOptions, TrainingOptions):
    """Options of the instruction method."""


class Instruction:
    """A causal language model that writes labels."""

    def __init__(self, config: InstructionConfig, ctx: RunContext, adapter: Path | None = None) -> None:
        """``adapter``: a folder that ``save`` wrote; None before ``fit``."""
        from evalsuite.llm.answering import Answerer, resolve_decode
        from evalsuite.llm.loading.backbone import load_causal_lm
        from evalsuite.llm.lora.adapters import attach_adapter

        self.config, self.ctx = config, ctx
        resolve_decode(config, ctx)  # a wrong option is no reason to load a model first
        self.backbone = load_causal_lm(config, ctx.device)
        if adapter is not None:
            attach_adapter(self.backbone, adapter)
        self.answerer = Answerer(self.backbone, ctx, config)
        ctx.facts.update(self.answerer.facts())

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Train the adapter; ``validation``, predicted as the test will be, decides which state is kept."""
        from evalsuite.llm.lora.adapters import attach_lora
        from evalsuite.llm.training.loop import train as run
        from evalsuite.llm.training.seeding import seed_everything

        seed_everything(self.ctx.seed)  # before the adapter is drawn
        attach_lora(self.backbone, self.config)
        answerer, metric = self.answerer, self.ctx.primary_metric
        self.ctx.facts.update(answerer.facts())
        held_out = answerer.encode([example.text for example in validation]).ids
        validate = (lambda: metric(answerer.answer(held_out), validation)) if metric and validation else None
        if answerer.branches is not None:
            objective = self._questions(answerer.branches, train, validate)
        else:
            objective = self._answers(train, validate)
        run(self.backbone, objective, self.config, self.ctx)

    def predict(self, texts: Sequence[str]) -> Scores:
        """decode=score, per_label: logits [n, k] in nats; otherwise predicted [n, k] and the answers as written."""
        return self.answerer.predict(texts)

    def save(self, directory: Path) -> None:
        """Write ``adapter/``: the peft adapter and the tokenizer."""
        from evalsuite.llm.lora.adapters import save_adapter

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
        from evalsuite.llm.export.answer_snippet import answer_snippet

        return answer_snippet(self.answerer)

    def exports(self, dtype: str) -> Exports:
        """What can be written of the model for plain libraries, by kind."""
        from evalsuite.llm.export.formats import answerer_exports

        return answerer_exports(self.answerer, dtype)

    def _answers(self, train: Sequence[Example], validate: Callable[[], float] | None) -> Objective:
        """The gold answer of every document is to be written."""
        from evalsuite.llm.answers.fast_losses import fast_losses
        from evalsuite.llm.reading.logits import answer_batch
        from evalsuite.llm.training.loop import Objective

        answers = [self.answerer.encoder.answer_ids(example.labels) for example in train]
        prompts = self._prompts(train, [len(answer) for answer in answers])
        pad_id = self.backbone.tokenizer.pad_token_id
        return Objective(
            items=range(len(train)),
            lengths=[prompt + len(answer) for prompt, answer in zip(prompts.lengths, answers, strict=True)],
            collate=lambda rows: answer_batch([(prompts[row], answers[row]) for row in rows], pad_id),
            losses=fast_losses(self.backbone, prompts, answers, self.config),
            validate=validate,
            ids=[example.id for example in train],
        )

    def _questions(
        self, branches: LabelBranches, train: Sequence[Example], validate: Callable[[], float] | None
    ) -> Objective:
        """Yes or no is to be said of every label: binary cross-entropy a label, also where a document has just one."""
        from evalsuite.llm.answers.branches import branch_batch
        from evalsuite.llm.training.loop import Objective

        prompts, gold = self._prompts(train), one_hot(train, len(self.ctx.labels))
        pad_id = self.backbone.tokenizer.pad_token_id
        return Objective(
            items=range(len(train)),
            lengths=[length + branches.tokens for length in prompts.lengths],
            collate=lambda rows: branch_batch([(prompts[row], gold[row]) for row in rows], pad_id),
            losses=lambda model, batch: branches.losses(batch),
            validate=validate,
            ids=[example.id for example in train],
        )

    def _prompts(self, train: Sequence[Example], answers: Sequence[int] = ()) -> TokenIds:
        encoded = self.answerer.encode([example.text for example in train], answers)
        self.ctx.facts["train_truncated_share"] = encoded.truncated
        return encoded.ids


def preflight(config: InstructionConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Memory and disk in bytes, worked out from the model's shape before anything is loaded.

    Raises:
        OptionError: options that do not fit the task, or no room for a document beside prompt and answer.
        ModelError: a model that is absent or gated, or whose tokenizer cannot end an answer.
        TemplateError: labels that its tokenizer cannot tell apart.
    """
    from evalsuite.llm.answering import check
    from evalsuite.llm.training.footprint import estimate_training

    check(config, ctx)
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
