"""Put a LoRA adapter on a model, save it, and read it back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evalsuite.errors import ModelError
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.loading.quantisation import keep_weights_in_place
from evalsuite.llm.loading.source import first_line
from evalsuite.llm.lora.budget import choose_rank, target_layers
from evalsuite.llm.options import LoraOptions

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def attach_lora(backbone: Backbone, lora: LoraOptions, modules_to_save: Sequence[str] = ()) -> None:
    """Freeze the base and put a trainable low-rank adapter (LoRA, arXiv 2106.09685) on its linear layers.

    ``modules_to_save`` are trained in full and saved with the adapter. ``backbone.model`` becomes a PeftModel.

    Raises:
        ModelError: no layer of the kind that is to get an adapter.
        OptionError: a budget that no rank can meet.
    """
    layers = target_layers(backbone.model, lora.lora_targets, modules_to_save)
    config = LoraConfig(
        task_type=_task_type(backbone.model),
        r=choose_rank(backbone.model, list(layers.values()), lora, modules_to_save),
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        target_modules=list(layers),
        modules_to_save=list(modules_to_save) or None,
        base_model_name_or_path=backbone.name,
        revision=backbone.revision,
    )
    backbone.model = with_adapter(backbone.model, config)
    keep_weights_in_place(backbone.model)


def save_adapter(backbone: Backbone, directory: Path, leave_out: Sequence[str] = ()) -> None:
    """Write the adapter as peft reads it, and the tokenizer. ``leave_out`` names saved modules to keep out of the file.

    No ``config.json`` is written: in an adapter's folder it makes ``AutoModel`` and ``pipeline`` fail.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(backbone.model, save_embedding_layers=False)
    tensors = {
        key: value.detach().cpu().contiguous()
        for key, value in state.items()
        if not any(f".{module}." in key for module in leave_out)
    }
    save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = backbone.model.peft_config["default"]
    saved = copy.copy(config)
    saved.inference_mode = True
    if leave_out:
        # as a classifier's adapter, peft would look for the head in it
        saved.task_type = None
        saved.modules_to_save = [name for name in config.modules_to_save or () if name not in leave_out] or None
    saved.save_pretrained(directory)
    backbone.tokenizer.save_pretrained(directory)


def attach_adapter(backbone: Backbone, directory: Path) -> None:
    """Put a saved adapter on a freshly loaded base, to predict.

    In float32 it is added to the weights, so that a layer is one product again; it stays beside them, to be written
    elsewhere. In 16 bits the sum would be rounded, in 4 bits it cannot be held: there it is computed beside the base.

    Raises:
        ModelError: the folder holds no adapter, its files are cut short, or it belongs to a model of another shape.
    """
    try:
        config = PeftConfig.from_pretrained(directory)
        config.inference_mode = True
        config.base_model_name_or_path = backbone.name  # peft warns where a folder has moved
        tensors = load_file(directory / ADAPTER_WEIGHTS)
        backbone.model = with_adapter(backbone.model, config)
        outcome = set_peft_model_state_dict(backbone.model, tensors)
    except Exception as error:
        raise ModelError(f"cannot read the adapter in {directory}: {first_line(error)}; train it again") from error
    expected = set(get_peft_model_state_dict(backbone.model, save_embedding_layers=False))
    wrong = sorted(expected.symmetric_difference(tensors)) + list(outcome.unexpected_keys)
    if wrong:
        raise ModelError(
            f"the adapter in {directory} does not fit {backbone.name}: {len(wrong)} tensors differ, the first is"
            f" {wrong[0]!r}; load it on the model it was trained on"
        )
    keep_weights_in_place(backbone.model)
    if backbone.dtype == torch.float32 and not backbone.quantised:
        backbone.model.merge_adapter()
    backbone.model.eval()


def set_sides(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    """Have a tokenizer pad on the right and cut texts at ``side``, as is done here, also where it is read again."""
    tokenizer.padding_side, tokenizer.truncation_side = "right", side
    # transformers 5.23 saves the sides that a tokenizer was made with, not those it was given since
    tokenizer.init_kwargs.update(padding_side="right", truncation_side=side)


def with_adapter(model: PreTrainedModel, config: PeftConfig) -> PeftModel:
    """A model with a fresh adapter of this form on it."""
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for an attribute by its old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def _task_type(model: PreTrainedModel) -> TaskType:
    return TaskType.CAUSAL_LM if model.get_output_embeddings() is not None else TaskType.SEQ_CLS
