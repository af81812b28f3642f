"""A classifier trained with all its weights or with a LoRA adapter: built, saved, read. Encoders keep their own head.

What ``bert`` and the students of ``distill`` share. All weights are saved as ``model/``, an adapter as ``adapter/``;
plain transformers, with peft for an adapter, reads either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evalsuite.contracts import RunContext
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.classifier import TextClassifier
from evalsuite.llm.export.snippets import classifier_snippet, model_snippet
from evalsuite.llm.loading.backbone import DECODER_HEAD, Backbone, load_sequence_classifier, quiet
from evalsuite.llm.loading.source import check_available, read_config
from evalsuite.llm.lora.adapters import attach_adapter, attach_lora, save_adapter, set_sides
from evalsuite.llm.options import FineTuningOptions
from evalsuite.llm.training.footprint import estimate_training

MODEL, ADAPTER = "model", "adapter"


def estimate_fine_tuning(options: FineTuningOptions, ctx: RunContext) -> dict[str, int]:
    """Memory and disk in bytes, worked out from the model's shape before anything is loaded.

    Raises:
        ModelError: a model that is absent or gated, or one whose weights cannot be trained.
        OptionError: 4-bit weights that are to be trained, or a budget that no rank can meet.
    """
    check_available(options)
    if options.adaptation == "lora":
        return estimate_training(options, options, options, ctx.device, labels=len(ctx.labels))
    _refuse_4bit(options)
    return estimate_training(options, None, options, ctx.device, labels=len(ctx.labels))


def build_classifier(options: FineTuningOptions, ctx: RunContext) -> TextClassifier:
    """Load a pretrained model for training; its head is random, so the seed must be set before.

    Raises:
        ModelError: a model that is absent, gated, corrupt, or without a classifier in transformers.
        OptionError: as ``estimate_fine_tuning``.
    """
    whole = options.adaptation == "full"
    if whole:
        _refuse_4bit(options)
    backbone = load_sequence_classifier(options, ctx.labels, ctx.multilabel, ctx.device, all_weights=whole)
    if not whole:
        attach_lora(backbone, options, modules_to_save=backbone.head)
    return _classifier(backbone, options, ctx)


def save_classifier(classifier: TextClassifier, options: FineTuningOptions, directory: Path) -> None:
    """Write ``model/`` or ``adapter/``, each with the tokenizer, which then pads and cuts as was done here."""
    backbone = classifier.backbone
    set_sides(backbone.tokenizer, options.truncation_side)
    if options.adaptation == "lora":
        save_adapter(backbone, directory / ADAPTER)
        return
    backbone.tokenizer.model_max_length = classifier.max_length
    with quiet(bars=False):
        backbone.model.save_pretrained(directory / MODEL)
        backbone.tokenizer.save_pretrained(directory / MODEL)


def read_classifier(directory: Path, options: FineTuningOptions, ctx: RunContext) -> TextClassifier:
    """Load what ``save_classifier`` wrote.

    Raises:
        ModelError: it is missing, cut short, or of another model or other labels.
    """
    if options.adaptation == "lora":
        backbone = load_sequence_classifier(options, ctx.labels, ctx.multilabel, ctx.device)
        attach_adapter(backbone, directory / ADAPTER)
        return _classifier(backbone, options, ctx)
    folder = directory / MODEL
    if not folder.is_dir():
        raise ModelError(f"{folder} is missing; train it again with --overwrite always")
    saved = options.model_copy(update={"model": str(folder)})
    backbone = load_sequence_classifier(saved, ctx.labels, ctx.multilabel, ctx.device, all_weights=True, trained=True)
    return _classifier(backbone, options, ctx)


def fine_tuned_snippet(classifier: TextClassifier, options: FineTuningOptions) -> str:
    """Python that classifies a text with the saved folder and without evalsuite."""
    write = classifier_snippet if options.adaptation == "lora" else model_snippet
    return write(classifier, options)


def _classifier(backbone: Backbone, options: FineTuningOptions, ctx: RunContext) -> TextClassifier:
    pooling: Literal["last", "own"] = "last" if backbone.head == DECODER_HEAD else "own"
    classifier = TextClassifier(backbone, ctx, options, pooling)
    classifier.report()
    return classifier


def _refuse_4bit(options: FineTuningOptions) -> None:
    """Four bits hold a weight that stays as it is; none that learns."""
    if options.load_in_4bit:
        raise OptionError(
            "load_in_4bit=true does not go with adaptation=full: 4-bit weights cannot be trained; use adaptation=lora"
        )
    if getattr(read_config(options), "quantization_config", None) is not None:
        raise ModelError(f"the weights of {options.model} are quantised and cannot be trained; use adaptation=lora")
