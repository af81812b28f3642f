"""The embedding method: a linear head on a decoder's pooled hidden state, the decoder adapted by LoRA.

One of the two ways that arXiv 2512.12677 compares. ``pooling="last"`` reads the last token's state and is the portable
form: plain transformers (AutoModelForSequenceClassification) with peft loads it. Single-label tasks train with
cross-entropy, multi-label ones with binary cross-entropy a label.

A head that starts at random sometimes never learns, as in the paper. ``head_init="probe"`` starts it from a regularised
linear solution on the features that the untrained model gives. ``layer`` reads the model below its top and drops what
lies above.

Shapes: n documents, k labels, h hidden.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from evalsuite.contracts import Example, Floats, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import HOUSE, PAPER, LoraOptions, LossOptions, ModelOptions, TrainingOptions
from evalsuite.metrics import one_hot
from evalsuite.options import option

if TYPE_CHECKING:
    from evalsuite.llm.batching import Encoded
    from evalsuite.llm.classifier import TextClassifier
    from evalsuite.llm.export.formats import Exports

HEAD = "head.safetensors"
SETTINGS = "embedding.json"
LAYER_MOST = 1000, 500  # documents that layer=auto learns and compares on; more would cost more than they tell
TIMED = 32  # documents that the speed of the whole and the truncated model is measured on


class EmbeddingConfig(ModelOptions, LoraOptions, LossOptions, TrainingOptions):
    """Options of the embedding method."""

    pooling: Literal["last", "mean", "max", "attention"] = option(
        "last",
        "what the head reads: the last token's state, the mean or the largest value over all tokens, or an average that"
        " a learned query weighs",
        source=PAPER,
    )
    layer: Annotated[int, Field(ge=1)] | Literal["auto"] | None = option(
        None,
        "layer that the head reads, from 1; those above are dropped; auto: the best on validation; unset: the last",
        source=HOUSE,
    )
    head_init: Literal["probe", "random"] = option(
        "probe", "the head starts from a linear probe of the untrained model's features, or at random", source=HOUSE
    )


class Embedding:
    """A sequence classifier with a LoRA adapter and a float32 head."""

    def __init__(self, config: EmbeddingConfig, ctx: RunContext) -> None:
        self.config, self.ctx = config, ctx
        self.layer: int | None = None
        self._classifier: TextClassifier | None = None

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Train adapter and head; ``validation`` decides the layer where that is asked, and which state is kept."""
        from evalsuite.llm.lora.adapters import attach_lora
        from evalsuite.llm.training.loop import train as run
        from evalsuite.llm.training.losses import ClassificationLoss
        from evalsuite.llm.training.seeding import seed_everything

        seed_everything(self.ctx.seed)  # before the model is built: a random head is drawn then
        classifier = self._load_base()
        encoded = classifier.encode([example.text for example in train])
        if self.config.layer is not None:
            self._drop_layers(self.config.layer, encoded, train, validation)
        if self.config.pooling == "attention":
            self._add_query()
        if self.config.head_init == "probe":
            self._start_from_probe(encoded, train)
        attach_lora(classifier.backbone, self.config, modules_to_save=classifier.backbone.head)
        classifier.report()
        loss = ClassificationLoss(self.config, one_hot(train, len(self.ctx.labels)), self.ctx.multilabel)
        objective = classifier.objective(
            encoded,
            {"targets": classifier.targets(train)},
            lambda logits, batch: loss(logits, batch["targets"]),
            validation,
            [example.id for example in train],
            starts_fitted=self.config.head_init == "probe",
        )
        run(classifier.backbone, objective, self.config, self.ctx)

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits, float32 [n, k], in the order of ``texts``."""
        return self._ready().predict(texts)

    def save(self, directory: Path) -> None:
        """Write ``adapter/``: the peft adapter with the head in it; but for last pooling the head in its own file.

        A stock reload of another pooling's adapter would read the last token: without a head in the adapter it cannot
        give wrong answers in silence.
        """
        from safetensors.torch import save_file

        from evalsuite.llm.loading.backbone import base_of
        from evalsuite.llm.lora.adapters import save_adapter, set_sides
        from evalsuite.llm.reading.pooling import ATTENTION

        backbone, folder = self._ready().backbone, directory / "adapter"
        # a plain reload then pads and cuts as was done here
        set_sides(backbone.tokenizer, self.config.truncation_side)
        portable = self.config.pooling == "last"
        save_adapter(backbone, folder, leave_out=[] if portable else backbone.head)
        if not portable:
            model = base_of(backbone.model)
            tensors = {"weight": model.score.weight}
            if self.config.pooling == "attention":
                tensors["query"] = getattr(model, ATTENTION).query
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / HEAD)
        (folder / SETTINGS).write_text(json.dumps({"layer": self.layer}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, config: EmbeddingConfig, ctx: RunContext) -> Embedding:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the adapter or the head is missing, cut short, or belongs to another model.
        """
        from evalsuite.llm.lora.adapters import attach_adapter
        from evalsuite.llm.reading.layers import keep_layers

        method, folder = cls(config, ctx), directory / "adapter"
        classifier = method._load_base()
        try:
            method.layer = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["layer"]
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"cannot read {folder / SETTINGS}: {error}; train it again") from error
        if method.layer is not None:
            keep_layers(classifier.backbone, method.layer)
        if config.pooling == "attention":
            method._add_query()
        attach_adapter(classifier.backbone, folder)
        if config.pooling != "last":
            method._read_head(folder / HEAD)
        classifier.report()
        return method

    def card_snippet(self) -> str:
        """Python that classifies a text with the saved ``adapter`` folder, transformers and peft alone."""
        from evalsuite.llm.export.snippets import classifier_snippet

        return classifier_snippet(self._ready(), self.config, self.layer)

    def exports(self, dtype: str) -> Exports:
        """What can be written of the model for plain libraries, by kind."""
        from evalsuite.llm.export.formats import classifier_exports

        return classifier_exports(self._ready(), self.config, dtype, self.layer)

    def _load_base(self) -> TextClassifier:
        from evalsuite.llm.classifier import TextClassifier
        from evalsuite.llm.loading.backbone import load_sequence_classifier

        backbone = load_sequence_classifier(self.config, self.ctx.labels, self.ctx.multilabel, self.ctx.device)
        self._classifier = TextClassifier(backbone, self.ctx, self.config, self.config.pooling)
        return self._classifier

    def _ready(self) -> TextClassifier:
        if self._classifier is None:
            raise ModelError("the embedding method has no model yet; call fit or load first")
        return self._classifier

    def _add_query(self) -> None:
        from evalsuite.llm.reading.pooling import add_attention_pooling

        add_attention_pooling(self._ready().backbone)

    def _features(self, encoded: Encoded, layers: Sequence[int] | None = None) -> dict[int, Floats]:
        """Pooled features, float32 [n, h], of the layers named (unset: the last alone)."""
        from evalsuite.llm.reading.features import pooled_features

        # a learned query starts as the mean
        pooling = "mean" if self.config.pooling == "attention" else self.config.pooling
        budget = self.config.token_budget
        with self.ctx.progress.bar("reading features", len(encoded.ids)) as count:
            return pooled_features(self._ready().backbone, encoded, pooling, layers, token_budget=budget, count=count)

    def _drop_layers(
        self, asked: int | str, encoded: Encoded, train: Sequence[Example], validation: Sequence[Example]
    ) -> None:
        """Drop the layers above the one that is asked for; "auto": the best on validation, of the untrained model."""
        from evalsuite.llm.reading.layers import best_layer, candidate_layers, drop_layers

        classifier = self._ready()

        def features(examples: Sequence[Example], layers: Sequence[int]) -> dict[int, Floats]:
            return self._features(classifier.encode([example.text for example in examples]), layers)

        if isinstance(asked, int):
            self.layer = asked
        else:
            layers = candidate_layers(classifier.backbone.model)
            self.layer = best_layer(layers, features, self.ctx, train, validation, most=LAYER_MOST, intercept=False)
        timed = encoded.rows(range(min(TIMED, len(encoded.ids))))
        drop_layers(classifier.backbone, self.layer, self.ctx, lambda: classifier.logits(timed))

    def _start_from_probe(self, encoded: Encoded, train: Sequence[Example]) -> None:
        """Set the head to a regularised linear solution on train: its logits are then the probe's until a step is made.

        Fitted on the features of the same (quantised) base, prompt and truncation, with dropout off.
        """
        import torch

        from evalsuite.llm.reading.probe import fit_probe

        started, classifier = time.monotonic(), self._ready()
        ((_, features),) = self._features(encoded).items()
        gold = one_hot(train, len(self.ctx.labels))
        probe = fit_probe(features, gold, multilabel=self.ctx.multilabel, seed=self.ctx.seed, intercept=False)
        with torch.no_grad():
            classifier.backbone.model.get_submodule("score").weight.copy_(torch.from_numpy(probe.weight))
        self.ctx.facts.update(probe.facts(), head_init_seconds=round(time.monotonic() - started, 3))

    def _read_head(self, path: Path) -> None:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from evalsuite.llm.loading.backbone import base_of
        from evalsuite.llm.reading.pooling import ATTENTION

        model = base_of(self._ready().backbone.model)
        try:
            tensors = load_file(path)
            with torch.no_grad():
                model.score.weight.copy_(tensors["weight"])
                if self.config.pooling == "attention":
                    getattr(model, ATTENTION).query.copy_(tensors["query"])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise ModelError(f"cannot read the head in {path}: {error}; train it again") from error


def preflight(config: EmbeddingConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Memory and disk in bytes, worked out from the model's shape before anything is loaded.

    Raises:
        ModelError: a model that is absent, gated, or an encoder.
        OptionError: a layer that the model does not have, or a budget that no rank can meet.
    """
    from evalsuite.llm.loading.backbone import DECODER_HEAD, classification_head
    from evalsuite.llm.loading.source import check_available
    from evalsuite.llm.training.footprint import estimate_training

    check_available(config)
    if classification_head(config) != DECODER_HEAD:
        raise ModelError(
            f"{config.model} has no linear `score` head: the embedding method needs a decoder, "
            "use method 'bert' for an encoder"
        )
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
            needs=frozenset({"model", "template"}),
            description="a linear head on a decoder's pooled hidden state, LoRA on the decoder",
            preflight=preflight,
        )
    ]
