"""From a model's hidden states to class logits. Shapes: b documents, t tokens, h hidden, k labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evalsuite.llm.batching import pad, to_device
from evalsuite.llm.loading.backbone import Backbone, base_of
from evalsuite.llm.reading.few_tokens import few_tokens
from evalsuite.llm.reading.logits import evaluation

TRIED = 3, 9  # tokens of the texts on which a shortcut is tried
ROUNDED = 0.05  # how far states may differ in 16 bits, as a share of their length

Pooling = Literal["last", "mean", "max", "attention", "own"]


def last_tokens(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column, int64 [b] each, of each document's last real token: mask [b, t]."""
    columns = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=1)
    return torch.arange(len(mask), device=mask.device), columns


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    """The hidden state of each document's last real token: [b, t, h], mask [b, t] -> [b, h].

    Found by the mask, so that it is right for padding on either side and where the padding token is also a word.
    """
    return hidden[last_tokens(mask)]


def pool_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of each document's real tokens, in float32: [b, t, h], mask [b, t] -> [b, h]."""
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)


def pool_max(hidden: Tensor, mask: Tensor) -> Tensor:
    """The largest value of each dimension over the real tokens: [b, t, h], mask [b, t] -> [b, h]."""
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)


def pool_cls(hidden: Tensor, mask: Tensor) -> Tensor:
    """The hidden state of each document's first real token, an encoder's mark: [b, t, h], mask [b, t] -> [b, h]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.argmax(dim=1)]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "last": pool_last,
    "mean": pool_mean,
    "max": pool_max,
    "cls": pool_cls,
}


class AttentionPooling(nn.Module):
    """A learned query decides how much each token counts (Lin et al. 2017, arXiv 1703.03130, with one query).

    The query starts at zero: the mean over the real tokens, from which it departs as it learns.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[b, t, h], mask [b, t] -> [b, h], in float32."""
        states = hidden.float()
        scores = states @ self.query / self.query.shape[0] ** 0.5
        weights = scores.masked_fill(mask == 0, -torch.inf).softmax(dim=1)
        pooled: Tensor = (weights.unsqueeze(-1) * states).sum(dim=1)
        return pooled


ATTENTION = "attention_pooling"  # the module's name on the classifier


def add_attention_pooling(backbone: Backbone) -> None:
    """Give a decoder classifier a learned query, before an adapter is attached."""
    width = base_of(backbone.model).config.get_text_config().hidden_size
    backbone.model.add_module(ATTENTION, AttentionPooling(width).to(backbone.device))
    backbone.head = (*backbone.head, ATTENTION)


def classify(model: Any, batch: dict[str, Tensor], pooling: str, shortcut: bool = False) -> Tensor:
    """Class logits, float32 [b, k], of a sequence classifier for ``input_ids`` and ``attention_mask`` [b, t].

    ``pooling="own"`` is the model's own way, an encoder's. Otherwise the head reads the pooled state only, in its own
    precision: stock transformers runs it on every token, and stops with a dtype error where a float32 head sits on a
    bfloat16 base. ``shortcut`` is for models that ``may_cut_short``.
    """
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if pooling == "own":
        own: Tensor = model(**inputs).logits.float()
        return own
    classifier = base_of(model)
    read = _read_shortly if shortcut else _read
    hidden = read(classifier, inputs["input_ids"], inputs["attention_mask"], pooling)
    with torch.autocast(hidden.device.type, enabled=False):
        pool = getattr(classifier, ATTENTION) if pooling == "attention" else POOLINGS[pooling]
        logits: Tensor = classifier.score(pool(hidden, inputs["attention_mask"]).float())
    return logits


def _read(classifier: Any, ids: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Hidden states [b, t, h]."""
    states: Tensor = classifier.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return states


def _read_shortly(classifier: Any, ids: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Hidden states [b, t, h] that are right where ``pooling`` looks, of a causal model with padding on the right.

    No real token sees padding then: without a mask, attention takes its causal kernel, which skips what lies above the
    diagonal. For the last token's state the last layer is run for that token alone.
    """
    alone = few_tokens(classifier, *last_tokens(mask), ids.shape) if pooling == "last" else nullcontext()
    with alone:
        states: Tensor = classifier.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states


def may_cut_short(backbone: Backbone, pooling: str) -> bool:
    """Whether a model gives the same states by the shortcut as without, tried on two texts of unlike length.

    It does where it is causal; not every decoder is.
    """
    if pooling == "own":
        return False
    classifier = base_of(backbone.model)
    vocabulary = classifier.config.get_text_config().vocab_size
    texts = [[(7 * at + length) % vocabulary for at in range(length)] for length in TRIED]
    batch = to_device(pad(texts, backbone.tokenizer.pad_token_id), backbone.device)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    looked_at = last_tokens(mask) if pooling == "last" else mask.bool()
    with evaluation(backbone.model), backbone.arithmetic():
        plain, short = (read(classifier, ids, mask, pooling)[looked_at].float() for read in (_read, _read_shortly))
    difference = (plain - short).norm(dim=-1) / plain.norm(dim=-1)
    return bool((difference < (1e-4 if backbone.dtype == torch.float32 else ROUNDED)).all())
