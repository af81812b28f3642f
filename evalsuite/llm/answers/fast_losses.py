"""The losses of answers in training, in the fastest way that gives the plain numbers.

Where prompts begin alike, with an instruction or a list of labels, the beginning is read once a micro-batch: keys and
values of it are made once, with their gradients, and every document goes on from them; the sum of what the documents
ask of them flows back once. And the last layer runs for what gets logits alone. Nothing of the loss or the gradient
changes; dropout, where there is any, falls on the beginning once for the documents of a micro-batch.

Shapes: b documents of a batch, t tokens, p of which all documents begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from evalsuite.llm.answers.label_scoring import branch_masks
from evalsuite.llm.answers.prefix import LEAST, Prefix, common_length
from evalsuite.llm.batching import to_device
from evalsuite.llm.loading.backbone import Backbone, base_of
from evalsuite.llm.options import TrainingOptions
from evalsuite.llm.reading.logits import answer_batch, answer_losses, evaluation, summed_losses

Ids = Sequence[int]
Losses = Callable[[nn.Module, dict[str, Tensor]], Tensor]
SHORTCUT: Losses = partial(answer_losses, shortcut=True)

# Attention behind a prefix reads a mask, where it could have skipped half of its work. Of documents that share less of
# their tokens, that costs what is saved (measured at widths of 384).
LEAST_SHARE = 0.15
TRIED = 3  # documents on which the ways are compared
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2}  # nats a document


def fast_losses(backbone: Backbone, prompts: Sequence[Ids], answers: Sequence[Ids], options: TrainingOptions) -> Losses:
    """``answer_losses``, or the same by way of a prefix, where the ``prompts`` have one that is worth it, and with the
    last layer cut short.

    A model keeps to the plain way unless its losses are the same by another, and where activations are recomputed: the
    backward pass would make them without the keys from before, and the last layer runs whole then.
    """
    if options.recomputes(backbone.device.type) or not prompts:
        return answer_losses
    ways, length = [SHORTCUT], common_length(prompts)
    if len(prompts) > 1 and length >= LEAST and length * len(prompts) >= LEAST_SHARE * sum(map(len, prompts)):
        ways.insert(0, losses_after(backbone, length))
    few = list(zip(prompts[:TRIED], answers[:TRIED], strict=True))
    batch = to_device(answer_batch(few, backbone.tokenizer.pad_token_id), backbone.device)
    return next((way for way in ways if agrees(backbone, way, batch)), answer_losses)


def agrees(backbone: Backbone, way: Losses, batch: dict[str, Tensor]) -> bool:
    """Whether the losses of a batch are the plain ones."""
    with evaluation(backbone.model), backbone.arithmetic():
        expected = answer_losses(backbone.model, batch)
        try:
            difference = float((way(backbone.model, batch) - expected).abs().max())
        # Whatever a model raises, it says that it cannot be read this way; the plain way remains.
        except Exception:  # noqa: BLE001
            return False
    return difference <= TOLERANCE.get(backbone.dtype, 0.2)


def losses_after(backbone: Backbone, length: int) -> Losses:
    """``answer_losses`` of documents whose first ``length`` (p) tokens are the same, read once; the last layer of the
    rest is cut short.
    """

    def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        ids = batch["input_ids"]
        if len(ids) == 1:
            return SHORTCUT(model, batch)
        cache, rest = DynamicCache(), ids[:, length:]  # without a configuration, whose windows it would cut itself to
        base_of(model).get_decoder()(input_ids=ids[:1, :length], past_key_values=cache, use_cache=True)
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        visible = (places[:, length:, None] >= places[:, None]).expand(len(ids), -1, -1)
        return summed_losses(
            model,
            batch | {"columns": batch["columns"] - length},
            shortcut=True,
            input_ids=rest,
            attention_mask=branch_masks(backbone, visible, places.expand(len(ids), -1)),
            position_ids=places[:, length:],
            past_key_values=Prefix(length, [(layer.keys, layer.values) for layer in cache.layers]),
            use_cache=True,
        )

    return losses
