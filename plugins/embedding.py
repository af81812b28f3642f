"""The embedding method: a linear head on a decoder's pooled hidden state, the decoder adapted by LoRA.

One of the two ways that arXiv 2512.12677 compares. ``pooling="last"`` reads the last token's state and is the portable
form: plain transformers (AutoModelForSequenceClassification) with peft loads it; ``pooling="mean"`` averages tokens.
Single-label tasks train with cross-entropy, multi-label ones with binary cross-entropy a label.

Shapes: n documents, b documents of a batch, k labels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evalsuite.contracts import Example, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import PAPER, LoraOptions, ModelOptions, TrainingOptions
from evalsuite.metrics import one_hot
from evalsuite.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evalsuite.llm.backbone import Backbone
    from evalsuite.llm.batching import Encoded

HEAD = "head.safetensors"


class EmbeddingConfig(ModelOptions, LoraOptions, TrainingOptions):
    """Options of the embedding method."""

    pooling: Literal["last", "mean"] = option(
        "last", "what the head reads: the last token's hidden state, or the mean over all tokens", source=PAPER
    )


class Embedding:
    """A sequence classifier with a LoRA adapter and a float32 head."""

    def __init__(self, config: EmbeddingConfig, ctx: RunContext) -> None:
        self.config, self.ctx = config, ctx
        self._backbone: Backbone | None = None

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Train adapter and head; ``validation`` decides which state is kept."""
        from evalsuite.llm.backbone import attach_lora
        from evalsuite.llm.batching import pad
        from evalsuite.llm.seeding import seed_everything
        from evalsuite.llm.training import Objective
        from evalsuite.llm.training import train as run

        seed_everything(self.ctx.seed)  # before the model is built: the head is drawn then
        backbone = self._load_base()
        attach_lora(backbone, self.config, modules_to_save=["score"])
        encoded = self._encode([example.text for example in train])
        targets = self._targets(train)

        def collate(rows: Sequence[int]) -> dict[str, Tensor]:
            return {
                **pad([encoded.ids[row] for row in rows], backbone.tokenizer.pad_token_id),
                "targets": targets[rows],
            }

        def validate() -> float:
            scores = Scores(logits=self._logits(self._encode([example.text for example in validation])))
            return self.ctx.primary_metric(scores, validation) if self.ctx.primary_metric else 0.0

        self.ctx.facts["train_truncated_share"] = encoded.truncated
        self._report_model()
        objective = Objective(
            items=range(len(train)),
            lengths=encoded.lengths,
            collate=collate,
            losses=self._losses,
            validate=validate if validation and self.ctx.primary_metric else None,
            ids=[example.id for example in train],
        )
        run(backbone, objective, self.config, self.ctx)

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits, float32 [n, k], in the order of ``texts``."""
        started = time.monotonic()
        encoded = self._encode(texts)
        with self.ctx.progress.bar("predicting", len(texts)) as count:
            logits = self._logits(encoded, count)
        self.ctx.facts.update(
            predict_tokens=sum(encoded.lengths),
            predict_seconds=time.monotonic() - started,
            truncated_share=encoded.truncated,
            truncation_side=self.config.truncation_side,
        )
        return Scores(logits=logits)

    def save(self, directory: Path) -> None:
        """Write ``adapter/``: the peft adapter with the head in it; for mean pooling the head in its own file.

        A stock reload of a mean-pooling adapter would read the last token: without a head in the adapter it cannot
        give wrong answers in silence.
        """
        from safetensors.torch import save_file

        from evalsuite.llm.backbone import base_of, save_adapter

        backbone, folder = self._ready(), directory / "adapter"
        # a plain reload then pads and cuts as was done here
        backbone.tokenizer.padding_side, backbone.tokenizer.truncation_side = "right", self.config.truncation_side
        if self.config.pooling == "last":
            save_adapter(backbone, folder)
        else:
            save_adapter(backbone, folder, leave_out=["score"])
            head = base_of(backbone.model).score.weight.detach().cpu().contiguous()
            save_file({"weight": head}, folder / HEAD)

    @classmethod
    def load(cls, directory: Path, config: EmbeddingConfig, ctx: RunContext) -> Embedding:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the adapter or the head is missing, cut short, or belongs to another model.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from evalsuite.llm.backbone import attach_adapter, base_of

        method, folder = cls(config, ctx), directory / "adapter"
        backbone = method._load_base()
        attach_adapter(backbone, folder)
        if config.pooling == "mean":
            try:
                weight = load_file(folder / HEAD)["weight"]
                with torch.no_grad():
                    base_of(backbone.model).score.weight.copy_(weight)
            except (OSError, SafetensorError, KeyError, RuntimeError) as error:
                raise ModelError(f"cannot read the head in {folder / HEAD}: {error}; train it again") from error
        method._report_model()
        return method

    def card_snippet(self) -> str:
        """Python that classifies a text with the saved ``adapter`` folder, transformers and peft alone."""
        from evalsuite.llm.snippets import classifier_snippet

        return classifier_snippet(self._ready(), self.config, self.ctx.labels, self.ctx.multilabel, self.config.pooling)

    def _load_base(self) -> Backbone:
        from evalsuite.llm.backbone import load_sequence_classifier

        self._backbone = load_sequence_classifier(self.config, self.ctx.labels, self.ctx.multilabel, self.ctx.device)
        return self._backbone

    def _ready(self) -> Backbone:
        if self._backbone is None:
            raise ModelError("the embedding method has no model yet; call fit or load first")
        return self._backbone

    def _encode(self, texts: Sequence[str]) -> Encoded:
        from evalsuite.llm.backbone import longest_input
        from evalsuite.llm.batching import encode

        backbone = self._ready()
        length = longest_input(backbone, self.config.max_length)
        return encode(backbone.tokenizer, texts, length, self.config.truncation_side)

    def _targets(self, examples: Sequence[Example]) -> Tensor:
        """Class indices, int64 [n]; for multi-label tasks 0 or 1 a label, float32 [n, k]."""
        import torch

        if not self.ctx.multilabel:
            return torch.tensor([example.labels[0] for example in examples])
        return torch.from_numpy(one_hot(examples, len(self.ctx.labels))).float()

    def _losses(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """One loss a document, float32 [b]; for multi-label tasks the mean over labels."""
        from torch.nn import functional as F

        from evalsuite.llm.pooling import classify

        logits = classify(model, batch, self.config.pooling)
        if self.ctx.multilabel:
            return F.binary_cross_entropy_with_logits(logits, batch["targets"], reduction="none").mean(dim=1)
        return F.cross_entropy(logits, batch["targets"], reduction="none")

    def _logits(self, encoded: Encoded, count: Any = lambda documents: None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Logits, float32 [n, k], by batches of like length."""
        import torch

        from evalsuite.llm.batching import map_batches, pad, to_device
        from evalsuite.llm.pooling import classify

        backbone = self._ready()

        def classify_rows(rows: list[int]) -> list[np.ndarray[Any, Any]]:
            batch = pad([encoded.ids[row] for row in rows], backbone.tokenizer.pad_token_id)
            logits = classify(backbone.model, to_device(batch, backbone.device), self.config.pooling)
            return list(logits.cpu().numpy())

        backbone.model.eval()
        # not inference_mode: a model may keep tensors of a validation, and training could not use those
        with torch.no_grad():
            rows = map_batches(classify_rows, encoded.lengths, self.config.token_budget, count)
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(self.ctx.labels))

    def _report_model(self) -> None:
        from evalsuite.llm.footprint import count_parameters

        backbone = self._ready()
        parameters = count_parameters(backbone.model)
        self.ctx.facts.update(
            trainable_parameters=parameters.trainable,
            total_parameters=parameters.total,
            attn_implementation=backbone.attn_implementation,
            dtype=str(backbone.dtype).removeprefix("torch."),
            quantised=backbone.quantised,
        )


def preflight(config: EmbeddingConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Memory and disk in bytes, worked out from the model's shape before anything is loaded."""
    from evalsuite.llm.footprint import estimate_training
    from evalsuite.llm.source import check_available

    check_available(config)
    return estimate_training(config, config, config, ctx.device, labels=len(ctx.labels))


@hookimpl
def evalsuite_register_methods() -> list[MethodSpec]:
    """The embedding method."""
    return [
        MethodSpec(
            name="embedding",
            build=Embedding,
            load=Embedding.load,
            config=EmbeddingConfig,
            needs=frozenset({"model"}),
            description="a linear head on a decoder's last or mean hidden state, LoRA on the decoder",
            preflight=preflight,
        )
    ]
