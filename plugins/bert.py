"""The bert method: an encoder with its own classification head, trained with all its weights or with LoRA.

The way of Devlin et al. (BERT, arXiv 1810.04805), here with any encoder: ModernBERT by default, BERT, RoBERTa, MiniLM.
The head is what transformers puts on that encoder, so that plain transformers loads the result. Single-label tasks
train with cross-entropy, multi-label ones with binary cross-entropy a label.

Shapes: n documents, k labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.contracts import Example, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import FineTuningOptions
from evalsuite.metrics import one_hot

if TYPE_CHECKING:
    from evalsuite.llm.classifier import TextClassifier
    from evalsuite.llm.export.formats import Exports


class BertConfig(FineTuningOptions):
    """Options of the bert method."""


class Bert:
    """An encoder that classifies."""

    def __init__(self, config: BertConfig, ctx: RunContext, classifier: TextClassifier | None = None) -> None:
        self.config, self.ctx, self._classifier = config, ctx, classifier

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Train encoder and head; ``validation`` decides which state is kept.

        Raises:
            ModelError: the model is no encoder.
        """
        from evalsuite.llm.adaptation import build_classifier
        from evalsuite.llm.training.loop import train as run
        from evalsuite.llm.training.losses import ClassificationLoss
        from evalsuite.llm.training.seeding import seed_everything

        require_encoder(self.config)
        seed_everything(self.ctx.seed)  # before the model is built: the head is drawn then
        classifier = self._classifier = build_classifier(self.config, self.ctx)
        loss = ClassificationLoss(self.config, one_hot(train, len(self.ctx.labels)), self.ctx.multilabel)
        objective = classifier.objective(
            classifier.encode([example.text for example in train]),
            {"targets": classifier.targets(train)},
            lambda logits, batch: loss(logits, batch["targets"]),
            validation,
            [example.id for example in train],
        )
        run(classifier.backbone, objective, self.config, self.ctx)

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits, float32 [n, k], in the order of ``texts``."""
        return self._ready().predict(texts)

    def save(self, directory: Path) -> None:
        """Write ``model/``, all weights, or ``adapter/``, a peft adapter with the head in it."""
        from evalsuite.llm.adaptation import save_classifier

        save_classifier(self._ready(), self.config, directory)

    @classmethod
    def load(cls, directory: Path, config: BertConfig, ctx: RunContext) -> Bert:
        """Read what ``save`` wrote.

        Raises:
            ModelError: it is missing, cut short, or of another model or other labels.
        """
        from evalsuite.llm.adaptation import read_classifier

        return cls(config, ctx, read_classifier(directory, config, ctx))

    def card_snippet(self) -> str:
        """Python that classifies a text with the saved folder, without evalsuite."""
        from evalsuite.llm.adaptation import fine_tuned_snippet

        return fine_tuned_snippet(self._ready(), self.config)

    def exports(self, dtype: str) -> Exports:
        """What can be written of the model for plain libraries, by kind."""
        from evalsuite.llm.export.formats import classifier_exports

        return classifier_exports(self._ready(), self.config, dtype)

    def _ready(self) -> TextClassifier:
        if self._classifier is None:
            raise ModelError("the bert method has no model yet; call fit or load first")
        return self._classifier


def require_encoder(config: BertConfig) -> None:
    """Refuse a model that reads a text from one side only. Raises: ModelError."""
    from evalsuite.llm.loading.backbone import DECODER_HEAD, classification_head
    from evalsuite.llm.loading.source import read_config

    shape = read_config(config)
    two_parts = getattr(shape, "is_encoder_decoder", False)
    if two_parts or getattr(shape, "is_decoder", False) or classification_head(config) == DECODER_HEAD:
        kind = "an encoder with a decoder" if two_parts else "a decoder"
        raise ModelError(
            f"bert needs an encoder, and {config.model} ({shape.model_type}) is {kind}; use method 'embedding' for a"
            " decoder, or an encoder such as answerdotai/ModernBERT-base"
        )


def preflight(config: BertConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Memory and disk in bytes, worked out from the model's shape before anything is loaded.

    Raises:
        ModelError: a model that is absent, gated, or no encoder.
        OptionError: 4-bit weights that are to be trained, or a budget that no rank can meet.
    """
    from evalsuite.llm.adaptation import estimate_fine_tuning

    require_encoder(config)
    return estimate_fine_tuning(config, ctx)


@hookimpl
def evalsuite_register_methods() -> list[MethodSpec]:
    """The bert method."""
    return [
        MethodSpec(
            name="bert",
            build=Bert,
            load=Bert.load,
            config=BertConfig,
            needs=frozenset({"model"}),
            description="an encoder with its own head, all weights or LoRA",
            preflight=preflight,
        )
    ]
