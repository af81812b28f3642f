"""Row 5: predicting with the embedding model, beside transformers' text-classification pipeline.

Work: class logits of texts, tokenisation included, by a model with a LoRA adapter and a head, float32. Case 5: AG News
and the bundled model (4 layers, width 192). Case 5-long: patents of up to 512 tokens and a model of Llama's shape with
random weights (8 layers, width 384).

Peer: ``pipeline("text-classification")`` on the same model merged into one folder, as ``evalsuite export`` writes it: a
bare adapter it does not load. Its defaults: one text after the other. Its best: the fastest of several batch sizes,
which is all that a pipeline offers; it does not sort by length.

Compared: labels and logits of every text.

Floor: the multiply-adds of the forward pass over real tokens at the rate of this machine's matrix product.

    python -m benchmarks.embedding_prediction --data DIR
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import same_labels
from benchmarks.commands import main
from benchmarks.embedding_training import own_model
from benchmarks.floors import matmul_floor, reading_flops
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import documents, write_documents

LEARNT_ON = 16  # documents; enough to move the adapter
ROUNDED = 0.01  # of what the logits span, in bfloat16; with 16 layers 0.003 was seen
OURS, DEFAULTS, BEST = "evalsuite", "pipeline, its defaults", "pipeline, best batch size"


def prepare(
    corpus: str,
    count: int,
    model: Callable[[Path, Options], Path] | None,
    job: Path,
    options: Options,
    **arithmetic: str,
) -> None:
    """Write the documents, the adapter on its base (``run/``) and the same model merged (``merged/``).

    model: writes the base; None: the bundled one. arithmetic: device and dtype that the adapter is trained in.
    """
    found = documents(corpus, 16 if options.small else count, options.data)
    write_documents(job / "documents.jsonl", found)
    base = "bundled" if model is None else str(model(job / "model", options))
    labels = sorted({document.label for document in found})
    (job / "settings.json").write_text(json.dumps({"model": base, "labels": labels}), encoding="utf-8")
    write_model(job, arithmetic)


def write_model(job: Path, arithmetic: Mapping[str, str]) -> None:
    """Train for two steps, save, and export."""
    from benchmarks.inputs import read_documents
    from benchmarks.ours.embedding_prediction import method_of
    from evalsuite.contracts import Example

    quick: Any = {"learning_rate": 1e-2, "epochs": 1, "batch_size": 8, "head_init": "random", "evaluations": 0}
    method = method_of(job, arithmetic, **quick)
    found = read_documents(job / "documents.jsonl")[:LEARNT_ON]
    labels = method.ctx.labels
    train = [Example(str(at), one.text, (labels.index(one.label),)) for at, one in enumerate(found)]
    method.fit(train, [])
    method.save(job / "run")
    (job / "merged").mkdir()
    method.exports("float32")["merged"](job / "merged")


def check(job: Path, outputs: Mapping[str, Outputs], dtype: str = "float32") -> list[Check]:
    """Every label and every logit.

    In bfloat16 the merged weights are rounded once more, which takes logits apart by less than a percent of what they
    span. A label may then be another only where two logits are nearer than both can be off.
    """
    ours, found = outputs[OURS]["logits"], []
    rounded = dtype != "float32"
    limit = ROUNDED * float(np.ptp(ours)) if rounded else 1e-4
    tie = 2 * limit if rounded else 0.0
    for name in (DEFAULTS, BEST):
        theirs = outputs[name]["logits"]
        apart, other = float(np.abs(ours - theirs).max()), int((~same_labels(ours, theirs, tie)).sum())
        labels = f"other labels, ties within {tie:.2g} aside" if rounded else "other labels"
        found += [
            Check(
                f"{name}: largest difference of a logit (they span {np.ptp(ours):.3g})", apart, limit, apart <= limit
            ),
            Check(f"{name}: {labels}, of {len(ours)}", other, 0, other == 0),
        ]
    return found


def floor(job: Path, outputs: Mapping[str, Outputs], **arithmetic: str) -> Floor:
    """Every multiply-add of the forward pass at the rate of the best matrix product of this dtype and device."""
    from transformers import AutoConfig

    config, lengths = AutoConfig.from_pretrained(job / "merged"), outputs[OURS]["lengths"].tolist()
    # of the last layer one token a document is read
    return matmul_floor(reading_flops(config, lengths), "reading", **arithmetic)


def case(name: str, corpus: str, count: int, own_shape: bool) -> Case:
    """The row on ``count`` documents of a corpus; ``own_shape``: random weights in place of the bundled model."""
    peer = "benchmarks.peers.classification_pipeline"
    ours = Side(OURS, "benchmarks.ours.embedding_prediction")
    return Case(
        name=name,
        work=f"predicting with the embedding model, {count} documents of {corpus}",
        prepare=partial(prepare, corpus, count, own_model if own_shape else None),
        sides=[
            ours,
            Side(DEFAULTS, peer),
            Side(BEST, peer, tries=[{"batch_size": size} for size in (1, 2, 4, 8, 16, 32, 64)]),
            with_torchs_products(ours),
        ],
        targets={DEFAULTS: 3, BEST: 1.3},
        check=check,
        floor=floor,
    )


CASES = [case("5", "ag_news", 500, own_shape=False), case("5-long", "patents", 64, own_shape=True)]

if __name__ == "__main__":
    main(CASES)
