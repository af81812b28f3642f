"""Row 1: log-likelihoods of every label's answer, beside lm-eval.

Work: a decoder of 8 layers, width 384 and the bundled tokenizer's vocabulary of 8,192 (Llama's form, random weights,
float32) scores every label, end mark included, after every prompt of the template set "listed", which names the labels
before the document. 1a: 48 news items, 4 labels; 1b: 8 patent abstracts, 14 labels; 1c: 2 questions to a bank, 77
labels, so few because the peer takes so long. 1-many is there for its check: 1,000 news items by the bundled model,
4 layers of width 192. Both sides get the same token ids; the model is loaded before.

Peer: lm-eval's ``HFLM._loglikelihood_tokens``, what ``loglikelihood`` calls once it has tokenised, with the fastest of
several batch sizes. It sorts by length, and prompts share a pass where continuations differ in their last token alone.

Compared: every log-likelihood, and the likeliest label of every prompt; and that lm-eval's own tokeniser cuts prompt
and answer where these ids do.

Floor: the multiply-adds of one pass over what prompts share, the rest of each, and the tree of its answers, with logits
at the tree alone, at the rate of this machine's matrix product.

    python -m benchmarks.label_scoring --data DIR
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.agreement import BFLOAT16, same_labels
from benchmarks.commands import main
from benchmarks.floors import forward_flops, matmul_floor, reading_flops
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import own_decoder
from benchmarks.label_prompts import read_prompts, write_prompts

OURS, PEER = "evalsuite", "lm-eval, best batch size"
NATS = 1e-3
ROUNDED_NATS = 0.1  # of two orders of summation in bfloat16; the scorer holds its own passes to the same


def check(job: Path, outputs: Mapping[str, Outputs], dtype: str = "float32") -> list[Check]:
    """The same log-likelihoods, the same likeliest label, and the same token ids.

    In bfloat16 lm-eval rounds a token's log-likelihood and an answer's sum as well: each moves by up to half of 2^-7 of
    its size. Labels must then be the same but where that much decides between two.
    """
    ours, theirs = outputs[OURS]["scores"], outputs[PEER]["scores"]
    apart, recut = float(np.abs(ours - theirs).max()), float(outputs[PEER]["cut_otherwise"])
    if dtype == "float32":
        limit, what, labels = NATS, "share of prompts with the same likeliest label", same_labels(ours, theirs)
    else:
        limit = ROUNDED_NATS + BFLOAT16 * float(np.abs(theirs).max())
        what = f"share of prompts with the same likeliest label, ties within {2 * limit:.2g} nats aside"
        labels = same_labels(ours, theirs, tie=2 * limit)
    same = float(labels.mean())
    return [
        Check("largest difference of a log-likelihood, nats", apart, limit, apart <= limit),
        Check(what, same, 0.999, same >= 0.999),
        Check("prompts and answers that lm-eval cuts into other tokens", recut, 0, recut == 0),
    ]


def floor(job: Path, outputs: Mapping[str, Outputs], **arithmetic: str) -> Floor:
    """See the module; ``arithmetic``: dtype and device of the product."""
    from transformers import AutoConfig

    from evalsuite.llm.answers.label_tree import build_tree
    from evalsuite.llm.answers.prefix import common_length

    config, found = AutoConfig.from_pretrained(job / "model"), read_prompts(job)
    nodes, shared = len(build_tree(found["answer_ids"]).tokens), common_length(found["ids"])
    flops = reading_flops(config, [shared], wanted=0)
    for ids in found["ids"]:
        flops += reading_flops(config, [len(ids) - shared], context=shared)
        flops += forward_flops(config, [1] * nodes, context=len(ids), logits=nodes + 1)
    return matmul_floor(flops, **arithmetic)


def bundled_model(folder: Path, options: Options) -> Path:
    """A copy of the bundled model, whose likelihoods have been learned."""
    from evalsuite import bundled

    return Path(shutil.copytree(bundled.path(), folder))


def prepare(
    corpus: str, count: int, job: Path, options: Options, model: Callable[[Path, Options], Path] = own_decoder
) -> None:
    """Write the model and the prompts."""
    write_prompts(job, corpus, 4 if options.small else count, options, model(job / "model", options))


def case(
    name: str,
    work: str,
    corpus: str,
    count: int,
    target: float,
    batch_sizes: Sequence[int],
    model: Callable[[Path, Options], Path] = own_decoder,
) -> Case:
    """One corpus beside the best of ``batch_sizes``."""
    ours = Side(OURS, "benchmarks.ours.label_scoring")
    return Case(
        name=name,
        work=work,
        prepare=partial(prepare, corpus, count, model=model),
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
    case("1-many", "log-likelihoods of 4 labels after 1,000 news items", "ag_news", 1000, 5, (16,), bundled_model),
]

if __name__ == "__main__":
    main(CASES)
