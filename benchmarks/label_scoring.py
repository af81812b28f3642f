"""Row 1: log-likelihoods of every label's answer, beside lm-eval.

Work: a decoder of 8 layers, width 384 and the bundled tokenizer's vocabulary of 8,192 (Llama's form, random weights,
float32) scores every label, end mark included, after every prompt of the template set "listed", which names the labels
before the document. 1a: 48 news items, 4 labels; 1b: 8 patent abstracts, 14 labels; 1c: 2 questions to a bank, 77
labels, so few because the peer takes so long. Both sides get the same token ids; the model is loaded before.

Peer: lm-eval's ``HFLM._loglikelihood_tokens``, what ``loglikelihood`` calls once it has tokenised, with the fastest of
several batch sizes. It sorts by length, and prompts share a pass where continuations differ in their last token alone.

Compared: every log-likelihood, and the likeliest label of every prompt; and that lm-eval's own tokeniser cuts prompt
and answer where these ids do.

Floor: the multiply-adds of one pass over what prompts share, the rest of each, and the tree of its answers, with logits
at the tree alone, at the rate of this machine's matrix product.

    python -m benchmarks.label_scoring --data DIR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.commands import main
from benchmarks.floors import forward_flops, matmul_floor
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import llama
from benchmarks.label_prompts import read_prompts, write_prompts

OURS, PEER = "evalsuite", "lm-eval, best batch size"
NATS = 1e-3


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """The same log-likelihoods, the same likeliest label, and the same token ids."""
    ours, theirs = outputs[OURS]["scores"], outputs[PEER]["scores"]
    apart = float(np.abs(ours - theirs).max())
    same = float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    recut = float(outputs[PEER]["cut_otherwise"])
    return [
        Check("largest difference of a log-likelihood, nats", apart, NATS, apart <= NATS),
        Check("share of prompts with the same likeliest label", same, 0.999, same >= 0.999),
        Check("prompts and answers that lm-eval cuts into other tokens", recut, 0, recut == 0),
    ]


def floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
    """See the module."""
    from transformers import AutoConfig

    from evalsuite.llm.label_tree import build_tree
    from evalsuite.llm.prefix import common_length

    config, found = AutoConfig.from_pretrained(job / "model"), read_prompts(job)
    nodes, shared = len(build_tree(found["answer_ids"]).tokens), common_length(found["ids"])
    flops = forward_flops(config, [shared])
    for ids in found["ids"]:
        own = len(ids) - shared
        flops += forward_flops(config, [own], context=shared)
        flops += forward_flops(config, [1] * nodes, context=len(ids), logits=nodes + 1)
    return matmul_floor(flops)


def case(name: str, work: str, corpus: str, count: int, target: float, batch_sizes: Sequence[int]) -> Case:
    """One corpus beside the best of ``batch_sizes``."""

    def prepare(job: Path, options: Options) -> None:
        model = llama(job / "model", layers=2 if options.small else 8, width=64 if options.small else 384)
        write_prompts(job, corpus, 4 if options.small else count, options, model)

    ours = Side(OURS, "benchmarks.ours.label_scoring")
    return Case(
        name=name,
        work=work,
        prepare=prepare,
        sides=[
            ours,
            Side(
                PEER,
                "benchmarks.peers.lm_eval_scoring",
                peer=True,
                tries=[{"batch_size": size} for size in batch_sizes],
            ),
            with_torchs_products(ours),
        ],
        targets={PEER: target},
        check=check,
        floor=floor,
    )


CASES = [
    case("1a", "log-likelihoods of 4 labels after news items", "ag_news", 48, 5, (1, 4, 16)),
    case("1b", "log-likelihoods of 14 labels after patent abstracts", "patents", 8, 10, (1, 4, 16)),
    case("1c", "log-likelihoods of 77 labels, listed in every prompt", "banking77", 2, 40, (1, 4)),
]

if __name__ == "__main__":
    main(CASES)
