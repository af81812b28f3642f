"""Code for a model card: what a reader needs to use a saved adapter with transformers and peft alone."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.llm.classifier import TextClassifier
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.options import ModelOptions

CLASSIFIER = """\
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer{more_imports}

text = "Text to classify."
labels = {labels!r}
tokenizer = AutoTokenizer.from_pretrained("adapter")
base = AutoModelForSequenceClassification.from_pretrained(
    {name!r},
    {arguments},
)
base.config.get_text_config().pad_token_id = tokenizer.pad_token_id
{prepare}model = PeftModel.from_pretrained(base, "adapter").eval()
{read}
batch = {{name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}}
with torch.no_grad():
    {logits}
{answer}
"""
MODEL = """\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

text = "Text to classify."
labels = {labels!r}
tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoModelForSequenceClassification.from_pretrained({arguments}).eval()
{read}
batch = {{name: batch[name] for name in ("input_ids", "attention_mask")}}
with torch.no_grad(){autocast}:
    logits = model(**batch).logits
{answer}
"""
TEXT = """\
batch = tokenizer(
    [text],
    truncation=True,
    max_length={max_length},
    padding=True,
    split_special_tokens=True,
    return_tensors="pt",
)"""
PROMPT = """\
# A document too long for {max_length} tokens with its prompt is to be cut, never the prompt.
prompt = {prompt!r}.replace("<text>", text)
batch = tokenizer([{bos}prompt], add_special_tokens=False, return_tensors="pt")"""
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
LAYERS = """stack = next(m for m in base.modules() if isinstance(m, torch.nn.ModuleList))
del stack[{layer}:]  # the head reads layer {layer}
base.config.get_text_config().num_hidden_layers = {layer}
"""
FLOAT = "base.get_submodule({name!r}).float()  # the head was trained in float32\n"
CAST = (
    "base.get_submodule({name!r}).register_forward_pre_hook(lambda module, states: (states[0].float(), *states[1:]))\n"
)
STOCK = "logits = model(**batch).logits"
STATES = """head = {{name: tensor.to(model.device) for name, tensor in load_file("adapter/head.safetensors").items()}}
    states = base.base_model(**batch).last_hidden_state.float()
    mask = batch["attention_mask"].unsqueeze(-1)
    {pool}
    logits = pooled @ head["weight"].T"""
POOLS = {
    "mean": "pooled = (states * mask).sum(1) / mask.sum(1)",
    "max": "pooled = states.masked_fill(mask == 0, -torch.inf).amax(1)",
    "attention": """scores = (states @ head["query"] / len(head["query"]) ** 0.5).unsqueeze(-1)
    pooled = (scores.masked_fill(mask == 0, -torch.inf).softmax(1) * states).sum(1)""",
}
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


def base_tokenizer(backbone: Backbone, options: ModelOptions) -> list[str]:
    """Arguments of ``from_pretrained``, as source, that load the base's own tokenizer."""
    arguments = [repr(backbone.name)]
    if backbone.revision:
        arguments.append(f"revision={backbone.revision!r}")
    if options.trust_remote_code:
        arguments.append("trust_remote_code=True")
    return arguments


def classifier_snippet(classifier: TextClassifier, options: ModelOptions, layer: int | None = None) -> str:
    """Python that loads the folder ``adapter`` of the current directory and classifies one text.

    Last-token logits and an encoder's are the stock model's own; other poolings take the head from
    ``head.safetensors``. ``layer`` is the last layer that was kept.
    """
    backbone, labels, pooling = classifier.backbone, classifier.ctx.labels, classifier.pooling
    arguments = [f"num_labels={len(labels)}", *loading_arguments(backbone, options, unquantised=backbone.head)]
    own_head = pooling in POOLS
    more_imports = ", BitsAndBytesConfig" if backbone.quantised else ""
    if own_head:
        more_imports += "\nfrom safetensors.torch import load_file"
    prepare = PREPARE if backbone.quantised else ""
    if layer is not None:
        prepare += LAYERS.format(layer=layer)
    if not own_head:
        prepare += "".join(FLOAT.format(name=name) for name in backbone.head)
        if str(backbone.dtype) != "torch.float32":
            prepare += "".join(CAST.format(name=name) for name in backbone.head)
    return CLASSIFIER.format(
        more_imports=more_imports,
        labels=list(labels),
        name=backbone.name,
        arguments=",\n    ".join(arguments),
        prepare=prepare,
        read=reading(classifier),
        logits=STATES.format(pool=POOLS[pooling]) if own_head else STOCK,
        answer=MULTI if classifier.ctx.multilabel else SINGLE,
    )


def model_snippet(classifier: TextClassifier, options: ModelOptions) -> str:
    """Python that loads the folder ``model`` of the current directory, a whole classifier, and classifies one text."""
    backbone = classifier.backbone
    arguments = '"model", trust_remote_code=True' if options.trust_remote_code else '"model"'
    # the weights are float32, and were trained and scored in this arithmetic
    autocast = f", torch.autocast(model.device.type, {backbone.dtype})" if backbone.mixed else ""
    return MODEL.format(
        labels=list(classifier.ctx.labels),
        arguments=arguments,
        read=reading(classifier),
        autocast=autocast,
        answer=MULTI if classifier.ctx.multilabel else SINGLE,
    )


def reading(classifier: TextClassifier) -> str:
    """From ``text`` to ``batch``, within the prompt where the model was trained with one."""
    encoder = classifier.prompts
    if encoder is None:
        return TEXT.format(max_length=classifier.max_length)
    prompt, mark = encoder.prompt_text("<text>"), classifier.backbone.tokenizer.bos_token
    # a chat template may print the mark itself
    bos = f"{mark!r} + " if encoder.bos is not None and not prompt.startswith(mark) else ""
    return PROMPT.format(prompt=prompt, bos=bos, max_length=classifier.max_length)
