"""Options that methods on top of a language model share. A method's config inherits the groups it needs.

Imports no torch, so that the command line can list and check options without it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from evalsuite.errors import nearest
from evalsuite.options import Options, option

QLORA = "QLoRA, arXiv 2305.14314, appendix B.2, and its published qlora.py"
PAPER = "arXiv 2512.12677"
HOUSE = "house default"
FOCAL = "arXiv 1708.02002"
BERT = "BERT, arXiv 1810.04805, appendix A.3, and its published run_classifier.py"
TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
MULTIPLES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


class ModelOptions(Options):
    """Which model, and how it is held in memory."""

    model: str = option("bundled", "hub id, hub id@revision, folder, or 'bundled' (the small model that ships here)")
    load_in_4bit: bool | None = option(
        None, "hold the frozen base in 4-bit NF4, double-quantised; unset: yes on a GPU, no on the CPU", source=QLORA
    )
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "precision of the base; auto: bfloat16 where the device computes in it, else float32", source=HOUSE
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = option(
        "auto", "attention kernel; auto: sdpa where the model allows it, else eager", source=HOUSE
    )
    trust_remote_code: bool = option(False, "run code that the model's repository ships")
    max_length: int = option(
        512, "longest input; the document is cut to fit, never the prompt", unit="tokens", ge=16, source=HOUSE
    )
    truncation_side: Literal["right", "left"] = option("right", "the end of the document that is cut", source=HOUSE)


class LoraOptions(Options):
    """Low-rank adaptation of the base."""

    lora_r: int = option(8, "rank; lora_budget takes its place where both are given", ge=1, source=PAPER)
    lora_budget: int | None = option(
        None,
        "choose the rank whose trainable parameters, head included, come nearest to this: 120000, 500k, 12M, 1.5B",
        unit="parameters",
        ge=1,
        source=HOUSE,
    )
    lora_alpha: float = option(16, "scale: the update is multiplied by alpha / rank", gt=0, source=QLORA)
    lora_dropout: float = option(0.05, "dropout on the adapter's input", ge=0, lt=1, source=QLORA)
    lora_targets: Literal["all-linear", "attention"] = option("all-linear", "layers that get an adapter", source=QLORA)
    use_rslora: bool = option(
        False, "rank-stabilised scale: alpha / sqrt(rank) instead of alpha / rank", source="rsLoRA, arXiv 2312.03732"
    )
    use_dora: bool = option(
        False, "learn length and direction of the weights apart; slower", source="DoRA, arXiv 2402.09353"
    )

    @field_validator("lora_budget", mode="before")
    @classmethod
    def _number_of_parameters(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("expected a number of parameters such as 120000, 500k or 12M")
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmb]?)\s*", value, re.IGNORECASE)
        if found is None:
            raise ValueError(f"{value!r} is no number of parameters; expected one such as 120000, 500k or 12M")
        return round(Decimal(found[1]) * MULTIPLES[found[2].lower()])


class BatchOptions(Options):
    """How much is computed at once; no result depends on it."""

    token_budget: int = option(
        8192, "padded tokens in one micro-batch; cuts a step, never changes it", unit="tokens", ge=16, source=HOUSE
    )


class AnswerOptions(Options):
    """How an answer is had from a model that writes text."""

    decode: Literal["auto", "score", "per_label", "constrained", "free"] = option(
        "auto",
        "how an answer is had: each label scored, asked for yes or no, or text written within the labels or freely; "
        "auto: score for one label a document, constrained otherwise",
        source=HOUSE,
    )
    normalise: Literal["none", "token", "byte"] = option(
        "none", "decode=score: what a label's log-likelihood is divided by, its tokens or its bytes", source=HOUSE
    )
    max_new_tokens: int = option(
        64, "decode=free: where an answer without an end mark is cut", unit="tokens", ge=1, source=HOUSE
    )


class AnsweringOptions(ModelOptions, AnswerOptions, BatchOptions):
    """A model that answers prompts: what ``evalsuite.llm.answering`` needs to know."""


class LossOptions(Options):
    """What a classification head minimises."""

    class_weights: Literal["none", "balanced"] = option(
        "none", "weight of a document's loss; balanced: the inverse of its label's share of train", source=HOUSE
    )
    focal_gamma: float = option(
        0.0, "focal loss: easy documents count less, (1 - p)^gamma; 0: plain cross-entropy", ge=0, source=FOCAL
    )
    label_smoothing: float = option(
        0.0, "share of the target that is spread over all labels", ge=0, lt=1, source="arXiv 1512.00567"
    )


class TrainingOptions(BatchOptions):
    """One optimizer run. A step is exactly ``batch_size`` documents over all processes."""

    epochs: float = option(3, "passes over the training documents", gt=0, source=HOUSE)
    learning_rate: float = option(2e-4, "peak step size of AdamW", gt=0, source=QLORA)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = option(
        16, "documents an optimizer step, over all processes; auto: 16", unit="documents", source=QLORA
    )
    warmup_ratio: float = option(
        0.03, "share of the steps in which the step size rises from 0", ge=0, le=1, source=QLORA
    )
    schedule: Literal["cosine", "linear", "constant"] = option(
        "cosine", "shape of the step size after warm-up", source=HOUSE
    )
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay", ge=0, source=QLORA)
    max_grad_norm: float = option(0.3, "gradients are clipped to this norm", gt=0, source=QLORA)
    evaluations: int = option(
        6,
        "times validation is scored during training; the best state is kept; 0: never, keep the last",
        ge=0,
        source=HOUSE,
    )
    patience: int = option(3, "evaluations without a better score before training stops; 0: never", ge=0, source=HOUSE)
    gradient_checkpointing: bool | None = option(
        None, "recompute activations to save memory; unset: on a GPU only", source=QLORA
    )
    checkpoint_minutes: float = option(
        10, "time between checkpoints", unit="minutes", gt=0, source=HOUSE, identity=False
    )
    report_to: tuple[str, ...] = option(
        (), f"experiment trackers, with commas between: {', '.join(TRACKERS)}", source=HOUSE, identity=False
    )

    def recomputes(self, device: str) -> bool:
        """Whether activations are recomputed on a kind of device, "cpu" or "cuda"."""
        return device == "cuda" if self.gradient_checkpointing is None else self.gradient_checkpointing

    @field_validator("report_to", mode="before")
    @classmethod
    def _known_trackers(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",") if name.strip() not in ("", "none")]
        for name in value or ():
            if name not in TRACKERS:
                raise ValueError(f"unknown tracker {name!r}; {nearest(str(name), TRACKERS)}")
        return tuple(dict.fromkeys(value or ()))

    @property
    def documents_per_step(self) -> int:
        """``batch_size`` as a number: "auto" is QLoRA's 16 everywhere, since memory is the token budget's matter."""
        return 16 if self.batch_size == "auto" else self.batch_size


class FineTuningOptions(ModelOptions, LoraOptions, LossOptions, TrainingOptions):
    """A classifier trained with all its weights or with an adapter; defaults are those of encoders."""

    model: str = option("answerdotai/ModernBERT-base", "hub id, hub id@revision, or folder", source="arXiv 2412.13663")
    adaptation: Literal["full", "lora"] = option("full", "what is trained: all weights, or an adapter", source=BERT)
    learning_rate: float = option(
        5e-5, "peak step size of AdamW; an adapter wants about ten times as much", gt=0, source=BERT
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = option(
        16, "documents an optimizer step, over all processes; auto: 16", unit="documents", source=BERT
    )
    warmup_ratio: float = option(0.1, "share of the steps in which the step size rises from 0", ge=0, le=1, source=BERT)
    schedule: Literal["cosine", "linear", "constant"] = option(
        "linear", "shape of the step size after warm-up", source=BERT
    )
    weight_decay: float = option(0.01, "AdamW's decoupled weight decay", ge=0, source=BERT)
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", gt=0, source=BERT)
    load_in_4bit: bool | None = option(
        None,
        "hold the frozen base of an adapter in 4-bit NF4; unset: where adaptation=lora, yes on a GPU, no on the CPU",
        source=QLORA,
    )

    @property
    def notices(self) -> list[str]:
        """What a reader of a result must know of these options, in sentences."""
        adapter = LoraOptions.model_fields
        idle = [name for name, field in adapter.items() if getattr(self, name) != field.default]
        if self.adaptation == "lora" or not idle:
            return []
        return [f"Options: no effect of {', '.join(idle)}: adaptation=full trains all weights; use adaptation=lora."]
