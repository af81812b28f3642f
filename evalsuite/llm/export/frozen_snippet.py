"""Code for a model card: how to use a head on frozen embeddings with transformers and safetensors alone."""

from __future__ import annotations

from evalsuite.llm.embedder import Embedder
from evalsuite.llm.export.snippets import LAYERS, MULTI, PREPARE, SINGLE, base_tokenizer, loading_arguments, reading
from evalsuite.llm.options import ModelOptions

FROZEN = """\
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer{more_imports}

text = "Text to classify."
labels = {labels!r}
tokenizer = AutoTokenizer.from_pretrained({tokenizer})
tokenizer.pad_token = {pad!r}
base = AutoModel.from_pretrained(
    {name!r},
    {arguments},
).eval()
{prepare}{read}
batch = {{name: batch[name].to(base.device) for name in ("input_ids", "attention_mask")}}
head = {{name: tensor.to(base.device) for name, tensor in load_file("head.safetensors").items()}}
with torch.no_grad():
    states = base(**batch, use_cache=False).last_hidden_state.float()
mask = batch["attention_mask"].unsqueeze(-1)
{pool}
{normalize}logits = pooled @ head["weight"].T + head["bias"]
{answer}
"""
BIDIRECTIONAL = "base.config.is_causal = base.config.get_text_config().is_causal = False  # it reads both ways\n"
NORMALIZE = "pooled = torch.nn.functional.normalize(pooled)\n"
POOLS = {  # of one text, which has no padding
    "last": "pooled = states[:, -1]",
    "cls": "pooled = states[:, 0]",
    "mean": "pooled = (states * mask).sum(1) / mask.sum(1)",
    "max": "pooled = states.masked_fill(mask == 0, -torch.inf).amax(1)",
}


def frozen_snippet(embedder: Embedder, options: ModelOptions, layer: int | None) -> str:
    """Python that loads the model and ``head.safetensors`` of the current directory, and classifies one text.

    ``layer`` is the last layer that was kept, None where all were.
    """
    backbone, ctx = embedder.backbone, embedder.ctx
    tokenizer = [*base_tokenizer(backbone, options), f"truncation_side={options.truncation_side!r}"]
    prepare = PREPARE if backbone.quantised else ""
    if layer is not None:
        prepare += LAYERS.format(layer=layer)
    if embedder.bidirectional:
        prepare += BIDIRECTIONAL
    return FROZEN.format(
        more_imports=", BitsAndBytesConfig" if backbone.quantised else "",
        labels=list(ctx.labels),
        tokenizer=", ".join(tokenizer),
        pad=backbone.tokenizer.pad_token,
        name=backbone.name,
        arguments=",\n    ".join(loading_arguments(backbone, options, unquantised=["pooler"])),
        prepare=prepare,
        read=reading(embedder.reader),
        pool=POOLS[embedder.pooling],
        normalize=NORMALIZE if embedder.normalize else "",
        answer=MULTI if ctx.multilabel else SINGLE,
    )
