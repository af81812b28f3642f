"""From a model's hidden states to class logits. Shapes: b documents, t tokens, h hidden, k labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from evalsuite.llm.backbone import base_of


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


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"last": pool_last, "mean": pool_mean}


def classify(model: Any, batch: dict[str, Tensor], pooling: str) -> Tensor:
    """Class logits, float32 [b, k], of a sequence classifier for ``input_ids`` and ``attention_mask`` [b, t].

    The head reads the pooled state only, in its own precision: stock transformers runs it on every token, and stops
    with a dtype error where a float32 head sits on a bfloat16 base.
    """
    classifier = base_of(model)
    decoder = getattr(classifier, classifier.base_model_prefix)
    hidden = decoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    pooled = POOLINGS[pooling](hidden.last_hidden_state, batch["attention_mask"])
    with torch.autocast(pooled.device.type, enabled=False):
        logits: Tensor = classifier.score(pooled.float())
    return logits
