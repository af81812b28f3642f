"""The few words that processes of one run exchange. With a single process each of them is the identity."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, gather_object, reduce
from torch import Tensor, nn


class Processes:
    """All processes of this run, as ``accelerate launch`` or ``torchrun`` started them."""

    def __init__(self, device: torch.device) -> None:
        self._state = PartialState(cpu=device.type == "cpu")
        self.device = device
        self.count: int = self._state.num_processes
        self.rank: int = self._state.process_index
        if self.count > 1 and device.type == "cpu":
            leave_group_at_exit()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, documents: Sequence[int]) -> Sequence[int]:
        """The documents of a step that are this process's: every ``count``-th, none twice, possibly none."""
        return documents[self.rank :: self.count]

    def least(self, value: int) -> int:
        """The smallest value of any process."""
        return value if self.count == 1 else int(gather(torch.tensor([value], device=self.device)).min())

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether any process has set it."""
        if self.count == 1:
            return flags
        return tuple(gather(torch.tensor([flags], device=self.device)).any(dim=0).tolist())

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up every parameter's gradient over all processes, in one exchange; a missing gradient counts as zero."""
        if self.count == 1:
            return
        flat = torch.cat(
            [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten().float() for p in parameters]
        )
        flat = reduce(flat, "sum")
        for parameter, summed in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = summed.view_as(parameter).to(parameter.dtype)

    def sum(self, value: Tensor) -> Tensor:
        """A tensor's sum over all processes."""
        return value if self.count == 1 else reduce(value, "sum")

    def collect(self, value: Any) -> list[Any]:
        """Every process's value, in rank order, on every process."""
        return [value] if self.count == 1 else list(gather_object([value]))

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every process."""
        return value if self.count == 1 else broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Go on when every process has come here."""
        self._state.wait_for_everyone()


@cache
def leave_group_at_exit() -> None:
    """Have this process leave the others in good order when it ends.

    Otherwise gloo's threads, which nobody has stopped, abort one of two processes in a few runs of a hundred, after all
    is done; a launcher then reports a failure. Not for NCCL: there a process that fails would wait for the others.
    """
    atexit.register(PartialState().destroy_process_group)
