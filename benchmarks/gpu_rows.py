"""Rows 1 to 6 on a GPU, in bfloat16: shapes of Llama-3.2 with random weights, up to 512 tokens, of mixed length.

Each case is its row once more, with the row's own sides and check; what differs is said here.

- 1-gpu, 2-gpu, 4-gpu, 5-gpu: the shape of Llama-3.2-1B; 3b: of Llama-3.2-3B; 6-gpu: all-MiniLM-L6-v2.
- Batches that a peer may choose from go up to 256 texts; those that do not fit into the memory are out.
- Training is without dropout, so that curves can be compared: its masks are other ones on each side.
- Checks allow what bfloat16 rounds (see each row's ``check``), and no more: labels are the same but where rounding
  decides between two, parameters, tokens and steps are the same to the last one. After training, weights are not
  compared.

A ``--small`` try is of a tiny shape in the same precision, on the CPU where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    embedding_prediction,
    embedding_training,
    frozen_embeddings,
    instruction_prediction,
    instruction_training,
    label_scoring,
)
from benchmarks.harness import Case, Options, Side
from benchmarks.inputs import llama
from benchmarks.label_prompts import write_prompts
from evalsuite.llm.loading.shapes import write_shape

SMALLER, LARGER = "llama-3.2-1b", "llama-3.2-3b"
DTYPE = "bfloat16"
DOCUMENTS, LONGEST = 256, 512  # tokens of a document, its prompt included
TEXTS = 8000  # of row 6, whose model is small
BATCHES: list[Mapping[str, Any]] = [{"batch_size": size} for size in (8, 16, 32, 64, 128, 256)]
STEP = 16  # documents, of row 2
TEACHING = 100  # steps, 16 prompts each


def write_model(shape: str, folder: Path, options: Options) -> Path:
    """A decoder of a shape with random weights; in a small try a tiny one, with more tokens than its tokenizer too."""
    if options.small:
        return llama(folder, layers=2, width=64, vocabulary=16_384, tie_word_embeddings=True)
    return write_shape(shape, folder, weights=True)


def cases(device: str, small: bool = False) -> list[Case]:
    """Every row on a device; in a small try peers choose between the last two of their settings."""
    rows = [build(device) for build in (scoring, classifying, tuning, answering, predicting, embedding)]
    if not small:
        return rows
    return [replace(row, sides=[replace(side, tries=side.tries[-2:]) for side in row.sides]) for row in rows]


def scoring(device: str) -> Case:
    """Row 1: patent abstracts, 14 labels that are listed in the prompt."""
    row, where = label_scoring, {"device": device, "dtype": DTYPE}
    return Case(
        name="1-gpu",
        work="log-likelihoods of 14 labels after patent abstracts, shape of Llama-3.2-1B, bfloat16",
        prepare=partial(row.prepare, "patents", DOCUMENTS, model=shaped(SMALLER)),
        sides=[
            Side(row.OURS, "benchmarks.ours.label_scoring", where),
            Side(row.PEER, "benchmarks.peers.lm_eval_scoring", where, peer=True, tries=BATCHES),
        ],
        targets={row.PEER: 10},
        check=partial(row.check, dtype=DTYPE),
        floor=partial(row.floor, device=device, dtype=DTYPE),
    )


def classifying(device: str) -> Case:
    """Row 2: the embedding head with LoRA, 16 documents a step."""
    row, peer, where = embedding_training, "benchmarks.peers.trainer_classifier", {"device": device, "dtype": DTYPE}
    settings = {**where, "batch_size": STEP, "learning_rate": 2e-4, "dropout": 0.0}
    return Case(
        name="2-gpu",
        work="training the embedding head, LoRA r=8, shape of Llama-3.2-1B, bfloat16, 30 to 512 tokens a document",
        prepare=partial(row.prepare, model=shaped(SMALLER), count=DOCUMENTS, step=STEP),
        sides=[
            Side(row.OURS, "benchmarks.ours.embedding_training", settings),
            Side(row.DEFAULTS, peer, {**settings, "device_batch": STEP, "defaults": True}),
            Side(row.BEST, peer, settings, tries=[{"device_batch": size} for size in (2, 4, 8, 16)]),
        ],
        targets={row.DEFAULTS: 2, row.BEST: 1.15},
        check=partial(row.check, exact=True, dtype=DTYPE),
        floor=partial(row.floor, device=device, dtype=DTYPE),
    )


def tuning(device: str) -> Case:
    """Row 3: the instruction model with LoRA, beside TRL."""
    row, peer, where = instruction_training, "benchmarks.peers.trl_sft", {"device": device, "dtype": DTYPE}
    settings = {**where, "batch_size": row.STEP, "learning_rate": 2e-4}
    tries: list[Mapping[str, Any]] = [{"device_batch": size} for size in (1, 2, 4, 8)]
    return Case(
        name="3b",
        work="instruction tuning, loss on the answer, shape of Llama-3.2-3B, bfloat16, 30 to 512 tokens a document",
        prepare=partial(row.prepare, model=shaped(LARGER), count=DOCUMENTS),
        sides=[
            Side(row.OURS, "benchmarks.ours.instruction_training", {**settings, "token_budget": 8192}),
            Side(row.DEFAULTS, peer, {**settings, "device_batch": row.STEP, "defaults": True}, peer=True),
            Side(row.BEST, peer, settings, peer=True, tries=[*tries, {"device_batch": 8, "padding_free": True}]),
        ],
        targets={row.DEFAULTS: 1.5, row.BEST: 1.15},
        memory={row.DEFAULTS: 0.8, row.BEST: 0.8},
        check=row.check_bfloat16,
        floor=partial(row.floor, device=device, dtype=DTYPE),
    )


def answering(device: str) -> Case:
    """Row 4: every one of 14 labels scored, beside text that is written; the model is taught on the device."""
    row, where = instruction_prediction, {"device": device, "dtype": DTYPE}

    def prepare(job: Path, options: Options) -> None:
        model = write_model(SMALLER, job / "model", options)
        asked = write_prompts(job, "patents", 4 if options.small else DOCUMENTS, options, model)
        row.teach(model, asked, TEACHING, device)

    return Case(
        name="4-gpu",
        work="labels of patent abstracts (14) by an instruction model, shape of Llama-3.2-1B, bfloat16",
        prepare=prepare,
        sides=[
            Side(row.OURS, "benchmarks.ours.instruction_prediction", {**where, "decode": "score"}),
            Side(row.PEER, "benchmarks.peers.generate_and_parse", where, tries=BATCHES),
        ],
        targets={row.PEER: 5},
        check=row.check,
        floor=partial(row.floor, device=device, dtype=DTYPE),
    )


def predicting(device: str) -> Case:
    """Row 5: class logits of patent abstracts."""
    row, peer = embedding_prediction, "benchmarks.peers.classification_pipeline"
    where = {"device": device, "dtype": DTYPE}
    return Case(
        name="5-gpu",
        work=f"predicting with the embedding model, {DOCUMENTS} patents, shape of Llama-3.2-1B, bfloat16",
        prepare=partial(row.prepare, "patents", DOCUMENTS, shaped(SMALLER), device=device, dtype=DTYPE),
        sides=[
            Side(row.OURS, "benchmarks.ours.embedding_prediction", where),
            Side(row.DEFAULTS, peer, where),
            Side(row.BEST, peer, where, tries=[{"batch_size": 1}, *BATCHES]),
        ],
        targets={row.DEFAULTS: 3, row.BEST: 1.3},
        check=partial(row.check, dtype=DTYPE),
        floor=partial(row.floor, device=device, dtype=DTYPE),
    )


def embedding(device: str) -> Case:
    """Row 6: embeddings that no cache has yet; texts are read to 512 tokens, all the positions that the model has."""
    row, where = frozen_embeddings, {"device": device, "dtype": DTYPE}
    settings = {**where, "max_length": LONGEST}
    return Case(
        name="6-gpu",
        work=f"embeddings of {TEXTS:,} texts of mixed length by MiniLM, bfloat16",
        prepare=partial(row.prepare, count=TEXTS),
        sides=[
            Side(row.OURS, "benchmarks.ours.frozen_embeddings", {**settings, "cached": False}),
            Side(row.PEER, "benchmarks.peers.sentence_encoding", settings, peer=True, tries=BATCHES),
        ],
        targets={row.PEER: 1.2},
        check=partial(row.check, dtype=DTYPE),
        floor=partial(row.floor, device=device, dtype=DTYPE),
    )


def shaped(shape: str) -> Callable[[Path, Options], Path]:
    """What writes a model of this shape."""
    return partial(write_model, shape)
