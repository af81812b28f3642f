"""How large a model is, and how much memory its training will take.

The estimate for a machine that is not at hand, of a published shape (``loading.shapes``) or of any model::

    python -m evalsuite.llm.training.footprint --shape llama-3.2-3b --method embedding --device cuda --max_length 1024
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from evalsuite.errors import EvalsuiteError
from evalsuite.llm.loading.backbone import (
    Backbone,
    compute_dtype,
    empty_model,
    head_modules,
    local_device,
    recompute_activations,
    wants_4bit,
)
from evalsuite.llm.loading.quantisation import is_4bit
from evalsuite.llm.loading.source import read_config, resolve_model
from evalsuite.llm.lora.adapters import attach_lora
from evalsuite.llm.lora.budget import lora_facts, target_layers
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.reading.layers import keep_layers
from evalsuite.options import option

# NF4 with double quantisation: 4 bits a weight, an 8-bit scale for 64 of them and a 32-bit one for 256 scales
# (QLoRA, arXiv 2305.14314, section 3: 0.127 bits a weight for the scales)
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW in float32: weight, gradient and two moments
TRAINED_BYTES = 16
# Short rows: attention kernels keep nothing that grows with the square of the length, the plain form would
PROBE_LENGTH = 64
ADAPTED = (".lora_", ".modules_to_save.")  # what peft calls the parts of an adapter
# What a model that writes text is taken to write: only its answers' positions get logits
ANSWER_TOKENS = 16
# At its peak, the cross-entropy of one position holds three float32 numbers an entry of the vocabulary: the
# log-softmax, its gradient and that of the logits
LOGIT_BYTES = 12
GIB = 2**30


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights."""

    trainable: int
    total: int


@dataclass(frozen=True)
class Estimate:
    """What a training will need, worked out from the model's shape alone. All of it on one device.

    lora_r: the adapter's rank, 0 without one. base: the frozen weights. adapter: trained weights with gradients and
    optimizer. activations: what a micro-batch of the token budget keeps for the backward pass. logits: of the answers
    of a model that writes text. checkpoint: one saved state on disk.
    """

    trainable_parameters: int
    total_parameters: int
    lora_r: int
    base_bytes: int
    adapter_bytes: int
    activations_bytes: int
    logits_bytes: int
    checkpoint_bytes: int

    @property
    def memory_bytes(self) -> int:
        """All that is held at the peak, but for kernels' workspaces and fragmentation."""
        return self.base_bytes + self.adapter_bytes + self.activations_bytes + self.logits_bytes


def count_parameters(model: nn.Module) -> Parameters:
    """Count weights as the architecture has them: a 4-bit tensor stores two a byte and reports half.

    peft keeps the untrained original of every saved module; it is not counted. An adapter counts as trainable, even
    where it was loaded to predict.
    """
    trainable = total = 0
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        size = parameter.numel() * (2 * parameter.element_size() if is_4bit(parameter) else 1)
        total += size
        trainable += size if parameter.requires_grad or any(mark in name for mark in ADAPTED) else 0
    return Parameters(trainable, total)


def model_facts(backbone: Backbone, options: object) -> dict[str, Any]:
    """What a result says of a model: its size and precision, and what ``lora_facts`` says of its adapter."""
    parameters = count_parameters(backbone.model)
    return {
        "trainable_parameters": parameters.trainable,
        "total_parameters": parameters.total,
        "attn_implementation": backbone.attn_implementation,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "quantised": backbone.quantised,
        **lora_facts(backbone.model, options),
    }


def estimate_training(
    model: ModelOptions, lora: LoraOptions | None, training: TrainingOptions, device: str, labels: int | None = None
) -> dict[str, int]:
    """``estimate`` for a device of this machine, as a plain dict with ``memory_bytes``: what a preflight returns.

    Raises:
        ModelError: the model is absent or gated, or the device is not there.
        OptionError: a budget that no LoRA rank can meet, or a layer that the model does not have.
    """
    found = estimate(model, lora, training, local_device(device).type, labels)
    return {**asdict(found), "memory_bytes": found.memory_bytes}


