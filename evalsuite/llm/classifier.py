"""A model with a classification head: documents in, class logits out. What the trained classifiers share.

Shapes: n documents, b documents of a batch, k labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from evalsuite.contracts import Example, Floats, RunContext, Scores
from evalsuite.llm.batching import Encoded, encode, map_rows, pad, prediction_budget, to_device
from evalsuite.llm.loading.backbone import Backbone, longest_input
from evalsuite.llm.reading.logits import evaluation
from evalsuite.llm.reading.pooling import Pooling, classify, may_cut_short
from evalsuite.llm.training.footprint import model_facts
from evalsuite.llm.training.loop import Objective
from evalsuite.metrics import one_hot
from evalsuite.prompts import PromptEncoder


class Sizes(Protocol):
    """The options a classifier reads: those of ``ModelOptions`` and ``BatchOptions`` that say how much it sees."""

    @property
    def max_length(self) -> int: ...
    @property
    def truncation_side(self) -> Any: ...
    @property
    def token_budget(self) -> int: ...


class TextClassifier:
    """A loaded sequence classifier, its tokenizer and its pooling ("own": the architecture's own way).

    Where the run names a template, a document is read within its prompt.
    """

    def __init__(self, backbone: Backbone, ctx: RunContext, options: Sizes, pooling: Pooling = "own") -> None:
        self.backbone, self.ctx, self.options, self.pooling = backbone, ctx, options, pooling
        self.max_length = longest_input(backbone, options.max_length)
        self.prompts = PromptEncoder(backbone.tokenizer, ctx.prompts) if ctx.prompts is not None else None

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Token ids of n documents, cut to fit.

        Raises:
            OptionError: a template that leaves no room for a document.
        """
        side = self.options.truncation_side
        if self.prompts is None:
            return encode(self.backbone.tokenizer, texts, self.max_length, side)
        return Encoded.of(self.prompts.encode(texts, max_length=self.max_length, side=side))

    def logits(self, encoded: Encoded, count: Callable[[int], None] = lambda documents: None) -> Floats:
        """Logits, float32 [n, k], by batches of like length, without dropout."""
        backbone, shortcut = self.backbone, may_cut_short(self.backbone, self.pooling)

        def classify_rows(rows: list[int]) -> Tensor:
            batch = to_device(self.batch(encoded, rows), backbone.device)
            with backbone.arithmetic():
                return classify(backbone.model, batch, self.pooling, shortcut)

        with evaluation(backbone.model):
            budget = prediction_budget(self.options.token_budget, backbone.device)
            return map_rows(classify_rows, (len(self.ctx.labels),), encoded.lengths, budget, count)

    def batch(self, encoded: Encoded, rows: Sequence[int]) -> dict[str, Tensor]:
        """The named documents as one padded batch."""
        return pad([encoded.ids[row] for row in rows], self.backbone.tokenizer.pad_token_id)

    def targets(self, examples: Sequence[Example]) -> Tensor:
        """Class indices, int64 [n]; for multi-label tasks 0 or 1 a label, float32 [n, k]."""
        if not self.ctx.multilabel:
            return torch.tensor([example.labels[0] for example in examples])
        return torch.from_numpy(one_hot(examples, len(self.ctx.labels))).float()

    def objective(
        self,
        encoded: Encoded,
        columns: Mapping[str, Tensor],
        losses: Callable[[Tensor, dict[str, Tensor]], Tensor],
        validation: Sequence[Example],
        ids: Sequence[str],
        starts_fitted: bool = False,
    ) -> Objective:
        """What to minimise over n encoded documents.

        Args:
            encoded: the documents.
            columns: what else a loss needs of each, such as its target: [n, ...] by name.
            losses: (logits [b, k], the columns of the batch) -> one loss a document, float32 [b].
            validation: decides which state is kept.
            ids: names of the n documents for error messages.
            starts_fitted: see ``Objective``.
        """
        held_out, metric = self.encode([example.text for example in validation]), self.ctx.primary_metric
        self.ctx.facts["train_truncated_share"] = encoded.truncated
        shortcut = may_cut_short(self.backbone, self.pooling)

        def collate(rows: Sequence[int]) -> dict[str, Tensor]:
            chosen = torch.tensor(rows)
            return {**self.batch(encoded, rows), **{name: column[chosen] for name, column in columns.items()}}

        def losses_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            return losses(classify(model, batch, self.pooling, shortcut), batch)

        return Objective(
            items=range(len(encoded.ids)),
            lengths=encoded.lengths,
            collate=collate,
            losses=losses_of,
            validate=(lambda: metric(Scores(logits=self.logits(held_out)), validation))
            if metric and validation
            else None,
            ids=ids,
            starts_fitted=starts_fitted,
        )

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits, float32 [n, k], in the order of ``texts``; what it took goes to the facts."""
        started = time.monotonic()
        encoded = self.encode(texts)
        with self.ctx.progress.bar("predicting", len(texts)) as count:
            logits = self.logits(encoded, count)
        self.ctx.facts.update(
            predict_tokens=sum(encoded.lengths),
            predict_seconds=time.monotonic() - started,
            truncated_share=encoded.truncated,
            truncation_side=self.options.truncation_side,
        )
        return Scores(logits=logits)

    def report(self) -> None:
        """Put the model's size and precision among the facts."""
        self.ctx.facts.update(model_facts(self.backbone, self.options))
