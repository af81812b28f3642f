"""Exact log-likelihood of every label's answer for every prompt, in one pass over prompt and label tree.

The tree's tokens follow the prompt with positions and a mask of their own: each sees the prompt and its ancestors, so
its logits are those it would have alone. What all prompts begin with, the list of labels say, is read once before them
(see ``prefix``), and the last layer runs for what gets logits alone (see ``few_tokens``). A mask given to a model
replaces the model's own, sliding windows included, and families differ in the form they take; so every model is checked
once, when it is loaded, against the plain way on prompts longer than its window. Where the two disagree, or the model
cannot branch, scoring falls back to whole prompts, then to a cache of the prompt and then to one answer at a time.

Shapes: n prompts, b prompts of a batch, k labels, m nodes of the label tree, t = longest prompt + m, v vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalsuite.contracts import Floats
from evalsuite.llm.answers.label_tree import LabelTree, blocks, build_tree
from evalsuite.llm.answers.prefix import Prefix, read_prefix
from evalsuite.llm.batching import map_rows, pad, prediction_budget, to_device
from evalsuite.llm.loading.backbone import Backbone, base_of
from evalsuite.llm.reading.logits import evaluation, last_logits, log_likelihood, positions_of

LOGITS = 2**26  # numbers in one block of logits: 256 MiB in float32
CHECK_LENGTH = 24  # tokens of the check's prompt where no window makes it longer
CHECK_LABELS = 4  # labels the check compares
# Nats by which the ways may differ. A wrong mask was seen to cost 0.17 to 0.35; bfloat16 rounds a sum of logits by
# some hundredths.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
Batch = Sequence[Sequence[int]]


class LabelScorer:
    """Scores the same k candidates (token ids, end mark included) for any number of prompts.

    max_length: the longest prompt to expect, in tokens. token_budget: padded tokens of one batch. divisors: k numbers
    that the log-likelihoods are divided by (see ``answer_sizes``). ``way`` and ``reason`` say how scoring is done.
    """

    def __init__(
        self,
        backbone: Backbone,
        candidates: Batch,
        *,
        max_length: int,
        token_budget: int = 8192,
        divisors: Sequence[float] | None = None,
    ) -> None:
        self.backbone = backbone
        self.candidates = [list(candidate) for candidate in candidates]
        self.token_budget = prediction_budget(token_budget, backbone.device)
        self.divisors = np.asarray(divisors or [1.0] * len(self.candidates), dtype=np.float32)
        self.vocabulary = base_of(backbone.model).config.get_text_config().vocab_size
        # a tree takes half of the budget at most, so that prompts find room beside it
        limit = max(1, min(LOGITS // self.vocabulary - 1, token_budget // 2))
        self.trees = [build_tree(self.candidates[block]) for block in blocks(self.candidates, limit)]
        self.way, self.reason = self._choose(max_length)

    def score(self, prompts: Batch, done: Callable[[int], None] = lambda count: None) -> Floats:
        """Log-likelihood in nats of every candidate after every prompt (token ids): float32 [n, k]."""
        scored = [
            self._scored(self.way, prompts, tree, done if tree is self.trees[-1] else lambda count: None)
            for tree in self.trees
        ]
        return np.asarray(np.concatenate(scored, axis=1) / self.divisors, dtype=np.float32)

    def _scored(
        self, way: str, prompts: Batch, tree: LabelTree, done: Callable[[int], None] = lambda count: None
    ) -> Floats:
        def batch(indices: list[int]) -> Tensor:
            asked = [rest[index] for index in indices]
            if way == PREFIX_ONCE:
                return one_pass(self.backbone, asked, tree, prefix, shortcut=True)
            return WAYS[way](self.backbone, asked, tree)

        with evaluation(self.backbone.model):
            prefix, rest = read_prefix(self.backbone, prompts) if way == PREFIX_ONCE else (None, prompts)
            return map_rows(batch, (len(tree.answers),), self._costs(rest, tree), self.token_budget, done)

    def _costs(self, prompts: Batch, tree: LabelTree) -> list[int]:
        """Tokens a prompt stands for in a batch: its own and the tree's, more where logits are what fills memory."""
        logits = (len(tree.tokens) + 1) * self.vocabulary
        return [max(len(ids) + len(tree.tokens), self.token_budget * logits // LOGITS) for ids in prompts]

    def _choose(self, max_length: int) -> tuple[str, str]:
        """The first way that agrees with the plain one, and why those before it were left."""
        prompts = check_prompts(self.backbone, max_length)
        step = max(1, len(self.candidates) // CHECK_LABELS)
        tree = build_tree(self.candidates[::step][:CHECK_LABELS])
        expected = self._scored("plain", prompts, tree)
        tolerance = TOLERANCE.get(self.backbone.dtype, 0.1)
        reasons = []
        for way in (PREFIX_ONCE, "one pass", "shared prefix"):
            try:
                difference = float(np.abs(self._scored(way, prompts, tree) - expected).max())
            # Whatever a model raises, it says that this model cannot be scored this way; the plain way remains.
            except Exception as error:  # noqa: BLE001
                reasons.append(f"{way} is refused ({cause(error)})")
                continue
            if difference <= tolerance:
                return way, "; ".join([*reasons, f"within {difference:.1e} nats of one label at a time"])
            reasons.append(f"{way} is off by {difference:.2g} nats, {tolerance:g} allowed")
        return "plain", "; ".join(reasons)


def cause(error: Exception) -> str:
    """What a model raised, on one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def answer_sizes(normalise: str, candidates: Batch, answers: Sequence[str]) -> list[float] | None:
    """What ``normalise`` divides k log-likelihoods by: None for "none", tokens with the end mark, or UTF-8 bytes."""
    if normalise == "none":
        return None
    if normalise == "token":
        return [float(len(ids)) for ids in candidates]
    return [float(len(answer.encode())) for answer in answers]


def one_pass(
    backbone: Backbone, prompts: Batch, tree: LabelTree, prefix: Prefix | None = None, *, shortcut: bool = False
) -> Tensor:
    """Prompt and tree in one forward pass: [b, k] nats. The tree's columns come last, so they alone get logits.

    With a ``prefix``, ``prompts`` are what follows it. ``shortcut``: see ``last_logits``.
    """
    inputs = tree_inputs(backbone, *left_padded(backbone, prompts), tree, prefix)
    logits, _ = last_logits(backbone.model, len(tree.tokens) + 1, shortcut=shortcut, **inputs)
    logits = logits.float()
    sources, targets = (torch.tensor(x, device=backbone.device) for x in (tree.sources, tree.targets))
    # The normaliser is computed once a source, not once an edge.
    edges = logits[:, sources, targets] - torch.logsumexp(logits, dim=2)[:, sources]
    return edges @ torch.from_numpy(tree.paths).to(backbone.device).T


def tree_inputs(
    backbone: Backbone, ids: Tensor, real: Tensor, tree: LabelTree, prefix: Prefix | None = None
) -> dict[str, Any]:
    """What the model is given to read a tree after each of b prompts (``left_padded``), in columns of its own.

    With a ``prefix``, ``ids`` are what follows it, and the mask has columns for it before theirs.
    """
    (b, p), m, device, before = real.shape, len(tree.tokens), ids.device, len(prefix or ())
    nodes = torch.tensor(tree.tokens, dtype=torch.long, device=device).expand(b, -1)
    depths = torch.tensor(tree.depths, dtype=torch.long, device=device)
    positions = torch.cat([positions_of(real), real.sum(dim=1, keepdim=True) + depths - 1], dim=1) + before
    visible = torch.ones(b, p + m, before + p + m, dtype=torch.bool, device=device)
    new = visible[:, :, before:]
    new[:, :, :p] = real.bool()[:, None, :]
    new[:, :p, :p].tril_()
    new[:, :p, p:] = False
    new[:, p:, p:] = torch.from_numpy(tree.sees).to(device)
    # Padding sees itself: a softmax over nothing is not a number.
    new |= torch.eye(p + m, dtype=torch.bool, device=device)
    places = torch.cat([torch.arange(before, device=device).expand(b, -1), positions], dim=1)
    return {
        "input_ids": torch.cat([ids, nodes], dim=1),
        "attention_mask": branch_masks(backbone, visible, places),
        "position_ids": positions,
        "past_key_values": prefix,
        "use_cache": prefix is not None,
    }


def branch_masks(backbone: Backbone, visible: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
    """``visible`` (bool [b, q, t]) in the form that the model takes, sliding windows put back by ``positions`` [b, t].
    Of t tokens, the last q are those that look.

    transformers' rule (``masking_utils.create_masks_for_generate``): a configuration with ``layer_types`` takes a
    mask for each type; otherwise there is one mask, with the window in it where there is a window.

    Raises:
        ValueError: layers or an attention kernel that take no such mask.
    """
    config = base_of(backbone.model).config.get_text_config()
    window = getattr(config, "sliding_window", None)
    looking = positions[:, -visible.shape[1] :, None]
    near = visible if window is None else visible & (looking - positions[:, None, :] < window)
    types = set(getattr(config, "layer_types", None) or ())
    if unknown := types - {"full_attention", "sliding_attention"}:
        raise ValueError(f"layers of type {', '.join(sorted(unknown))} cannot branch")
    if not types:
        return _mask(backbone, near)
    return {kind: _mask(backbone, near if kind == "sliding_attention" else visible) for kind in types}


def _mask(backbone: Backbone, visible: Tensor) -> Tensor:
    """[b, 1, q, t]: booleans for sdpa, numbers to add to the attention scores for eager."""
    if backbone.attn_implementation == "sdpa":
        return visible[:, None]
    if backbone.attn_implementation == "eager":
        hidden = torch.finfo(backbone.dtype).min
        return torch.zeros_like(visible, dtype=backbone.dtype).masked_fill(~visible, hidden)[:, None]
    raise ValueError(f"attention kernel {backbone.attn_implementation} takes no mask of one's own")


def shared_prefix(backbone: Backbone, prompts: Batch, tree: LabelTree) -> Tensor:
    """The prompt once into a cache, then the tree's nodes one token at a time, a copy of the cache a branch: [b, k].

    One token at a time, because recurrent layers continue a cache by single tokens only.
    """
    model, device = backbone.model, backbone.device
    ids, real = left_padded(backbone, prompts)
    edges = torch.zeros(len(prompts), len(tree.targets), device=device)
    targets = torch.tensor(tree.targets, device=device)

    def visit(source: int, logits: Tensor, cache: Any, mask: Tensor) -> None:
        for edge, node in tree.children[source]:
            edges[:, edge] = log_likelihood(logits, targets[edge].expand(len(prompts)))
            if node is None:
                continue
            grown = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            after, longer = last_logits(
                model,
                1,
                input_ids=torch.full_like(ids[:, :1], tree.tokens[node]),
                attention_mask=grown,
                position_ids=positions_of(grown)[:, -1:],
                past_key_values=copy.deepcopy(cache),
                use_cache=True,
            )
            visit(node + 1, after[:, -1], longer, grown)

    logits, cache = last_logits(
        model, 1, input_ids=ids, attention_mask=real, position_ids=positions_of(real), use_cache=True
    )
    visit(0, logits[:, -1], cache, real)
    return edges @ torch.from_numpy(tree.paths).to(device).T


def plain(backbone: Backbone, prompts: Batch, tree: LabelTree) -> Tensor:
    """One answer of one prompt at a time, without padding, mask or cache: [b, k]. What the other ways must equal."""
    rows = []
    for prompt in prompts:
        for answer in tree.answers:
            ids = torch.tensor([[*prompt, *answer[:-1]]], device=backbone.device)
            logits, _ = last_logits(backbone.model, len(answer), input_ids=ids, use_cache=False)
            rows.append(log_likelihood(logits[0], torch.tensor(answer, device=backbone.device)).sum())
    return torch.stack(rows).reshape(len(prompts), len(tree.answers))


WAYS = {"one pass": one_pass, "shared prefix": shared_prefix, "plain": plain}
PREFIX_ONCE = "one pass, prefix once"


def left_padded(backbone: Backbone, prompts: Batch) -> tuple[Tensor, Tensor]:
    """(token ids, 1 where they are real), int64 [b, p] each: every prompt ends in the last column."""
    padded = to_device(pad(prompts, backbone.tokenizer.pad_token_id, side="left"), backbone.device)
    return padded["input_ids"], padded["attention_mask"]


def check_prompts(backbone: Backbone, max_length: int) -> list[list[int]]:
    """Two prompts of random tokens that begin alike, past the window if prompts can, and of which one is padded."""
    config = base_of(backbone.model).config.get_text_config()
    window = getattr(config, "sliding_window", None)
    length = max(2, min(max_length, CHECK_LENGTH if window is None else window + CHECK_LENGTH))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (length,), generator=generator).tolist()
    special = set(backbone.tokenizer.all_special_ids)
    plain_ids = [token for token in ids if token not in special] or ids
    own = min(CHECK_LENGTH, len(plain_ids)) // 2
    return [plain_ids, [*plain_ids[:-own], *plain_ids[: own // 2]]]
