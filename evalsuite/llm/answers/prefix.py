"""What all prompts begin with is read once: the instruction, the list of labels, the examples.

Attention looks at earlier tokens through their keys and values alone, which depend on nothing that comes after them. So
those of the common beginning are made once, and every prompt goes on from there with positions of its own. For that a
mask must have a column for each token of the beginning, sliding windows included: no layer may drop what is out of its
window, as transformers' caches for such models do.

Shapes: b prompts of a batch, p tokens of the prefix, g heads of keys and values, d numbers a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.reading.logits import last_logits

LEAST = 8  # tokens: less is read with every prompt in the time that it takes to join keys and values
Prompt = Sequence[int]


class Prefix:
    """Keys and values of p tokens, a pair [1, g, p, d] for each layer, in the place where a model takes its cache.

    It is never added to, so that one serves any number of passes and a pass keeps no more than a layer's copy of it.
    """

    def __init__(self, length: int, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.length, self.layers = length, layers

    def __len__(self) -> int:
        return self.length

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """A layer's new keys and values [b, g, t, d] after those of the prefix: [b, g, p + t, d] each."""
        before, carried = self.layers[layer_idx]
        batch = (len(keys), -1, -1, -1)
        return torch.cat([before.expand(batch), keys], dim=2), torch.cat([carried.expand(batch), values], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read before; models ask by this name."""
        return self.length


class Rests(Sequence[Prompt]):
    """Prompts without their first tokens, cut when asked for: a list of all would take nine times the ids' memory."""

    def __init__(self, prompts: Sequence[Prompt], start: int) -> None:
        self.prompts, self.start = prompts, start

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, row: Any) -> Any:
        """A prompt's token ids from ``start`` on; of a slice, a list of them."""
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        return self.prompts[row][self.start :]


def read_prefix(backbone: Backbone, prompts: Sequence[Prompt]) -> tuple[Prefix | None, Sequence[Prompt]]:
    """What all ``prompts`` (token ids) begin with, read, and the rest of each, which is at least its last token.

    None and the whole prompts where that would save nothing.
    """
    length = common_length(prompts)
    if len(prompts) < 2 or length < LEAST:
        return None, prompts
    cache = DynamicCache()  # without a configuration, whose windows it would cut itself to
    ids = torch.tensor([prompts[0][:length]], device=backbone.device)
    last_logits(backbone.model, 1, input_ids=ids, past_key_values=cache, use_cache=True)
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    return Prefix(length, layers), Rests(prompts, length)


def common_length(prompts: Sequence[Prompt]) -> int:
    """Tokens that all ``prompts`` begin with, one fewer than the shortest has at most."""
    if not prompts:
        return 0
    first, last = min(prompts, key=list), max(prompts, key=list)  # what these two share, all between them share
    differ = (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return min(next(differ, len(first)), min(map(len, prompts)) - 1)
