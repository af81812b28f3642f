"""Yes or no to every label of a prompt, as branches of one packed pass: for training as for prediction.

A branch is a question about one label, after which the model says yes or no. Branches follow the prompt with positions
and a mask of their own (see ``label_scoring``): each sees the prompt and itself, so that its answer is the one it would
get alone; the last layer runs for what gets logits alone (see ``few_tokens``). A label's logit is its log-odds,
log p(yes) - log p(no), in nats and over the whole answers where they are several tokens; tokens that the two begin with
alike are read and cancel out. So sigmoid(logit) is the probability of yes given that the answer is one of the two, a
label at a time: labels do not compete, and thresholds and calibration apply. Where a document has one label, the
softmax over the logits weighs labels by their odds.

Many labels are cut into blocks, one pass each, so that memory does not grow with their number. Every model is checked
once, when it is loaded, against one label at a time; where that differs, or the model cannot branch, labels are asked
one at a time.

Shapes: n prompts, b prompts of a batch, p tokens of the longest prompt, k labels, e predicted tokens, s positions that
predict them, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from evalsuite.contracts import Floats
from evalsuite.llm.answers.label_scoring import (
    CHECK_LABELS,
    LOGITS,
    TOLERANCE,
    Batch,
    cause,
    check_prompts,
    left_padded,
    tree_inputs,
)
from evalsuite.llm.answers.label_tree import LabelTree, build_tree
from evalsuite.llm.batching import map_rows, pad, prediction_budget
from evalsuite.llm.loading.backbone import Backbone, base_of
from evalsuite.llm.reading.logits import evaluation, last_logits, log_likelihood

# Tokens of one block's branches. The prompt is read again for every block, so that small blocks waste time; a block of
# the size of a usual prompt wastes half of it.
BLOCK = 512


@dataclass(frozen=True)
class Block:
    """Some of the labels (k), ready to be asked.

    questions: k token sequences; yes, no: the answers to each. tree: of questions with answers.
    sources: int64 [s], the places that predict a token that counts: 0 is the prompt's last token, i + 1 is node i.
    at, targets: int64 [e] each, which source predicts which token. signs: float32 [k, e], +1 where the token belongs to
    a label's yes, -1 where it belongs to its no.
    """

    questions: list[list[int]]
    yes: list[int]
    no: list[int]
    tree: LabelTree
    sources: Tensor
    at: Tensor
    targets: Tensor
    signs: Tensor


def make_block(questions: Batch, yes: Sequence[int], no: Sequence[int]) -> Block:
    """The block of k ``questions`` (token ids, no two alike); neither answer begins with the other's tokens."""
    k = len(questions)
    tree = build_tree([[*question, *answer] for answer in (yes, no) for question in questions])
    signs = tree.paths[:k] - tree.paths[k:]
    edges = np.flatnonzero(signs.any(axis=0))
    sources, at = np.unique(np.asarray(tree.sources)[edges], return_inverse=True)
    return Block(
        questions=[list(question) for question in questions],
        yes=list(yes),
        no=list(no),
        tree=tree,
        sources=torch.from_numpy(sources),
        at=torch.from_numpy(at),
        targets=torch.tensor(tree.targets)[edges],
        signs=torch.from_numpy(signs[:, edges]),
    )


