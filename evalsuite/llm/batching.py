"""Text to token ids, documents to steps, steps to micro-batches.

A step is a set of documents and changes the result; a micro-batch is a cut of it that fits the memory and does not.
Shapes: n documents, b documents of a batch, t tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evalsuite.contracts import Floats
from evalsuite.errors import ModelError
from evalsuite.prompts.tokens import TEXTS_A_CALL

Result = TypeVar("Result")

# documents of this many steps are sorted by length together; transformers' group_by_length takes 50
STEPS_A_BUCKET = 32
# Tokens of a prediction's batch on the CPU. What a layer makes of many more is too large for the processor's cache and
# for memory.keep_freed_memory: with 8192 a token takes 1.2 to 2 times as long (widths 192 to 1024); to 4096, all alike.
CPU_TOKENS = 1024


class TokenIds(Sequence[list[int]]):
    """Token ids of n documents, read as lists and kept in one array: 4 bytes a token where lists take about 36."""

    def __init__(self, documents: Iterable[Sequence[int]]) -> None:
        self._tokens, ends = array("i"), array("q", [0])
        for ids in documents:
            self._tokens.extend(ids)
            ends.append(len(self._tokens))
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: Any) -> Any:
        """A document's ids; of a slice, a list of them."""
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        at = range(len(self))[row]  # knows about the end, and counts from it
        return self._tokens[self._ends[at] : self._ends[at + 1]].tolist()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each document."""
        return [end - start for start, end in pairwise(self._ends)]


@dataclass(frozen=True)
class Encoded:
    """n documents as token ids, each cut to the longest allowed; ``truncated`` is the share that was cut."""

    ids: TokenIds
    truncated: float

    @classmethod
    def of(cls, documents: Iterable[tuple[Sequence[int], bool]]) -> Encoded:
        """From the ids of each document and whether it was cut."""
        cut: list[bool] = []
        ids = TokenIds(_noting(documents, cut))
        return cls(ids, sum(cut) / max(1, len(cut)))

    @property
    def lengths(self) -> list[int]:
        return self.ids.lengths

    def rows(self, chosen: Sequence[int]) -> Encoded:
        """The documents with these indices alone."""
        return Encoded(TokenIds(self.ids[row] for row in chosen), self.truncated)


def _noting(documents: Iterable[tuple[Sequence[int], bool]], cut: list[bool]) -> Iterator[Sequence[int]]:
    for ids, was_cut in documents:
        cut.append(was_cut)
        yield ids


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, side: str = "right") -> Encoded:
    """Tokenise documents with the tokenizer's own marks around them, cutting the text and never the marks.

    Marks written in a document ("</s>") stay text, so that no document can end itself or look like padding. An empty
    document becomes one mark (beginning, else padding): a model cannot read nothing.
    """
    before, after = _marks(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise ModelError(f"max_length {max_length} leaves no token for the text; give at least {max_length - room + 1}")
    lone = [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.pad_token_id]

    def documents() -> Iterator[tuple[list[int], bool]]:
        # by parts: the tokenizer's own records of a text take many times the memory of its ids
        for start in range(0, len(texts), TEXTS_A_CALL):
            # verbose=False: a document longer than the model's window is cut here, no warning is due
            plain = tokenizer(
                list(texts[start : start + TEXTS_A_CALL]),
                add_special_tokens=False,
                split_special_tokens=True,
                verbose=False,
            )["input_ids"]
            for ids in plain:
                cut = ids[-room:] if side == "left" else ids[:room]
                yield [*before, *cut, *after] or lone, len(ids) > room

    return Encoded.of(documents())


def _marks(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The token ids that the tokenizer puts before and after any text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def pad(sequences: Sequence[Sequence[int]], pad_id: int, side: str = "right") -> dict[str, Tensor]:
    """Token ids as ``input_ids`` and ``attention_mask``, both int64 [b, t], padded on one side."""
    width = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), width), pad_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), width) if side == "left" else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def steps_of_epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The documents (indices) of every step of one epoch: shuffled, then of like length within a step.

    Each document occurs once; the last step of a bucket may be smaller. The same arguments give the same plan.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    steps: list[list[int]] = []
    for start in range(0, len(order), batch_size * STEPS_A_BUCKET):
        bucket = sorted(order[start : start + batch_size * STEPS_A_BUCKET].tolist(), key=lambda index: lengths[index])
        steps += [bucket[at : at + batch_size] for at in range(0, len(bucket), batch_size)]
    return [steps[index] for index in random.permutation(len(steps))]


def micro_batches(documents: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut documents into batches of at most ``budget`` padded tokens, longest first; one document always fits."""
    batches: list[list[int]] = []
    for index in sorted(documents, key=lambda index: -lengths[index]):
        # the first document of a batch is its longest, so it sets the padded width
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def prediction_budget(budget: int, device: torch.device) -> int:
    """Padded tokens of one batch where nothing is trained: ``budget``, or fewer where fewer are faster."""
    return min(budget, CPU_TOKENS) if device.type == "cpu" else budget


def map_batches(
    function: Callable[[list[int]], Sequence[Result]],
    lengths: Sequence[int],
    budget: int,
    done: Callable[[int], None] = lambda count: None,
) -> list[Result]:
    """Apply ``function`` to batches of like length and return one result a document, in the documents' order.

    Without memory for a batch, the budget is halved and the batch done again.

    Raises:
        ModelError: there is no memory for a single document.
    """
    results: dict[int, Result] = {}
    waiting = micro_batches(range(len(lengths)), lengths, budget)[::-1]
    while waiting:
        batch = waiting[-1]
        try:
            results.update(zip(batch, function(batch), strict=True))
            done(len(waiting.pop()))
            continue
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise ModelError(
                    f"no memory for one document of {lengths[batch[0]]} tokens; lower max_length, or use load_in_4bit"
                ) from error
        # only here has the failed batch let go of its tensors
        torch.cuda.empty_cache()
        rest = [index for group in waiting for index in group]
        waiting = micro_batches(rest, lengths, len(batch) * lengths[batch[0]] // 2)[::-1]
    return [results[index] for index in range(len(lengths))]


def map_rows(
    function: Callable[[list[int]], Tensor],
    shape: Sequence[int],
    lengths: Sequence[int],
    budget: int,
    done: Callable[[int], None] = lambda count: None,
) -> Floats:
    """``map_batches`` for numbers: ``function`` gives [b, *shape] of b documents, the result is float32 [n, *shape].

    It is one array from the start. What is left of each batch by itself would lie between the freed blocks of its
    activations, which then fit nothing else: a small model's prediction of 30,000 documents held 105 MB in place of 16.
    """
    found = np.empty((len(lengths), *shape), dtype=np.float32)

    def fill(rows: list[int]) -> list[int]:
        found[rows] = function(rows).reshape(len(rows), *shape).cpu().numpy()  # else one row would do for all
        return rows

    map_batches(fill, lengths, budget, done)
    return found


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch's tensors on a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
