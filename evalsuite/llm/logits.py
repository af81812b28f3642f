"""Logits where they are needed and nowhere else: a vocabulary of 128,000 makes every other position a waste.

Shapes: b documents of a batch, t tokens, a tokens of the longest answer, v entries of the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from evalsuite.llm.backbone import base_of
from evalsuite.llm.batching import pad

IGNORED = -100  # the target that torch's cross-entropy leaves out


def last_logits(
    model: PreTrainedModel | PeftModel | nn.Module, keep: int | Tensor, **inputs: Any
) -> tuple[Tensor, Any]:
    """(logits [b, keep, v] of the last ``keep`` columns, or of the columns in ``keep`` (int64), the cache or None).

    The model's own head makes them, so that families that scale or soft-cap logits need no case of their own.
    """
    if "logits_to_keep" in inspect.signature(base_of(model).forward).parameters:
        output = model(**inputs, logits_to_keep=keep)
        return output.logits, output.get("past_key_values")
    output = model(**inputs)
    columns = slice(-keep, None) if isinstance(keep, int) else keep
    return output.logits[:, columns], output.get("past_key_values")


def answer_batch(items: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> dict[str, Tensor]:
    """Prompts with their answers (token ids) as one micro-batch for ``answer_losses``.

    Padding is on the left, so that the answers end in the last column and need no more logits than the longest has
    tokens (a). The end mark is predicted and never read. ``targets``, int64 [b, a], is -100 where an answer is shorter.
    """
    batch = pad([[*prompt, *answer[:-1]] for prompt, answer in items], pad_id, side="left")
    width = max(len(answer) for _, answer in items)
    batch["targets"] = torch.tensor([[IGNORED] * (width - len(answer)) + list(answer) for _, answer in items])
    return batch


def answer_losses(model: PreTrainedModel | PeftModel | nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of each document's answer, summed over its tokens: float32 [b], in nats.

    The sum is the negative log-likelihood that label scoring compares, so that training and prediction agree; a mean
    would weigh a token of a short answer more than one of a long answer.
    """
    mask, targets = batch["attention_mask"], batch["targets"]
    logits, _ = last_logits(
        model,
        targets.shape[1],
        input_ids=batch["input_ids"],
        attention_mask=mask,
        position_ids=positions_of(mask),
        use_cache=False,
    )
    losses = nn.functional.cross_entropy(
        logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
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