class LabelBranches:
    """Asks the same k questions (token ids) about any number of prompts.

    answers: the tokens of yes and of no, neither of which begins with the other's. max_length: the longest prompt to
    expect, in tokens. token_budget: padded tokens of one batch. ``way`` and ``reason`` say how labels are asked;
    ``tokens`` is what the largest block adds to a prompt.
    """

    def __init__(
        self,
        backbone: Backbone,
        questions: Batch,
        answers: tuple[Sequence[int], Sequence[int]],
        *,
        max_length: int,
        token_budget: int = 8192,
    ) -> None:
        self.backbone, self.token_budget = backbone, prediction_budget(token_budget, backbone.device)
        yes, no = answers
        self.labels = len(questions)
        self.vocabulary = base_of(backbone.model).config.get_text_config().vocab_size
        self.way, self.reason = _choose(backbone, questions, yes, no, max_length)
        limit = min(BLOCK, token_budget // 2, LOGITS // self.vocabulary) if self.way == "one pass" else 1
        runs = _runs([len(question) + len(yes) + len(no) - 2 for question in questions], limit)
        self.blocks = [make_block(questions[run], yes, no) for run in runs]
        self.tokens = max(len(block.tree.tokens) for block in self.blocks)

    def score(self, prompts: Batch, done: Callable[[int], None] = lambda count: None) -> Floats:
        """Log-odds in nats of every label after every prompt (token ids): float32 [n, k]."""

        def batch(indices: list[int]) -> Tensor:
            return self.log_odds(*left_padded(self.backbone, [prompts[index] for index in indices]))

        with evaluation(self.backbone.model):
            return map_rows(batch, (self.labels,), self._costs(prompts), self.token_budget, done)

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy of each document (``branch_batch``), the mean over its labels: float32 [b], in nats."""
        logits = self.log_odds(batch["input_ids"], batch["attention_mask"])
        return nn.functional.binary_cross_entropy_with_logits(logits, batch["targets"], reduction="none").mean(dim=1)

    def log_odds(self, ids: Tensor, real: Tensor) -> Tensor:
        """Log-odds [b, k] after left-padded prompts (ids and 1 where they are real, [b, p] each), with gradients.

        With several blocks, each is computed again in the backward pass: one block's activations live at a time.
        """
        ask = WAYS[self.way]
        if len(self.blocks) == 1 or not torch.is_grad_enabled():
            asked = [ask(self.backbone, ids, real, block) for block in self.blocks]
        else:
            asked = [checkpoint(ask, self.backbone, ids, real, block, use_reentrant=False) for block in self.blocks]
        return torch.cat(asked, dim=1)

    def _costs(self, prompts: Batch) -> list[int]:
        """Tokens a prompt stands for in a batch: its own and a block's, more where logits are what fills memory."""
        logits = max(len(block.sources) for block in self.blocks) * self.vocabulary
        return [max(len(ids) + self.tokens, self.token_budget * logits // LOGITS) for ids in prompts]


def branch_batch(items: Sequence[tuple[Sequence[int], Any]], pad_id: int) -> dict[str, Tensor]:
    """Prompts (token ids) and which labels each has (bool [k]) as one micro-batch for ``LabelBranches.losses``."""
    batch = pad([prompt for prompt, _ in items], pad_id, side="left")
    batch["targets"] = torch.from_numpy(np.stack([labels for _, labels in items])).float()
    return batch


def packed(backbone: Backbone, ids: Tensor, real: Tensor, block: Block) -> Tensor:
    """All labels of a block in one pass after left-padded prompts: log-odds [b, k]."""
    inputs = tree_inputs(backbone, ids, real, block.tree)
    sources, at, targets, signs = (x.to(ids.device) for x in (block.sources, block.at, block.targets, block.signs))
    logits, _ = last_logits(backbone.model, ids.shape[1] - 1 + sources, shortcut=True, **inputs)
    logits = logits.float()
    edges = logits[:, at, targets] - torch.logsumexp(logits, dim=2)[:, at]
    with torch.autocast(ids.device.type, enabled=False):  # sums of log-probabilities stay in float32
        return edges @ signs.T


def plain(backbone: Backbone, ids: Tensor, real: Tensor, block: Block) -> Tensor:
    """One answer to one question after one prompt at a time, without padding or mask: what ``packed`` must equal."""

    def log_probability(prompt: list[int], question: list[int], answer: list[int]) -> Tensor:
        read = torch.tensor([[*prompt, *question, *answer[:-1]]], device=ids.device)
        logits, _ = last_logits(backbone.model, len(answer), input_ids=read, use_cache=False)
        return log_likelihood(logits[0], torch.tensor(answer, device=ids.device)).sum()

    prompts = [row[mask.bool()].tolist() for row, mask in zip(ids, real, strict=True)]
    return torch.stack(
        [
            torch.stack(
                [
                    log_probability(prompt, question, block.yes) - log_probability(prompt, question, block.no)
                    for question in block.questions
                ]
            )
            for prompt in prompts
        ]
    )


WAYS = {"one pass": packed, "one label at a time": plain}


def _runs(sizes: Sequence[int], limit: int) -> Iterator[slice]:
    """Cut labels into runs of at most ``limit`` tokens together; one label always fits."""
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and total + size > limit:
            yield slice(start, index)
            start, total = index, 0
        total += size
    yield slice(start, len(sizes))


def _choose(
    backbone: Backbone, questions: Batch, yes: Sequence[int], no: Sequence[int], max_length: int
) -> tuple[str, str]:
    """The way to ask labels, and why: packed where it agrees with one label at a time."""
    step = max(1, len(questions) // CHECK_LABELS)
    block = make_block(questions[::step][:CHECK_LABELS], yes, no)
    prompts = left_padded(backbone, check_prompts(backbone, max_length))
    tolerance = TOLERANCE.get(backbone.dtype, 0.1)
    with evaluation(backbone.model):
        expected = plain(backbone, *prompts, block)
        try:
            difference = float((packed(backbone, *prompts, block) - expected).abs().max())
        # Whatever a model raises, it says that this model cannot branch; the plain way remains.
        except Exception as error:  # noqa: BLE001
            return "one label at a time", f"one pass is refused ({cause(error)})"
    if difference <= tolerance:
        return "one pass", f"within {difference:.1e} nats of one label at a time"
    return "one label at a time", f"one pass is off by {difference:.2g} nats, {tolerance:g} allowed"
