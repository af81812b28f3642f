"""Code for a model card: what a reader needs to use a saved adapter with transformers and peft alone."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.llm.backbone import Backbone, base_of
from evalsuite.llm.options import ModelOptions


def classifier_snippet(
    backbone: Backbone, options: ModelOptions, labels: Sequence[str], multilabel: bool, pooling: str
) -> str:
    """Python that loads the folder ``adapter`` of the current directory and classifies one text, prompt-free.

    Last-token logits are the stock model's own; mean pooling takes the head from ``head.safetensors``.
    """
    dtype = str(backbone.dtype)
    arguments = [f"num_labels={len(labels)}", f"dtype={dtype}", "pad_token_id=tokenizer.pad_token_id"]
    if backbone.revision:
        arguments.append(f"revision={backbone.revision!r}")
    if options.trust_remote_code:
        arguments.append("trust_remote_code=True")
    lines = ["import torch", "from peft import PeftModel"]
    if pooling == "mean":
        lines.append("from safetensors.torch import load_file")
    names = ["AutoModelForSequenceClassification", "AutoTokenizer"]
    if backbone.quantised:
        names.append("BitsAndBytesConfig")
        arguments.append("quantization_config=nf4")
    lines += [f"from transformers import {', '.join(names)}", "", f"labels = {list(labels)!r}"]
    lines.append('tokenizer = AutoTokenizer.from_pretrained("adapter")')
    if backbone.quantised:
        lines += [
            "nf4 = BitsAndBytesConfig(",
            '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,',
            f'    bnb_4bit_compute_dtype={dtype}, llm_int8_skip_modules=["score"],',
            ")",
        ]
    lines += [
        "base = AutoModelForSequenceClassification.from_pretrained(",
        f"    {backbone.name!r}, {', '.join(arguments)}",
        ")",
        "base.score.float()  # the head was trained in float32",
    ]
    if dtype != "torch.float32":
        lines.append("base.score.register_forward_pre_hook(lambda module, states: states[0].float())")
    lines += ['model = PeftModel.from_pretrained(base, "adapter").eval()', *_PREDICT_START]
    if pooling == "mean":
        lines += _MEAN.format(decoder=base_of(backbone.model).base_model_prefix).splitlines()
    else:
        lines.append("    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits")
    lines.append(_MULTI if multilabel else _SINGLE)
    return "\n".join(lines).replace("MAX_LENGTH", str(options.max_length)) + "\n"


_PREDICT_START = [
    "batch = tokenizer(",
    '    ["Text to classify."], truncation=True, max_length=MAX_LENGTH, padding=True, split_special_tokens=True,',
    '    return_tensors="pt",',
    ").to(model.device)",
    "with torch.no_grad():",
]
_MEAN = """\
    states = base.{decoder}(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state.float()
    mask = batch.attention_mask.unsqueeze(-1).float()
    logits = (states * mask).sum(1) / mask.sum(1) @ load_file("adapter/head.safetensors")["weight"].to(model.device).T"""
_SINGLE = "print(labels[logits[0].argmax()], logits[0].softmax(-1).tolist())"
_MULTI = "print([label for label, logit in zip(labels, logits[0]) if logit > 0], logits[0].sigmoid().tolist())"
