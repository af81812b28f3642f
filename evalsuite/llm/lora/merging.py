"""One plain model out of a base and its adapter, for libraries that know neither adapters nor 4-bit weights."""

from __future__ import annotations

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from evalsuite.errors import ModelError
from evalsuite.llm.loading.backbone import Backbone, quiet
from evalsuite.llm.loading.source import first_line
from evalsuite.llm.lora.adapters import with_adapter

# Names as ``--dtype`` spells them; "auto": that of the run's weights, of those that were not in 4-bit.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def merged(backbone: Backbone, dtype: str) -> PreTrainedModel:
    """The backbone's model with its adapter worked in, every weight in ``dtype``; the backbone cannot be used after it.

    A 4-bit base is dequantised first: the adapter was trained on those weights, and on the original ones it shifts
    logits by more than ten times as much (0.11 to 0.13 against 0.004 to 0.006, measured on a small QLoRA run). The sum
    is made in float32 and rounded once.

    Raises:
        ModelError: weights quantised in a way that cannot be undone.
    """
    model, adapter = backbone.model, None
    if isinstance(model, PeftModel):
        adapter = model.peft_config["default"], get_peft_model_state_dict(model, save_embedding_layers=False)
        if any(isinstance(layer, LoraLayer) and layer.merged for layer in model.modules()):
            model.unmerge_adapter()
        model = model.unload()
    if backbone.quantised:
        try:
            with quiet(bars=False):
                model = model.dequantize(torch.float32)
        except (NotImplementedError, ValueError, AttributeError) as error:
            raise ModelError(
                f"the weights of {backbone.name} cannot be dequantised ({first_line(error)}); use --adapter"
            ) from error
    model = model.float()
    if adapter is not None:
        config, tensors = adapter
        carrier = with_adapter(model, config)
        set_peft_model_state_dict(carrier, tensors)
        model = carrier.merge_and_unload(safe_merge=True)
    own = torch.float32 if backbone.mixed else backbone.dtype
    plain: PreTrainedModel = model.to(DTYPES.get(dtype, own)).eval()
    return plain
