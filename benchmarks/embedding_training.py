"""Row 2: training the embedding head with LoRA, beside transformers' Trainer.

Work: one epoch of LoRA (r = 8, all linear layers) and a head on the last token, on patents of 30 to 512 tokens, a model
of Llama's shape with random weights, float32. Both sides read the same token ids and begin with the same adapter and
head; 8 documents are one step of AdamW with a cosine rate. Case 2 has the dropout of 0.05 that QLoRA trains with, case
2-exact none.

Peer: transformers' ``Trainer`` on a PeftModel. Its defaults: batches as they come. Its best: documents of like length
together, as ``group_by_length`` would have them in a large corpus: the very steps that evalsuite takes; the fastest of
several batches a device with accumulation up to the same step, and a loss that is right under accumulation.

Compared: the loss of every document before training, the loss of every step beside the best's, the loss of the epoch
beside the defaults', and without dropout the trained weights.

Floor: the multiply-adds that a gradient cannot do without (``training_flops``) at the rate of this machine's matrix
product.

    python -m benchmarks.embedding_training --data DIR
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.commands import main
from benchmarks.floors import matmul_floor, one_token_flops, training_flops, without_top_layer
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import documents, own_decoder

DOCUMENTS, STEP = 64, 8
SHORTEST, LONGEST = 30, 512  # tokens
OURS, DEFAULTS, BEST = "evalsuite", "Trainer, its defaults", "Trainer, its best"


def own_model(folder: Path, options: Options) -> Path:
    """The row's own decoder."""
    return own_decoder(folder, options, tie_word_embeddings=True)


def prepare(
    job: Path,
    options: Options,
    model: Callable[[Path, Options], Path] = own_model,
    count: int = DOCUMENTS,
    step: int = STEP,
) -> None:
    """Write the model, the first adapter with its head, and the documents as token ids with evalsuite's steps."""
    model(job / "model", options)
    write_items(job, options, 2 * step if options.small else count, 64 if options.small else LONGEST, step)
    write_adapter(job)


def write_items(job: Path, options: Options, count: int, longest: int, step: int = STEP) -> None:
    """``items.json``: [token ids, class]; ``steps.json``: indices of every step's documents; ``labels.json``.

    A document ends in a token that only its class has: a model with random weights can learn no more from text.
    """
    from transformers import AutoTokenizer

    from evalsuite.llm.batching import encode, steps_of_epoch

    found = documents("patents", 4 * count, options.data)
    labels = sorted({document.label for document in found})
    texts = [" ".join(one.text for one in found[at : at + 4]) for at in range(0, len(found), 4)]
    random, items = Random(0), []
    for at, ids in enumerate(encode(AutoTokenizer.from_pretrained(job / "model"), texts, longest - 1).ids):
        kind = labels.index(found[4 * at].label)
        length = round(SHORTEST * (longest / SHORTEST) ** random.random())
        items.append(([*ids[: length - 1], 1000 + kind], kind))
    steps = steps_of_epoch([len(ids) for ids, _ in items], step, seed=0, epoch=0)
    for name, content in (("items", items), ("steps", steps), ("labels", labels)):
        (job / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def write_adapter(job: Path) -> None:
    """``adapter/``: LoRA and a random head as both sides begin with them."""
    import torch

    from evalsuite.llm.loading.backbone import load_sequence_classifier
    from evalsuite.llm.lora.adapters import attach_lora, save_adapter
    from evalsuite.llm.options import LoraOptions, ModelOptions

    labels = json.loads((job / "labels.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    backbone = load_sequence_classifier(ModelOptions(model=str(job / "model")), labels, False, "cpu")
    attach_lora(backbone, LoraOptions(lora_r=8, lora_alpha=16), modules_to_save=["score"])
    save_adapter(backbone, job / "adapter")


def check(job: Path, outputs: Mapping[str, Outputs], exact: bool, dtype: str = "float32") -> list[Check]:
    """The same start and the same curve; without dropout (``exact``) the same end.

    In bfloat16 the Trainer's logits are rounded too, by up to 0.016 where they are as large as 4, and a document's loss
    with them; a step's loss is a mean of these. The ends are not compared there: AdamW's first steps have the
    gradient's sign, which rounding turns where it is near 0.
    """
    ours, best, defaults = outputs[OURS], outputs[BEST], outputs[DEFAULTS]
    rounded = dtype != "float32"
    before = max(float(np.abs(ours["before"] - peer["before"]).max()) for peer in (best, defaults))
    start, noise = (0.05, 0.02) if rounded else (1e-4, 1e-3)
    noise = noise if exact else 0.1
    curve = float(np.abs(ours["losses"] - best["losses"]).max())
    epoch = abs(float(ours["losses"].mean() - defaults["losses"].mean()))
    found = [
        Check("largest difference of a document's loss before training, nats", before, start, before <= start),
        Check("largest difference of a step's loss, nats", curve, noise, curve <= noise),
        Check("difference of the epoch's loss with the defaults, nats", epoch, 0.3, epoch <= 0.3),
    ]
    if exact and not rounded:
        way = np.linalg.norm(ours["adapter"] - ours["first"])
        apart = float(np.linalg.norm(ours["adapter"] - best["adapter"]) / way)
        found.append(Check("distance of the trained weights over the way they went", apart, 0.05, apart <= 0.05))
    for what in ("parameters", "steps"):
        apart = max(abs(int(ours[what]) - int(peer[what])) for peer in (best, defaults))
        found.append(Check(f"difference in {what}, of {int(ours[what]):,}", apart, 0, apart == 0))
    return found


def floor(job: Path, outputs: Mapping[str, Outputs], **arithmetic: str) -> Floor:
    """Every needed multiply-add at the rate of the best matrix product; ``arithmetic``: its dtype and device."""
    from transformers import AutoConfig

    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    config, lengths = AutoConfig.from_pretrained(job / "model"), [len(ids) for ids, _ in items]
    # of the last layer one token a document is read; its adapters are left out
    flops = training_flops(without_top_layer(config), lengths, logits=0) + 2 * one_token_flops(config, lengths)
    return matmul_floor(flops, "LoRA training", **arithmetic)


def case(name: str, dropout: float) -> Case:
    """The row with this dropout on the adapter's input."""
    settings = {"batch_size": STEP, "learning_rate": 3e-3, "dropout": dropout}
    peer = "benchmarks.peers.trainer_classifier"
    ours = Side(OURS, "benchmarks.ours.embedding_training", settings)
    return Case(
        name=name,
        work=f"training the embedding head, LoRA r=8, dropout {dropout:g}, 30 to 512 tokens a document",
        prepare=prepare,
        sides=[
            ours,
            Side(DEFAULTS, peer, {**settings, "device_batch": STEP, "defaults": True}),
            Side(BEST, peer, settings, tries=[{"device_batch": size} for size in (1, 2, 4, 8)]),
            with_torchs_products(ours),
        ],
        targets={DEFAULTS: 2, BEST: 1.15},
        check=lambda job, outputs: check(job, outputs, exact=dropout == 0),
        floor=floor,
    )


CASES = [case("2", 0.05), case("2-exact", 0.0)]

if __name__ == "__main__":
    main(CASES)
