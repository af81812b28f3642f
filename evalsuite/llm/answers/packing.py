"""Prompts that go on token by token: a row for each, or many of them in one row after what they all begin with.

With a row for each, every step copies the keys and values of whole prompts. In one row the common beginning is there
once and is never copied for anybody; what a prompt adds follows in columns of its own, a mask keeps prompts apart, and
there is no padding. Columns of other prompts are looked at to be hidden, which costs where prompts have much of their
own: one row is for short texts after a long list of labels.

As with label trees the mask replaces the model's own, so that every model is checked when it is loaded (``packs``).

Shapes: r prompts that go on, q tokens of theirs, t columns so far, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from evalsuite.llm.answers.label_scoring import TOLERANCE, branch_masks, cause, check_prompts, left_padded
from evalsuite.llm.answers.prefix import Prefix, read_prefix
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.reading.logits import evaluation, last_logits, positions_of

EVERYBODY = -1  # the owner of what all prompts begin with


class Rows:
    """A row for each prompt, padded on the left. A prompt that has ended stays, and its row reads padding."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.mask, self.cache = backbone, torch.empty(0), None

    def read(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [r, v] of what follows; ``tokens``: first each prompt by its number, then the next token of each."""
        if self.cache is None:
            ids, self.mask = left_padded(self.backbone, list(tokens.values()))
        else:
            ids = torch.full_like(self.mask[:, :1], int(self.backbone.tokenizer.pad_token_id))
            ids[list(tokens)] = torch.tensor(list(tokens.values()), device=ids.device)
            self.mask = torch.cat([self.mask, torch.ones_like(ids)], dim=1)
        logits, self.cache = last_logits(
            self.backbone.model,
            1,
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions_of(self.mask)[:, -ids.shape[1] :],
            past_key_values=self.cache,
            use_cache=True,
        )
        return logits[list(tokens), -1]


class OneRow:
    """Any number of prompts that begin with ``prefix``, in one row after it."""

    def __init__(self, backbone: Backbone, prefix: Prefix) -> None:
        self.backbone, self.device = backbone, backbone.device
        self.cache: Any = DynamicCache(prefix.layers)
        self.lengths: dict[int, int] = {}
        self.owners = torch.full((len(prefix),), EVERYBODY, device=self.device)
        self.places = torch.arange(len(prefix), device=self.device)
        self.start = len(prefix)

    def read(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [r, v] of what follows; ``tokens``: first the rest of each prompt, then the next token of each."""
        ids: list[int] = []
        owners: list[int] = []
        places: list[int] = []
        ends: list[int] = []
        for owner, added in tokens.items():
            start = self.lengths.get(owner, self.start)
            self.lengths[owner] = start + len(added)
            ids += added
            owners += [owner] * len(added)
            places += range(start, start + len(added))
            ends.append(len(ids) - 1)
        mine, here = (torch.tensor(each, device=self.device) for each in (owners, places))
        self.owners, self.places = torch.cat([self.owners, mine]), torch.cat([self.places, here])
        own = (self.owners == mine[:, None]) | (self.owners == EVERYBODY)
        visible = own & (self.places <= here[:, None])
        logits, self.cache = last_logits(
            self.backbone.model,
            torch.tensor(ends, device=self.device),
            shortcut=True,
            input_ids=torch.tensor([ids], device=self.device),
            attention_mask=branch_masks(self.backbone, visible[None], self.places[None]),
            position_ids=here[None],
            past_key_values=self.cache,
            use_cache=True,
        )
        return logits[0]


def packs(backbone: Backbone, max_length: int) -> tuple[bool, str]:
    """Whether the model reads prompts in one row as it reads each alone, up to ``max_length`` tokens; and why not."""
    prompts = check_prompts(backbone, max_length)
    step = [prompts[0][0]]
    try:
        with evaluation(backbone.model):
            prefix, rests = read_prefix(backbone, prompts)
            if prefix is None:
                return False, "prompts are too short to share anything"
            row = OneRow(backbone, prefix)
            found = [row.read(dict(enumerate(rests))), row.read({1: step})]
            texts = [torch.tensor([ids], device=backbone.device) for ids in (*prompts, [*prompts[1], *step])]
            alone = [last_logits(backbone.model, 1, input_ids=ids, use_cache=False)[0][:, -1] for ids in texts]
    # Whatever a model raises, it says that this model cannot be read this way; a row for each remains.
    except Exception as error:  # noqa: BLE001
        return False, cause(error)
    difference = float((torch.cat(found) - torch.cat(alone)).float().abs().max())
    if difference <= TOLERANCE.get(backbone.dtype, 0.1):
        return True, f"within {difference:.1e} of one prompt at a time"
    return False, f"logits are off by {difference:.2g}"
