"""Logits where they are needed and nowhere else: a vocabulary of 128,000 makes every other position a waste.

Shapes: b documents of a batch, t tokens, v entries of the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from evalsuite.llm.backbone import base_of


def last_logits(model: PreTrainedModel | PeftModel | nn.Module, keep: int, **inputs: Any) -> tuple[Tensor, Any]:
    """(logits [b, keep, v] of the last ``keep`` positions, the model's cache or None).

    The model's own head makes them, so that families that scale or soft-cap logits need no case of their own.
    """
    if "logits_to_keep" in inspect.signature(base_of(model).forward).parameters:
        output = model(**inputs, logits_to_keep=keep)
        return output.logits, output.get("past_key_values")
    output = model(**inputs)
    return output.logits[:, -keep:], output.get("past_key_values")


def answer_losses(model: PreTrainedModel | PeftModel | nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of each document's answer, summed over its tokens: float32 [b], in nats.

    The sum is the negative log-likelihood that label scoring compares, so that training and prediction agree; a mean
    would weigh a token of a short answer more. Documents are padded on the left: the answers, and with them the only
    positions that get logits, end in the last column. ``answer_mask`` [b, t] is 1 on answer tokens.
    """
    ids, mask, answer = batch["input_ids"], batch["attention_mask"], batch["answer_mask"]
    keep = int(answer.sum(dim=1).max())
    logits, _ = last_logits(
        model, keep + 1, input_ids=ids, attention_mask=mask, position_ids=positions_of(mask), use_cache=False
    )
    targets = ids[:, -keep:].masked_fill(answer[:, -keep:] == 0, -100)
    losses = nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), targets, ignore_index=-100, reduction="none"
    )
    return losses.sum(dim=1)


def positions_of(attention_mask: Tensor) -> Tensor:
    """Position ids, int64 [b, t], that count real tokens from 0 wherever the padding is."""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability in nats of ``targets`` [...] under ``logits`` [..., v]: float32 [...]."""
    logits = logits.float()
    return logits.gather(-1, targets[..., None])[..., 0] - torch.logsumexp(logits, dim=-1)


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; the mode it had before comes back.

    Not ``torch.inference_mode``: tensors that a model keeps from inside it could never enter a backward pass again.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
