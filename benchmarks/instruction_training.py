"""Row 3: instruction tuning with a loss on the answers alone, beside TRL's SFTTrainer.

Work: one epoch of LoRA (r = 8, all linear layers) on prompts of 30 to 512 tokens (patent abstracts, answered by their
class), a model of Llama's shape with 128,256 tokens in its vocabulary, float32, random weights. Both sides read the
same token ids and begin with the same adapter; 8 documents are one step of AdamW at a constant rate, unclipped.

Peer: TRL's ``SFTTrainer`` on the same prompts and completions. Its defaults: batches as they come, activations
recomputed. Its best: documents of like length together, in the very steps that evalsuite takes, nothing recomputed,
the fastest of several batches a device with accumulation up to the same step, with padding and without; larger batches
take longer (8 documents at once nearly twice as long). On a CPU its loss makes logits for every position, in tiles;
that is not a setting, nor is another way there.

Compared: the loss of every step, the adapters after the last one, the parameters trained and the tokens read. All
answers have the same number of tokens a, so that TRL's mean over tokens is evalsuite's sum a document over a.
TRL's defaults see the documents in another order: their adapter is compared by the loss it leaves.

Floor: the multiply-adds that a gradient cannot do without (``training_flops``) at the rate of this machine's matrix
product.

    python -m benchmarks.instruction_training --data DIR
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.commands import main
from benchmarks.floors import matmul_floor, training_flops
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import documents, own_decoder

DOCUMENTS, STEP = 16, 8
SHORTEST, LONGEST = 30, 512  # tokens of a prompt
OURS, DEFAULTS, BEST = "evalsuite", "TRL, its defaults", "TRL, its best"


def own_model(folder: Path, options: Options) -> Path:
    """The row's own decoder."""
    vocabulary = None if options.small else 128_256
    return own_decoder(folder, options, vocabulary=vocabulary, tie_word_embeddings=True)


def prepare(
    job: Path, options: Options, model: Callable[[Path, Options], Path] = own_model, count: int = DOCUMENTS
) -> None:
    """Write the model, the first adapter, and the documents as token ids with the steps that evalsuite takes."""
    model(job / "model", options)
    write_items(job, options, 2 * STEP if options.small else count, 64 if options.small else LONGEST)
    write_adapter(job)


def write_items(job: Path, options: Options, count: int, longest: int) -> None:
    """``items.json``: [prompt, answer] as token ids; ``steps.json``: indices of the documents of every step."""
    from transformers import AutoTokenizer

    from evalsuite.llm.batching import steps_of_epoch
    from evalsuite.prompts import PromptEncoder, load_prompts

    found = documents("patents", 3 * count, options.data)
    labels = sorted({document.label for document in found})
    prompts = load_prompts("plain", task="patents", labels=labels, multilabel=False, descriptions={}, search=[])
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(job / "model"), prompts)
    answers = [encoder.answer_ids((labels.index(document.label),)) for document in found]
    usual = Counter(map(len, answers)).most_common(1)[0][0]
    random = Random(0)
    items: list[tuple[list[int], list[int]]] = []
    for at, answer in enumerate(answers):
        if len(answer) == usual and len(items) < count:
            text = " ".join(found[(at + more) % len(found)].text for more in range(4))
            length = round(SHORTEST * (longest / SHORTEST) ** random.random())
            items.append((encoder.prompt_ids(text, max_length=length)[0], answer))
    steps = steps_of_epoch([len(prompt) + len(answer) for prompt, answer in items], STEP, seed=0, epoch=0)
    (job / "items.json").write_text(json.dumps(items), encoding="utf-8")
    (job / "steps.json").write_text(json.dumps(steps), encoding="utf-8")


def write_adapter(job: Path) -> None:
    """``adapter/``: LoRA as both sides begin with it, without dropout."""
    import torch

    from evalsuite.llm.loading.backbone import load_causal_lm
    from evalsuite.llm.lora.adapters import attach_lora, save_adapter
    from evalsuite.llm.options import LoraOptions, ModelOptions

    backbone = load_causal_lm(ModelOptions(model=str(job / "model")), "cpu")
    torch.manual_seed(0)
    attach_lora(backbone, LoraOptions(lora_r=8, lora_alpha=16, lora_dropout=0.0))
    save_adapter(backbone, job / "adapter")


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """The same curve and the same adapter as TRL's best; as its defaults, whose steps differ, the same progress."""
    ours, best, defaults = outputs[OURS], outputs[BEST], outputs[DEFAULTS]
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    curve = largest_step(items, ours, best)
    moved = ours["adapter"] - ours["first"]
    apart = float(np.linalg.norm(ours["adapter"] - best["adapter"]) / np.linalg.norm(moved))
    first, left, theirs = (
        mean_loss(job, items[:STEP], adapter) for adapter in (ours["first"], ours["adapter"], defaults["adapter"])
    )
    found = [
        Check("largest difference of a step's loss, nats a token", curve, 1e-3, curve <= 1e-3),
        Check("distance of the trained adapters over the way they went", apart, 0.05, apart <= 0.05),
        Check(
            f"loss of a document with TRL's defaults over that with ours (first {first:.3f} nats, ours {left:.3f})",
            theirs / left,
            1.05,
            0.95 <= theirs / left <= 1.05,
        ),
    ]
    return [*found, *same_amounts(outputs)]


