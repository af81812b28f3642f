"""Row 4: predicting with the instruction model, beside batched generate and a parser.

Work: a decoder of 8 layers, width 384 (Llama's form, float32) answers prompts of the template set "listed", which names
the labels before the document. It starts from random weights and is taught for some steps to answer in labels and to
end there: one that never ended an answer would make generate write in vain. 4a: 48 news items, 4 labels, every label
scored; 4b: 16 patent abstracts, 14 labels, every label scored; 4c: 32 questions to a bank, 77 labels, written within
the labels (decode=constrained); 4d: 4a with a LoRA adapter (r=8) that is not merged, on both sides. Texts in, labels
out: tokenisation is part of it, the model is loaded before.

Peer: transformers' ``generate``, greedy, left padding, as many new tokens as the longest answer has, the end mark
stops; the fastest of several batch sizes, documents sorted by length; an answer that is no label is invalid.

Compared: invalid answers, of which ours has none; and the labels where the peer's answer is one. Where answers are
written within the labels both sides are greedy and must agree; a label that is likeliest as a whole may differ from the
one whose first token is likeliest, which for an answer of several tokens is another question.

Floor: the multiply-adds of what has to be read (what prompts share once, the rest of each), at the rate of this
machine's matrix product, and nothing for answers.

    python -m benchmarks.instruction_prediction --data DIR
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import main
from benchmarks.floors import forward_flops, matmul_floor, reading_flops
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import own_decoder
from benchmarks.label_prompts import read_prompts, write_prompts

OURS, PEER = "evalsuite", "generate and parse, best batch size"
STEPS = 40  # of teaching, 16 prompts each
END = 24  # tokens of a prompt's end
INVALID = -1  # in place of a label's index


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """No answer of ours is invalid; labels agree where the peer's answer is one."""
    ours, theirs = outputs[OURS]["labels"], outputs[PEER]["labels"]
    invalid, valid = int((ours == INVALID).sum()), theirs != INVALID
    same = float((ours == theirs)[valid].mean()) if valid.any() else 0.0  # without an answer nothing was compared
    least = 0.99 if outputs[OURS]["greedy"] else 0.9
    return [
        Check("our invalid answers", invalid, 0, invalid == 0),
        Check("share of equal labels where the peer's answer is one", same, least, same >= least),
        Check("invalid answers of the peer, for the record", int((~valid).sum()), len(theirs), True),
    ]


def floor(job: Path, outputs: Mapping[str, Outputs], **arithmetic: str) -> Floor:
    """See the module; ``arithmetic``: dtype and device of the product."""
    from transformers import AutoConfig

    from evalsuite.llm.answers.prefix import common_length

    config, ids = AutoConfig.from_pretrained(job / "model"), read_prompts(job)["ids"]
    shared = common_length(ids)
    flops = reading_flops(config, [shared], wanted=0)
    flops += reading_flops(config, [len(one) - shared for one in ids], context=shared)
    flops += forward_flops(config, [], logits=len(ids))
    return matmul_floor(flops, **arithmetic)


def teach(folder: Path, found: Mapping[str, Any], steps: int, device: str = "cpu") -> None:
    """Train a model in place on the very documents it will be asked about, so that it answers, and answers firmly. Of
    the prompts it sees the ends, to be quick.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from evalsuite.llm.batching import to_device
    from evalsuite.llm.reading.logits import answer_batch, answer_losses

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    # a wider model wants smaller steps, in proportion (arXiv 2203.03466)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3 * min(1, 384 / model.config.hidden_size))
    random = np.random.default_rng(0)
    asked = [(ids[-END:], found["answer_ids"][gold]) for ids, gold in zip(found["ids"], found["gold"], strict=True)]
    for _ in range(steps):
        batch = answer_batch([asked[at] for at in random.integers(len(asked), size=16)], model.config.pad_token_id)
        torch.autograd.backward(answer_losses(model, to_device(batch, model.device)).mean())
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def write_adapter(folder: Path, model: Path) -> None:
    """A LoRA adapter on all linear layers, its weights drawn so small that answers stay what they are."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from evalsuite.llm.lora.adapters import with_adapter

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    carrier = with_adapter(base, LoraConfig(r=8, lora_alpha=16, target_modules=layers, task_type="CAUSAL_LM"))
    for name, weight in carrier.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=1e-3)
    carrier.save_pretrained(folder)


def prepare(corpus: str, count: int, adapter: bool, job: Path, options: Options) -> None:
    """Write the row's own decoder, taught to answer, and the prompts; an ``adapter`` on it where asked."""
    model = own_decoder(job / "model", options)
    found = write_prompts(job, corpus, 4 if options.small else count, options, model)
    teach(model, found, 100 if options.small else STEPS)
    if adapter:
        write_adapter(job / "adapter", model)


def case(name: str, work: str, corpus: str, count: int, *, decode: str, adapter: bool = False) -> Case:
    """One corpus, answered by ``decode``."""
    ours = Side(OURS, "benchmarks.ours.instruction_prediction", {"decode": decode})
    return Case(
        name=name,
        work=work,
        prepare=partial(prepare, corpus, count, adapter),
        sides=[
            ours,
            Side(PEER, "benchmarks.peers.generate_and_parse", tries=[{"batch_size": size} for size in (1, 4, 16)]),
            with_torchs_products(ours),
        ],
        targets={PEER: 5},
        check=check,
        floor=floor,
    )


CASES = [
    case("4a", "labels of news items (4) by an instruction model", "ag_news", 48, decode="score"),
    case("4b", "labels of patent abstracts (14) by an instruction model", "patents", 16, decode="score"),
    case("4c", "labels of questions to a bank (77) by an instruction model", "banking77", 32, decode="constrained"),
    case("4d", "as 4a, with an adapter that is not merged", "ag_news", 48, decode="score", adapter=True),
]

if __name__ == "__main__":
    main(CASES)
