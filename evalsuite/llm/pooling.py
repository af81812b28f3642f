"""From a model's hidden states to class logits. Shapes: b documents, t tokens, h hidden, k labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evalsuite.llm.backbone import Backbone, base_of

Pooling = Literal["last", "mean", "max", "attention", "own"]


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    """The hidden state of each document's last real token: [b, t, h], mask [b, t] -> [b, h].

    Found by the mask, so that it is right for padding on either side and where the padding token is also a word.
    """
    last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


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


def classify(model: Any, batch: dict[str, Tensor], pooling: str) -> Tensor:
    """Class logits, float32 [b, k], of a sequence classifier for ``input_ids`` and ``attention_mask`` [b, t].

    ``pooling="own"`` is the model's own way, an encoder's. Otherwise the head reads the pooled state only, in its own
    precision: stock transformers runs it on every token, and stops with a dtype error where a float32 head sits on a
    bfloat16 base.
    """
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if pooling == "own":
        own: Tensor = model(**inputs).logits.float()
        return own
    classifier = base_of(model)
    hidden = getattr(classifier, classifier.base_model_prefix)(**inputs, use_cache=False).last_hidden_state
    with torch.autocast(hidden.device.type, enabled=False):
        pool = getattr(classifier, ATTENTION) if pooling == "attention" else POOLINGS[pooling]
        logits: Tensor = classifier.score(pool(hidden, inputs["attention_mask"]).float())
    return logits
