"""Which layers a LoRA adapter goes on, how many parameters it trains at each rank, and the rank that meets a budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import nn
from transformers.pytorch_utils import Conv1D

from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.options import LoraOptions

# How far the rank that comes nearest may miss the budget. Between ranks 1 and 2 it never misses by more than a third;
# so only a budget too small for rank 1 is refused by it.
TOLERANCE = 1 / 3

log = logging.getLogger("evalsuite")


@dataclass(frozen=True)
class RankCosts:
    """Trainable parameters as a function of the rank: ``fixed`` + rank * ``per_rank``.

    ``largest``: the rank above which an adapter is no longer of lower rank than the smallest layer it is on.
    """

    fixed: int
    per_rank: int
    largest: int

    def at(self, rank: int) -> int:
        """Trainable parameters at ``rank``."""
        return self.fixed + rank * self.per_rank

    def nearest(self, budget: int) -> int:
        """The rank whose parameters come nearest to ``budget``; halfway, the larger one.

        Raises:
            OptionError: no rank comes near: the message has the smallest or the largest possible figure.
        """
        rank = max(1, math.floor((budget - self.fixed) / self.per_rank + 0.5))
        if rank > self.largest:
            raise OptionError(
                f"lora_budget={budget:,} is above what any rank trains here: at most {self.at(self.largest):,}"
                f" parameters, at rank {self.largest}, the width of the narrowest layer; lower the budget"
            )
        if abs(self.at(rank) - budget) > TOLERANCE * budget:
            head = f", {self.fixed:,} of them whatever the rank" if self.fixed else ""
            raise OptionError(
                f"lora_budget={budget:,} is below what any rank trains here: at least {self.at(1):,} parameters, at"
                f" rank 1{head}; raise the budget, or adapt fewer layers with lora_targets=attention"
            )
        return rank


def target_layers(model: Any, targets: str, modules_to_save: Sequence[str] = ()) -> dict[str, nn.Module]:
    """The linear layers that an adapter goes on, by name: all but the output layer, or those of the attention alone.

    Layers inside ``modules_to_save`` are trained whole and get no adapter.

    Raises:
        ModelError: there are none.
    """
    output = model.get_output_embeddings()
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not output
        and not _within(name, modules_to_save)
        and (targets == "all-linear" or any("attn" in part or "attention" in part for part in name.split(".")))
    }
    if not found:
        advice = "" if targets == "all-linear" else "; use lora_targets=all-linear"
        raise ModelError(f"lora_targets={targets} finds no such layer in {type(model).__name__}{advice}")
    return found


def rank_costs(
    model: nn.Module, layers: Sequence[nn.Module], use_dora: bool, modules_to_save: Sequence[str] = ()
) -> RankCosts:
    """Count what an adapter on ``layers`` trains, from shapes alone; no adapter is built.

    A layer of [in, out] costs rank * (in + out) (LoRA, arXiv 2106.09685), DoRA ``out`` more for its magnitudes, and
    ``modules_to_save`` all their weights.
    """
    sizes = [_features(layer) for layer in layers]
    saved = sum(parameter.numel() for name, parameter in model.named_parameters() if _within(name, modules_to_save))
    magnitudes = sum(out for _, out in sizes) if use_dora else 0
    return RankCosts(saved + magnitudes, sum(map(sum, sizes)), min(map(min, sizes)))


def choose_rank(
    model: nn.Module, layers: Sequence[nn.Module], lora: LoraOptions, modules_to_save: Sequence[str] = ()
) -> int:
    """``lora_r``, or the rank that comes nearest to ``lora_budget`` where there is one; the log says which.

    Raises:
        OptionError: a budget that no rank can meet.
    """
    if lora.lora_budget is None:
        return lora.lora_r
    costs = rank_costs(model, layers, lora.use_dora, modules_to_save)
    rank = costs.nearest(lora.lora_budget)
    log.info(
        "rank %d: %s trainable parameters, nearest to the budget of %s",
        rank,
        f"{costs.at(rank):,}",
        f"{lora.lora_budget:,}",
    )
    return rank


def lora_facts(model: nn.Module, options: object) -> dict[str, int | None]:
    """What a result says of the adapter on ``model``: its rank, and the budget in ``options`` that chose it.

    Nothing where there is no adapter.
    """
    if not isinstance(model, PeftModel):
        return {}
    return {"lora_r": model.peft_config["default"].r, "lora_budget": getattr(options, "lora_budget", None)}


def _features(layer: Any) -> tuple[int, int]:
    """(in, out). A 4-bit weight is stored flat, so a linear layer is asked for its own figures."""
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else tuple(layer.weight.shape)


def _within(name: str, modules: Sequence[str]) -> bool:
    """Whether a module or weight called ``name`` is one of ``modules`` (full names or their ends) or inside one."""
    dotted = f".{name}."
    return any(f".{module}." in dotted for module in modules)
