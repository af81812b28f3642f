"""Code for a model card: what a reader needs to use a saved adapter with transformers and peft alone."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.llm.backbone import Backbone, base_of, longest_input
from evalsuite.llm.options import ModelOptions

CLASSIFIER = """\
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer{more_imports}

labels = {labels!r}
tokenizer = AutoTokenizer.from_pretrained("adapter")
base = AutoModelForSequenceClassification.from_pretrained(
    {name!r},
    {arguments},
)
base.config.get_text_config().pad_token_id = tokenizer.pad_token_id
{prepare}base.score.float()  # the head was trained in float32
{cast}model = PeftModel.from_pretrained(base, "adapter").eval()
batch = tokenizer(
    ["Text to classify."],
    truncation=True,
    max_length={max_length},
    padding=True,
    split_special_tokens=True,
    return_tensors="pt",
).to(model.device)
batch = {{name: batch[name] for name in ("input_ids", "attention_mask")}}
with torch.no_grad():
    {logits}
{answer}
"""
NF4 = """BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype={dtype},{more}
    )"""

PREPARE = """for layer in base.modules():
    if hasattr(layer, "support_avx512bf16_for_cpu"):
        layer.support_avx512bf16_for_cpu = False  # keep 4-bit weights as they were trained on, on every CPU
"""
CAST = "base.score.register_forward_pre_hook(lambda module, states: (states[0].float(),))\n"
LAST = "logits = model(**batch).logits"
MEAN = """head = load_file("adapter/head.safetensors")["weight"].to(model.device)
    states = base.{decoder}(**batch).last_hidden_state.float()
    mask = batch["attention_mask"].unsqueeze(-1).float()
    logits = (states * mask).sum(1) / mask.sum(1) @ head.T"""
SINGLE = "print(labels[logits[0].argmax()], logits[0].softmax(-1).tolist())"
MULTI = "print([label for label, logit in zip(labels, logits[0]) if logit > 0], logits[0].sigmoid().tolist())"


def loading_arguments(backbone: Backbone, options: ModelOptions, unquantised: Sequence[str] = ()) -> list[str]:
    """Arguments of ``from_pretrained``, as source, that hold the base as training held it.

    ``unquantised`` names modules that stay in full precision where the base is in 4-bit.
    """
    arguments = [f"dtype={backbone.dtype}"]
    if backbone.revision:
        arguments.append(f"revision={backbone.revision!r}")
    if options.trust_remote_code:
        arguments.append("trust_remote_code=True")
    if backbone.quantised:
        more = f"\n        llm_int8_skip_modules={list(unquantised)!r}," if unquantised else ""
        arguments.append(f"quantization_config={NF4.format(dtype=backbone.dtype, more=more)}")
    return arguments


def classifier_snippet(
    backbone: Backbone, options: ModelOptions, labels: Sequence[str], multilabel: bool, pooling: str
) -> str:
    """Python that loads the folder ``adapter`` of the current directory and classifies one text.

    Last-token logits are the stock model's own; mean pooling takes the head from ``head.safetensors``.
    """
    arguments = [f"num_labels={len(labels)}", *loading_arguments(backbone, options, unquantised=["score"])]
    more_imports = ", BitsAndBytesConfig" if backbone.quantised else ""
    if pooling == "mean":
        more_imports += "\nfrom safetensors.torch import load_file"
    return CLASSIFIER.format(
        more_imports=more_imports,
        labels=list(labels),
        name=backbone.name,
        arguments=",\n    ".join(arguments),
        prepare=PREPARE if backbone.quantised else "",
        cast=CAST if pooling == "last" and str(backbone.dtype) != "torch.float32" else "",
        max_length=longest_input(backbone, options.max_length),
        logits=LAST if pooling == "last" else MEAN.format(decoder=base_of(backbone.model).base_model_prefix),
        answer=MULTI if multilabel else SINGLE,
    )
