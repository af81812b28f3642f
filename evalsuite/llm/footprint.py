"""How large a model is, how much memory a run took, and how much it will take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from evalsuite import accounting
from evalsuite.llm.backbone import (
    Backbone,
    attach_lora,
    compute_dtype,
    local_device,
    recompute_activations,
    wants_4bit,
)
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.quantisation import is_4bit
from evalsuite.llm.source import read_config, resolve_model

# NF4 with double quantisation: 4 bits a weight, an 8-bit scale for 64 of them and a 32-bit one for 256 scales
# (QLoRA, arXiv 2305.14314, section 3: 0.127 bits a weight for the scales)
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW in float32: weight, gradient and two moments
TRAINED_BYTES = 16
# Short rows: attention kernels keep nothing that grows with the square of the length, the plain form would
PROBE_LENGTH = 64


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights."""

    trainable: int
    total: int


@dataclass(frozen=True)
class Estimate:
    """What a training will need, worked out from the model's shape alone. All of it on one device.

    base: the frozen weights. adapter: trained weights with gradients and optimizer. activations: what a micro-batch of
    the token budget keeps for the backward pass. checkpoint: one saved state on disk.
    """

    trainable_parameters: int
    total_parameters: int
    base_bytes: int
    adapter_bytes: int
    activations_bytes: int
    checkpoint_bytes: int

    @property
    def memory_bytes(self) -> int:
        """All that is held at the peak."""
        return self.base_bytes + self.adapter_bytes + self.activations_bytes


def count_parameters(model: nn.Module) -> Parameters:
    """Count weights as the architecture has them: a 4-bit tensor stores two a byte and reports half.

    peft keeps the untrained original of every saved module; it is not counted.
    """
    trainable = total = 0
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        size = parameter.numel() * (2 * parameter.element_size() if is_4bit(parameter) else 1)
        total += size
        trainable += size if parameter.requires_grad else 0
    return Parameters(trainable, total)


def reset_peak_memory() -> None:
    """Start a new measurement on the GPU; the CPU's peak is that of the whole process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int | None]:
    """Bytes: the process's largest resident set, and the most that torch held on the GPU (None without one)."""
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"peak_cpu_bytes": accounting.peak_memory(), "peak_gpu_bytes": gpu}


def estimate_training(
    model: ModelOptions, lora: LoraOptions, training: TrainingOptions, device: str, labels: int | None = None
) -> dict[str, int]:
    """Estimate a training's memory on the meta device: the architecture is built, no weight is fetched or allocated.

    ``labels`` is the number of classes of a classification head, None for a model that writes text. Returns the
    fields of ``Estimate`` and ``memory_bytes``. An estimate: kernels' workspaces and fragmentation come on top.

    Raises:
        ModelError: the model is absent or gated.
    """
    backbone = _skeleton(model, local_device(device), labels)
    attach_lora(backbone, lora, modules_to_save=["score"] if labels else ())
    parameters = count_parameters(backbone.model)
    recompute = training.gradient_checkpointing
    recompute = backbone.device.type == "cuda" if recompute is None else recompute
    whole = _kept_bytes(backbone, training.token_budget)
    activations = whole
    if recompute:
        recompute_activations(backbone.model, True)
        layers = backbone.model.config.get_text_config().num_hidden_layers
        activations = _kept_bytes(backbone, training.token_budget) + whole // layers
    estimate = Estimate(
        trainable_parameters=parameters.trainable,
        total_parameters=parameters.total,
        base_bytes=_base_bytes(backbone),
        adapter_bytes=parameters.trainable * TRAINED_BYTES,
        activations_bytes=activations,
        checkpoint_bytes=parameters.trainable * 16,  # weights, best weights and two moments
    )
    return {**asdict(estimate), "memory_bytes": estimate.memory_bytes}


def _skeleton(options: ModelOptions, device: torch.device, labels: int | None) -> Backbone:
    config = read_config(options)
    dtype = compute_dtype(options, device)
    architecture: Any = AutoModelForCausalLM
    if labels is not None:
        architecture, config.num_labels = AutoModelForSequenceClassification, labels
    config.pad_token_id = 0
    with torch.device("meta"):
        model = architecture.from_config(config, dtype=dtype, trust_remote_code=options.trust_remote_code)
    # peft and autograd see the meta device; ``device`` only tells what the run would do there
    return Backbone(model, None, device, resolve_model(options.model)[0], None, wants_4bit(options, device), "", dtype)


def _base_bytes(backbone: Backbone) -> int:
    """Bytes of the frozen weights: quantised linear layers, everything else in the base's precision."""
    adapted = {name for name, module in backbone.model.named_modules() if hasattr(module, "base_layer")}
    size = 0.0
    for name, parameter in backbone.model.named_parameters():
        if parameter.requires_grad or ".original_module." in name:
            continue
        layer = name.rpartition(".base_layer.")[0]
        packed = backbone.quantised and layer in adapted and parameter.dim() == 2
        size += parameter.numel() * (NF4_BYTES if packed else backbone.dtype.itemsize)
    return round(size)


def _kept_bytes(backbone: Backbone, tokens: int) -> int:
    """Bytes that autograd keeps in a forward pass over ``tokens`` tokens, each tensor's storage once."""
    weights = {p.untyped_storage()._cdata for p in backbone.model.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    rows = max(1, tokens // PROBE_LENGTH)
    ids = torch.zeros(rows, PROBE_LENGTH, dtype=torch.long, device="meta")
    # a ready-made mask: the model would otherwise look into values, which the meta device has none of
    mask = torch.ones(rows, 1, PROBE_LENGTH, PROBE_LENGTH, dtype=torch.bool, device="meta")
    backbone.model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