def estimate(
    model: ModelOptions, lora: LoraOptions | None, training: TrainingOptions, kind: str, labels: int | None = None
) -> Estimate:
    """Work out a training's memory on the meta device: the architecture is built, no weight is fetched or allocated.

    Args:
        model: with ``layer``, where its options have one, the layers above are left out.
        lora: the adapter; None: all weights are trained.
        training: the token budget, and whether activations are recomputed.
        kind: "cpu" or "cuda". A GPU need not be there: one that computes in bfloat16 is taken for granted then.
        labels: the number of classes of a classification head, None for a model that writes text.

    Raises:
        ModelError: the model is absent or gated.
        OptionError: a budget that no LoRA rank can meet, or a layer that the model does not have.
    """
    backbone = _skeleton(model, kind, labels, whole=lora is None)
    linear = target_layers(backbone.model, "all-linear", backbone.head).values()
    packed = {id(layer.weight) for layer in linear} if backbone.quantised else set()
    if lora is not None:
        attach_lora(backbone, lora, modules_to_save=backbone.head)
    parameters = count_parameters(backbone.model)
    activations = whole = _kept_bytes(backbone, training.token_budget)
    if training.recomputes(kind):
        recompute_activations(backbone.model, True)
        # the inputs of all layers, and everything of the one that is being recomputed
        layers = backbone.model.config.get_text_config().num_hidden_layers
        activations = _kept_bytes(backbone, training.token_budget) + whole // layers
    documents = max(1, training.token_budget // model.max_length)
    vocabulary = backbone.model.config.get_text_config().vocab_size
    return Estimate(
        trainable_parameters=parameters.trainable,
        total_parameters=parameters.total,
        lora_r=backbone.model.peft_config["default"].r if lora else 0,
        base_bytes=_base_bytes(backbone, packed),
        # weights kept in float32 for the optimizer are cast for the arithmetic
        adapter_bytes=parameters.trainable * (TRAINED_BYTES + (backbone.dtype.itemsize if backbone.mixed else 0)),
        activations_bytes=activations,
        logits_bytes=0 if labels else documents * ANSWER_TOKENS * vocabulary * LOGIT_BYTES,
        checkpoint_bytes=parameters.trainable * 16,  # weights, best weights and two moments
    )


def _skeleton(options: ModelOptions, kind: str, labels: int | None, whole: bool) -> Backbone:
    """The model on the meta device; with ``whole``, all of its weights are to be trained."""
    config, device = read_config(options), torch.device(kind)
    absent = kind == "cuda" and not torch.cuda.is_available()
    dtype = torch.bfloat16 if absent and options.dtype == "auto" else compute_dtype(options, device)
    architecture: Any = AutoModelForCausalLM
    if labels is not None:
        architecture, config.num_labels = AutoModelForSequenceClassification, labels
    config.pad_token_id = 0
    model = empty_model(architecture, options, config, dtype)
    quantised = not whole and wants_4bit(options, device)
    # peft and autograd see the meta device; ``device`` only tells what the run would do there
    backbone = Backbone(model, None, device, resolve_model(options.model)[0], None, quantised, "", dtype)
    backbone.head = head_modules(model) if labels is not None else ()
    backbone.mixed = whole and dtype != torch.float32
    layer = getattr(options, "layer", None)
    if isinstance(layer, int):
        keep_layers(backbone, layer)
    return backbone


def _base_bytes(backbone: Backbone, packed: set[int]) -> int:
    """Bytes of the frozen weights: ``packed`` ones (their ids) in NF4, everything else in the base's precision."""
    size: float = sum(
        parameter.numel() * (NF4_BYTES if id(parameter) in packed else backbone.dtype.itemsize)
        for name, parameter in backbone.model.named_parameters()
        if not parameter.requires_grad and ".original_module." not in name
    )
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


def estimate_inference(model: ModelOptions, token_budget: int, device: str) -> dict[str, int]:
    """Bytes that reading takes, without training: the frozen base, and a layer's states for ``token_budget`` tokens.

    The states are a rough figure: attention's eight and the MLP's three tensors of one layer, all held at once.

    Raises:
        ModelError: the model is absent or gated, or the device is not there.
        OptionError: ``model`` has a ``layer`` that the model does not have.
    """
    where, config = local_device(device), read_config(model)
    dtype, quantised = compute_dtype(model, where), wants_4bit(model, where)
    base = empty_model(AutoModel, model, config, dtype)
    backbone = Backbone(base.requires_grad_(False), None, where, model.model, None, quantised, "", dtype)
    if isinstance(layer := getattr(model, "layer", None), int):
        keep_layers(backbone, layer)
    packed = {id(module.weight) for module in base.modules() if isinstance(module, nn.Linear)} if quantised else set()
    text = config.get_text_config()
    wide = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    states = token_budget * (8 * text.hidden_size + 3 * wide) * dtype.itemsize
    found = {"base_bytes": _base_bytes(backbone, packed), "activations_bytes": states}
    return {"total_parameters": count_parameters(base).total, **found, "memory_bytes": sum(found.values())}


class Plan(ModelOptions, LoraOptions, TrainingOptions):
    """The options of a training that its memory depends on."""

    layer: int | None = option(None, "embedding: the layer to read; those above are dropped", ge=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's first lines. Every option of the methods is a flag."""
    from evalsuite.llm.loading.shapes import SHAPES, write_shape

    parser = argparse.ArgumentParser(
        prog="python -m evalsuite.llm.training.footprint", description="memory that training takes"
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), help="a published shape, in place of --model")
    parser.add_argument("--method", choices=("embedding", "instruction"), required=True)
    parser.add_argument("--labels", type=int, default=14, help="classes of the embedding's head")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="need not be there")
    for name, field in Plan.model_fields.items():
        parser.add_argument(f"--{name}", help=(field.description or "").replace("%", "%%"))
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    shape, method, labels, device = (given.pop(name, None) for name in ("shape", "method", "labels", "device"))
    try:
        with TemporaryDirectory() as folder:
            if shape:
                given["model"] = str(write_shape(shape, Path(folder) / shape))
            plan = Plan.model_validate(given)
            found = estimate(plan, plan, plan, device, labels if method == "embedding" else None)
    except (EvalsuiteError, ValueError) as error:  # pydantic's errors are ValueErrors
        parser.error(str(error))
    sys.stdout.write(_table(f"{shape or plan.model}, {method}, {device}", found))


def _table(title: str, found: Estimate) -> str:
    sizes = {name.removesuffix("_bytes"): size for name, size in asdict(found).items() if name.endswith("_bytes")}
    rows = [(name, size) for name, size in sizes.items() if name != "checkpoint"] + [("total", found.memory_bytes)]
    lines = [f"{name:<12}{size / GIB:>8.2f} GiB" for name, size in rows]
    rank = f", rank {found.lora_r}" if found.lora_r else ""
    return "\n".join(
        [
            title,
            f"{found.trainable_parameters:,} trainable of {found.total_parameters:,} parameters{rank}",
            *lines,
            "An estimate from the shape alone; kernels' workspaces and fragmentation come on top.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
