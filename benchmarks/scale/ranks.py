"""Cost against the rank of LoRA: a training step, its memory, and the adapter's file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.scale.making import LABELS, embedding, labelled, long_texts, model_folder
from benchmarks.scale.measuring import Curve, Done, Inputs, Stage

MODEL = (4, 256)  # layers, width
DOCUMENTS, LENGTH, STEPS = 8, 256, 3


def trained(size: int, inputs: Inputs, targets: str) -> Callable[[], tuple[Any, Done]]:
    """Train a few steps: the method, and the seconds of one step with the adapter's size."""
    model = model_folder(inputs, *MODEL)
    documents = list(labelled(long_texts(STEPS * DOCUMENTS, LENGTH), len(LABELS)))

    def work() -> tuple[Any, Done]:
        method = embedding(
            model, lora_r=size, lora_targets=targets, max_length=LENGTH, batch_size=DOCUMENTS, token_budget=2048
        )
        method.fit(documents, [])
        facts = method.ctx.facts
        return method, Done(facts["train_seconds"] / STEPS, {"trainable_parameters": facts["trainable_parameters"]})

    return work


def train_all(size: int, inputs: Inputs) -> Callable[[], Any]:
    """A step with an adapter on all linear layers."""
    work = trained(size, inputs, "all-linear")
    return lambda: work()[1]


def train_attention(size: int, inputs: Inputs) -> Callable[[], Any]:
    """A step with an adapter on the attention's layers alone."""
    work = trained(size, inputs, "attention")
    return lambda: work()[1]


def save(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Writing the adapter; its bytes are a figure."""
    method, _ = trained(size, inputs, "all-linear")()
    folder = method.ctx.workdir

    def work() -> Done:
        method.save(folder)
        file = folder / "adapter" / "adapter_model.safetensors"
        return Done(figures={"adapter_bytes": file.stat().st_size})

    return work


CURVE = Curve(
    name="ranks",
    unit="LoRA rank",
    fixed=f"{DOCUMENTS} documents of {LENGTH} tokens a step, a Llama of {MODEL[0]} layers, width {MODEL[1]}",
    sizes=(4, 8, 16, 32, 64, 128, 256),
    small=(4, 8),
    stages=(
        Stage("train a step, all linear layers", train_all),
        Stage("train a step, attention", train_attention),
        Stage("save the adapter", save),
    ),
)
