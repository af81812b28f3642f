"""Logits where they are needed and nowhere else: a vocabulary of 128,000 makes every other position a waste.

With ``shortcut`` the last layer, too, runs for the positions that get logits alone (see ``few_tokens``): for models on
which the two were compared.

Shapes: b documents of a batch, t tokens, n positions that get logits, v entries of the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from evalsuite.llm.batching import pad
from evalsuite.llm.loading.backbone import base_of
from evalsuite.llm.reading.few_tokens import few_tokens


def last_logits(
    model: PreTrainedModel | PeftModel | nn.Module, keep: int | Tensor, *, shortcut: bool = False, **inputs: Any
) -> tuple[Tensor, Any]:
    """(logits [b, keep, v] of the last ``keep`` columns, or of the columns in ``keep`` (int64), the cache or None).

    The model's own head makes them, so that families that scale or soft-cap logits need no case of their own.
    """
    kept = slice(-keep, None) if isinstance(keep, int) else keep
    with _last_layer_at(model, kept, inputs["input_ids"]) if shortcut else nullcontext():
        if "logits_to_keep" in inspect.signature(base_of(model).forward).parameters:
            output = model(**inputs, logits_to_keep=keep)
            return output.logits, output.get("past_key_values")
        output = model(**inputs)
        return output.logits[:, kept], output.get("past_key_values")


def _last_layer_at(model: nn.Module, kept: slice | Tensor, ids: Tensor) -> AbstractContextManager[None]:
    """``few_tokens`` for some columns of every row of ``ids`` [b, t]."""
    rows, columns = (torch.arange(size, device=ids.device) for size in ids.shape)
    places = torch.cartesian_prod(rows, columns[kept])
    return few_tokens(model, places[:, 0], places[:, 1], ids.shape)


def logits_at(
    model: PreTrainedModel | PeftModel | nn.Module,
    rows: Tensor,
    columns: Tensor,
    *,
    shortcut: bool = False,
    **inputs: Any,
) -> Tensor:
    """Logits [n, v] of n positions of a batch, given by ``rows`` and ``columns`` (int64 [n]), and of no others.

    The model's body hands on the states of these positions alone; its own head, with whatever scale or cap its family
    has, makes logits of them.
    """

    def keep(body: nn.Module, given: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[rows, columns][None]
        return output

    base = base_of(model)
    body: nn.Module = base.get_decoder()
    if body is base:  # a model that keeps its layers where transformers cannot find them
        everywhere: Tensor = model(**inputs).logits
        return everywhere[rows, columns]
    hook = body.register_forward_hook(keep)
    try:
        with few_tokens(model, rows, columns, inputs["input_ids"].shape) if shortcut else nullcontext():
            logits: Tensor = model(**inputs).logits
    finally:
        hook.remove()
    return logits[0]


def answer_batch(items: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> dict[str, Tensor]:
    """Prompts with their answers (token ids) as one micro-batch for ``answer_losses``.

    ``targets``: the n answer tokens of all documents; they are predicted at ``rows`` and ``columns``, all int64 [n].
    The end mark is predicted and never read. Padding is on the right, where no token of a causal model looks: there is
    no mask, and attention takes its fastest kernel.
    """
    read = [[*prompt, *answer[:-1]] for prompt, answer in items]
    places = [
        (row, len(prompt) - 1 + at, token)
        for row, (prompt, answer) in enumerate(items)
        for at, token in enumerate(answer)
    ]
    rows, columns, targets = torch.tensor(places).T
    return {"input_ids": pad(read, pad_id)["input_ids"], "rows": rows, "columns": columns, "targets": targets}


def answer_losses(
    model: PreTrainedModel | PeftModel | nn.Module, batch: dict[str, Tensor], shortcut: bool = False
) -> Tensor:
    """Cross-entropy of each document's answer, summed over its tokens: float32 [b], in nats.

    The sum is the negative log-likelihood that label scoring compares, so that training and prediction agree; a mean
    would weigh a token of a short answer more than one of a long answer.
    """
    return summed_losses(model, batch, shortcut=shortcut, input_ids=batch["input_ids"], use_cache=False)


def summed_losses(model: PreTrainedModel | PeftModel | nn.Module, batch: dict[str, Tensor], **inputs: Any) -> Tensor:
    """Of each document, the cross-entropy of the ``targets`` at ``rows`` and ``columns`` of what the model reads.
    ``inputs``: those of ``logits_at``.
    """
    logits = logits_at(model, batch["rows"], batch["columns"], **inputs)
    losses = nn.functional.cross_entropy(logits.float(), batch["targets"], reduction="none")
    return losses.new_zeros(len(batch["input_ids"])).index_add(0, batch["rows"], losses)


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