def check_bfloat16(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """As ``check``, of what rounding leaves comparable.

    A token's logits are off by about 1% in bfloat16, and a step's loss is a mean over some. The adapters are not
    compared: AdamW's first steps have the gradient's sign, which rounding turns where it is near 0. What TRL's defaults
    learnt is seen from the loss of the epoch, read in another order.
    """
    ours, best, defaults = outputs[OURS], outputs[BEST], outputs[DEFAULTS]
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    curve = largest_step(items, ours, best)
    epoch = abs(float(ours["losses"].mean() / len(items[0][1]) - defaults["losses"].mean()))
    return [
        Check("largest difference of a step's loss, nats a token", curve, 0.05, curve <= 0.05),
        Check("difference of the epoch's loss with TRL's defaults, nats a token", epoch, 0.3, epoch <= 0.3),
        *same_amounts(outputs),
    ]


def largest_step(items: list[list[list[int]]], ours: Outputs, best: Outputs) -> float:
    """The largest difference of a step's loss, nats a token of the answers, which are all of one length."""
    return float(np.abs(ours["losses"] / len(items[0][1]) - best["losses"]).max())


def same_amounts(outputs: Mapping[str, Outputs]) -> list[Check]:
    """As many parameters trained, tokens read and steps made as both peers."""
    ours, peers = outputs[OURS], (outputs[BEST], outputs[DEFAULTS])
    found = []
    for what in ("parameters", "tokens", "steps"):
        apart = max(abs(int(ours[what]) - int(peer[what])) for peer in peers)
        found.append(Check(f"difference in {what}, of {int(ours[what]):,}", apart, 0, apart == 0))
    return found


def mean_loss(job: Path, items: list[list[list[int]]], adapter: np.ndarray) -> float:
    """Nats a document of these answers under an adapter: plain transformers and peft, one document at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from benchmarks.adapters import fill

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job / "model"), job / "adapter")
    fill(model, adapter)
    total = 0.0
    with torch.no_grad():
        for prompt, answer in items:
            logits = model(input_ids=torch.tensor([[*prompt, *answer]]), logits_to_keep=len(answer) + 1).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(answer), reduction="sum"))
    return total / len(items)


def floor(job: Path, outputs: Mapping[str, Outputs], **arithmetic: str) -> Floor:
    """Every needed multiply-add at the rate of the best matrix product; ``arithmetic``: its dtype and device."""
    from transformers import AutoConfig

    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    lengths = [len(prompt) + len(answer) - 1 for prompt, answer in items]
    flops = training_flops(AutoConfig.from_pretrained(job / "model"), lengths, sum(len(answer) for _, answer in items))
    return matmul_floor(flops, "LoRA training", **arithmetic)


SETTINGS = {"batch_size": STEP, "learning_rate": 1e-3}
OURS_SIDE = Side(OURS, "benchmarks.ours.instruction_training", {**SETTINGS, "token_budget": 256})

CASES = [
    Case(
        name="3a",
        work="instruction tuning, loss on the answer, vocabulary of 128k, 30 to 512 tokens a document",
        prepare=prepare,
        sides=[
            OURS_SIDE,
            Side(DEFAULTS, "benchmarks.peers.trl_sft", {**SETTINGS, "device_batch": STEP, "defaults": True}, peer=True),
            Side(
                BEST,
                "benchmarks.peers.trl_sft",
                SETTINGS,
                peer=True,
                tries=[{"device_batch": 1}, {"device_batch": 2}, {"device_batch": 2, "padding_free": True}],
            ),
            with_torchs_products(OURS_SIDE),
        ],
        targets={DEFAULTS: 15, BEST: 8},
        memory={DEFAULTS: 0.5, BEST: 0.5},
        check=check,
        floor=floor,
    )
]

if __name__ == "__main__":
    main(CASES)
