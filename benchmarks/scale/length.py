"""Cost against the length of documents: training steps and prediction of both families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.scale.making import LABELS, embedding, instruction, labelled, long_texts, model_folder
from benchmarks.scale.measuring import Curve, Done, Inputs, Stage

MODEL = (4, 256)  # layers, width
DOCUMENTS = 2  # of one step and of one prediction: one micro-batch at every length


def options(size: int) -> dict[str, Any]:
    """Every document is cut to ``size`` tokens, prompt and answer included, and a step is one micro-batch."""
    return {"max_length": size, "batch_size": DOCUMENTS, "token_budget": DOCUMENTS * (size + 16)}


def training(make: Callable[..., Any], size: int, inputs: Inputs, **more: Any) -> Callable[[], Done]:
    """Two steps: the seconds of one."""
    model = model_folder(inputs, *MODEL)
    documents = list(labelled(long_texts(2 * DOCUMENTS, size), len(LABELS)))

    def work() -> Done:
        method = make(model, **options(size), **more)
        method.fit(documents, [])
        return Done(method.ctx.facts["train_seconds"] / 2, {"tokens": method.ctx.facts["train_tokens"] / 2})

    return work


def train_embedding(size: int, inputs: Inputs) -> Callable[[], Any]:
    """One step of the embedding head with its adapter."""
    return training(embedding, size, inputs)


def train_recomputing(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The same step, activations computed again in the backward pass."""
    return training(embedding, size, inputs, gradient_checkpointing=True)


def train_instruction(size: int, inputs: Inputs) -> Callable[[], Any]:
    """One step of the instruction model."""
    return training(instruction, size, inputs)


def predict_embedding(size: int, inputs: Inputs) -> Callable[[], Any]:
    """Logits of 2 documents."""
    method = embedding(model_folder(inputs, *MODEL), **options(size))
    texts = long_texts(DOCUMENTS, size)
    method.fit(list(labelled(texts, len(LABELS))), [])
    return lambda: method.predict(texts)


def score_labels(size: int, inputs: Inputs) -> Callable[[], Any]:
    """The log-likelihood of 4 labels after 2 prompts, in one pass."""
    method = instruction(model_folder(inputs, *MODEL), **options(size))
    texts = long_texts(DOCUMENTS, size)
    return lambda: method.predict(texts)


CURVE = Curve(
    name="length",
    unit="tokens",
    fixed=f"{DOCUMENTS} documents in one micro-batch, a Llama of {MODEL[0]} layers, width {MODEL[1]}, random weights",
    sizes=(64, 128, 256, 512, 1024, 2048),
    small=(64, 128),
    stages=(
        Stage("train embedding, a step", train_embedding),
        Stage("the same, activations recomputed", train_recomputing),
        Stage("train instruction, a step", train_instruction),
        Stage("predict with embedding", predict_embedding),
        Stage("score 4 labels", score_labels),
    ),
)
