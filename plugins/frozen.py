"""The frozen method: embeddings of a model whose weights stay as they are, and logistic regression on them.

Any decoder or encoder, sentence-embedding models too. A text's vector is pooled from the last layer, from a layer that
is named, or from the one that does best on validation. A decoder may be made to read both ways (LLM2Vec's idea, arXiv
2404.05961). Vectors are kept on disk: the same model reads a text once, whatever the task, the seed or the head.
Single-label tasks get multinomial logistic regression, multi-label ones a regression of each label against the rest.

Shapes: n documents, k labels, h hidden.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from evalsuite.contracts import Example, Floats, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import HOUSE, BatchOptions, ModelOptions
from evalsuite.metrics import one_hot
from evalsuite.options import option

if TYPE_CHECKING:
    from evalsuite.llm.embedder import Embedded, Embedder
    from evalsuite.llm.export.formats import Exports

HEAD, SETTINGS = "head.safetensors", "frozen.json"
LAYER_MOST = 2000, 1000  # documents that layer=auto learns and compares on; more would cost more than they tell
TIMED = 64  # documents that the speed of the whole and the truncated model is measured on


class FrozenConfig(ModelOptions, BatchOptions):
    """Options of the frozen method."""

    pooling: Literal["auto", "last", "mean", "max", "cls"] = option(
        "auto",
        "one vector of a text: the last token's state, the mean or the largest value over all tokens, or the first"
        " token's state; auto: as the files of a sentence-embedding model say, else last for a decoder, mean for what"
        " reads both ways",
        source="arXiv 1908.10084 (mean), arXiv 2404.05961 (mean where a decoder reads both ways)",
    )
    normalize: bool | None = option(
        None, "bring vectors to length 1; unset: where pooling=auto finds a model that does, else no", source=HOUSE
    )
    layer: Annotated[int, Field(ge=1)] | Literal["auto"] | None = option(
        None,
        "layer that is pooled, from 1; those above are dropped; auto: the best on validation; unset: the last",
        source=HOUSE,
    )
    bidirectional: bool = option(
        False, "a decoder attends to the whole text, not only to what came before", source="LLM2Vec, arXiv 2404.05961"
    )
    c: float | None = option(
        None,
        "scikit-learn's C of the head, on features of unit variance; unset: by cross-validation in train",
        gt=0,
        source=HOUSE,
    )
    cache: bool = option(True, "keep vectors on disk, by model and hash of the text", source=HOUSE, identity=False)


class Frozen:
    """A frozen model and a linear head: logits [n, k] = embeddings [n, h] @ weight.T [h, k] + bias [k]."""

    def __init__(self, config: FrozenConfig, ctx: RunContext) -> None:
        self.config, self.ctx = config, ctx
        self.layer: int | None = None
        self.weight: Floats = np.zeros((0, 0), np.float32)
        self.bias: Floats = np.zeros(0, np.float32)
        self._embedder: Embedder | None = None

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Embed ``train`` and fit the head; ``validation`` decides the layer where that is asked."""
        from evalsuite.llm.loading.source import model_identity
        from evalsuite.llm.reading.probe import fit_probe

        started = time.monotonic()
        embedder = self._load_base()
        if self.config.pooling == "auto":
            self._read_sentence_files()
        if self.config.cache:
            embedder.identity = model_identity(self.config)
        if self.config.layer is not None:
            self._drop_layers(self.config.layer, train, validation)
        embedded = self._embed("embedding train", train)
        (features,) = embedded.vectors.values()
        with self.ctx.progress.bar("fitting the head", len(self.ctx.labels), "labels") as count:
            probe = fit_probe(
                features,
                one_hot(train, len(self.ctx.labels)),
                multilabel=self.ctx.multilabel,
                seed=self.ctx.seed,
                intercept=True,
                c=self.config.c,
                count=count,
            )
        assert probe.bias is not None
        self.weight, self.bias = probe.weight, probe.bias
        self.ctx.facts.update(
            probe.facts(),
            train_seconds=time.monotonic() - started + embedded.cached_seconds,
            train_tokens=embedded.tokens,
            train_truncated_share=embedded.truncated,
            train_cached=embedded.cached,
            train_cached_seconds=embedded.cached_seconds,
        )
        self._report()

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits, float32 [n, k], in the order of ``texts``."""
        started = time.monotonic()
        with self.ctx.progress.bar("predicting", len(texts)) as count:
            embedded = self._ready().embed(texts, count=count)
        (features,) = embedded.vectors.values()
        logits = np.asarray(features @ self.weight.T + self.bias, np.float32)
        self.ctx.facts.update(
            predict_tokens=embedded.tokens,
            predict_seconds=time.monotonic() - started + embedded.cached_seconds,
            predict_cached=embedded.cached,
            predict_cached_seconds=embedded.cached_seconds,
            truncated_share=embedded.truncated,
            truncation_side=self.config.truncation_side,
        )
        return Scores(logits=logits)

    def save(self, directory: Path) -> None:
        """Write the head and how embeddings were made; the base's weights are not copied.

        From here on texts are embedded afresh: what is compared with a reload is the model, not what was kept of it.
        """
        from safetensors.numpy import save_file

        embedder = self._ready()
        embedder.identity = ""
        save_file({"weight": np.ascontiguousarray(self.weight), "bias": self.bias}, directory / HEAD)
        reading = {name: getattr(embedder, name) for name in ("pooling", "normalize", "bidirectional")}
        (directory / SETTINGS).write_text(json.dumps({"layer": self.layer, **reading}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, config: FrozenConfig, ctx: RunContext) -> Frozen:
        """Read what ``save`` wrote. What is opened again embeds by itself: no cache stands for the model.

        Raises:
            ModelError: the head or the settings are missing, cut short, or belong to another model or other labels.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from evalsuite.llm.reading.layers import keep_layers

        method = cls(config, ctx)
        embedder = method._load_base()
        try:
            settings = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
            head = load_file(directory / HEAD)
            method.weight, method.bias = head["weight"], head["bias"]
            method.layer = settings["layer"]
            embedder.pooling, embedder.normalize = settings["pooling"], settings["normalize"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"cannot read {HEAD} and {SETTINGS} in {directory}: {error}; train it again") from error
        if method.weight.shape != (len(ctx.labels), embedder.width):
            raise ModelError(
                f"{directory / HEAD} holds a head of shape {method.weight.shape}, expected {len(ctx.labels)} labels by"
                f" {embedder.width} dimensions of {config.model}; train it again"
            )
        if method.layer is not None:
            keep_layers(embedder.backbone, method.layer)
        method._report()
        return method

    def card_snippet(self) -> str:
        """Python that classifies a text with the saved head, transformers and safetensors alone."""
        from evalsuite.llm.export.frozen_snippet import frozen_snippet

        return frozen_snippet(self._ready(), self.config, self.layer)

    def exports(self, dtype: str) -> Exports:
        """What can be written of the model for plain libraries, by kind."""
        from evalsuite.llm.export.formats import embedder_exports

        return embedder_exports(self._ready(), (self.weight, self.bias), self.config, dtype, self.layer)

    def _load_base(self) -> Embedder:
        from evalsuite.llm.embedder import Embedder
        from evalsuite.llm.loading.backbone import load_base_model

        backbone = load_base_model(self.config, self.ctx.device)
        self._embedder = Embedder(backbone, self.ctx, self.config, bidirectional=self.config.bidirectional)
        if self.config.pooling != "auto":
            self._embedder.pooling = self.config.pooling
        self._embedder.normalize = bool(self.config.normalize)
        return self._embedder

    def _read_sentence_files(self) -> None:
        from evalsuite.llm.reading.sentence import sentence_pooling

        embedder, found = self._ready(), sentence_pooling(self.config)
        if found is not None:
            embedder.pooling = found.pooling
            embedder.normalize = found.normalize if self.config.normalize is None else self.config.normalize

    def _ready(self) -> Embedder:
        if self._embedder is None:
            raise ModelError("the frozen method has no model yet; call fit or load first")
        return self._embedder

    def _embed(self, title: str, examples: Sequence[Example], layers: Sequence[int] = ()) -> Embedded:
        with self.ctx.progress.bar(title, len(examples)) as count:
            return self._ready().embed([example.text for example in examples], layers, count)

    def _drop_layers(self, asked: int | str, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Drop the layers above the one that is asked for; "auto": the one whose head does best on validation."""
        from evalsuite.llm.reading.layers import best_layer, candidate_layers, drop_layers

        embedder, timed = self._ready(), [example.text for example in train[:TIMED]]

        def features(examples: Sequence[Example], layers: Sequence[int]) -> Mapping[int, Floats]:
            return self._embed("embedding by every layer", examples, layers).vectors

        if isinstance(asked, int):
            self.layer = asked
        else:
            layers = candidate_layers(embedder.backbone.model)
            self.layer = best_layer(layers, features, self.ctx, train, validation, most=LAYER_MOST, intercept=True)
        drop_layers(embedder.backbone, self.layer, self.ctx, lambda: embedder.compute(timed))

    def _report(self) -> None:
        from evalsuite.llm.training.footprint import model_facts

        embedder, head = self._ready(), self.weight.size + self.bias.size
        facts = model_facts(embedder.backbone, self.config)
        self.ctx.facts.update(
            facts,
            trainable_parameters=head,
            total_parameters=facts["total_parameters"] + head,
            pooling=embedder.pooling,
            normalize=embedder.normalize,
            bidirectional=embedder.bidirectional or embedder.encoder,
        )


def preflight(config: FrozenConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Memory in bytes, worked out from the model's shape before anything is loaded.

    Raises:
        ModelError: a model that is absent or gated.
        OptionError: a layer that the model does not have.
    """
    from evalsuite.llm.loading.source import check_available
    from evalsuite.llm.training.footprint import estimate_inference

    check_available(config)
    return estimate_inference(config, config.token_budget, ctx.device)


@hookimpl
def evalsuite_register_methods() -> list[MethodSpec]:
    """The frozen method."""
    return [
        MethodSpec(
            name="frozen",
            build=Frozen,
            load=Frozen.load,
            config=FrozenConfig,
            needs=frozenset({"model", "template"}),
            description="logistic regression on embeddings of a model whose weights stay as they are",
            preflight=preflight,
        )
    ]
