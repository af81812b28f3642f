"""Code for a model card: what a reader needs to get answers from a saved adapter with transformers and peft alone."""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.llm.backbone import Backbone
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.snippets import loading_arguments
from evalsuite.prompts import PromptEncoder

START = """\
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer{more_imports}

text = "Text to classify."
prompt = {prompt!r}.replace("<text>", text)
# The token ids of each label's answer, end mark included.
answers = {answers!r}
tokenizer = AutoTokenizer.from_pretrained("adapter")
base = AutoModelForCausalLM.from_pretrained(
    {name!r},
    {arguments},
)
model = PeftModel.from_pretrained(base, "adapter").eval()
{in_place}ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
"""
IN_PLACE = """\
for module in model.modules():  # bitsandbytes would repack 4-bit weights on some CPUs, and fail on narrow layers
    if hasattr(module, "support_avx512bf16_for_cpu"):
        module.support_avx512bf16_for_cpu = False
"""
BOS = """\
if ids[0] != {bos}:
    ids = [{bos}, *ids]
"""
SCORE = """\
scores = {{}}
for label, answer in answers.items():
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + answer], device=model.device)).logits[0, len(ids) - 1 : -1]
    picked = logits.float().log_softmax(dim=-1)[range(len(answer)), answer]
    scores[label] = picked.sum().item(){divided}
print(max(scores, key=scores.get), scores)
"""
WRITE = """\
written = model.generate(
    input_ids=torch.tensor([ids], device=model.device),
    attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=model.device),
    max_new_tokens={max_new_tokens},
    do_sample=False,
    eos_token_id={end},
    pad_token_id=tokenizer.pad_token_id,
)
names = {names!r}
parts = tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True).split({separator!r})
print([names[part.strip()] for part in parts if part.strip() in names])
"""


def answer_snippet(
    backbone: Backbone, options: ModelOptions, encoder: PromptEncoder, divisors: Sequence[float] | None, score: bool
) -> str:
    """Python that loads the folder ``adapter`` of the current directory and classifies one text.

    With ``score`` by the log-likelihood of each label's answer, divided by ``divisors``; else by writing an answer,
    without the grammar that constrained decoding adds: parts that are no label are left out.
    """
    prompts = encoder.prompts
    start = START.format(
        more_imports=", BitsAndBytesConfig" if backbone.quantised else "",
        prompt=encoder.prompt_text("<text>"),
        answers=dict(zip(prompts.labels, encoder.candidates, strict=True)),
        name=backbone.name,
        arguments=",\n    ".join(loading_arguments(backbone, options)),
        in_place=IN_PLACE if backbone.quantised else "",
    )
    if encoder.bos is not None:
        start += BOS.format(bos=encoder.bos)
    if score:
        sizes = dict(zip(prompts.labels, divisors or (), strict=False))
        return start + SCORE.format(divided=f" / {sizes!r}[label]" if sizes else "")
    return start + WRITE.format(
        max_new_tokens=len(encoder.answer_ids(range(len(prompts.labels)) if prompts.multilabel else (0,))) + 8,
        end=encoder.end,
        names=dict(zip(prompts.verbalizers, prompts.labels, strict=True)),
        separator=prompts.separator,
    )
