"""Code for a model card: what a reader needs to get answers with transformers, and peft where there is an adapter."""

from __future__ import annotations

from collections.abc import Sequence

from peft import PeftModel

from evalsuite.llm.answering import Answerer
from evalsuite.llm.export.snippets import base_tokenizer, loading_arguments

START = """\
import torch
{peft}from transformers import AutoModelForCausalLM, AutoTokenizer{more_imports}

text = "Text to classify."
prompt = {prompt!r}.replace("<text>", text)
tokenizer = AutoTokenizer.from_pretrained({tokenizer})
model = AutoModelForCausalLM.from_pretrained(
    {name!r},
    {arguments},
).eval()
{adapter}{in_place}ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
"""
ADAPTER = 'model = PeftModel.from_pretrained(model, "adapter").eval()\n'
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
# The token ids of each label's answer, end mark included.
answers = {answers!r}
scores = {{}}
for label, answer in answers.items():
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + answer], device=model.device)).logits[0, len(ids) - 1 : -1]
    picked = logits.float().log_softmax(dim=-1)[range(len(answer)), answer]
    scores[label] = picked.sum().item(){divided}{calibrated}
print(max(scores, key=scores.get), scores)
"""
PER_LABEL = """\
# The token ids of the question about each label, and of the two answers to it.
questions = {questions!r}
yes, no = {yes!r}, {no!r}


def log_probability(question, answer):
    read = ids + question + answer[:-1]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([read], device=model.device)).logits[0, -len(answer) :]
    return logits.float().log_softmax(dim=-1)[range(len(answer)), answer].sum()


labels = list(questions)
log_odds = [log_probability(question, yes) - log_probability(question, no) for question in questions.values()]
logits = torch.stack(log_odds){calibrated}
{answer}
"""
SINGLE = """\
probabilities = dict(zip(labels, logits.softmax(-1).tolist()))
print(max(probabilities, key=probabilities.get), probabilities)"""
MULTI = """\
probabilities = dict(zip(labels, logits.sigmoid().tolist()))
print([label for label in labels if probabilities[label] > 0.5], probabilities)"""
WRITE = """\
written = model.generate(
    input_ids=torch.tensor([ids], device=model.device),
    attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=model.device),
    max_new_tokens={max_new_tokens},
    do_sample=False,
    eos_token_id={end},
    pad_token_id={pad},
)
names = {names!r}
parts = tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True).split({separator!r})
print([names[part.strip()] for part in parts if part.strip() in names])
"""


def answer_snippet(answerer: Answerer, bias: Sequence[float] = ()) -> str:
    """Python that loads the model, with the folder ``adapter`` of the current directory where it has an adapter.

    It classifies one text by the log-likelihood of each label's answer, by yes or no to each label, or by writing an
    answer, without the grammar that constrained decoding adds: parts that are no label are left out. ``bias`` [k] is
    taken off the logits (contextual calibration).
    """
    backbone, encoder, prompts = answerer.backbone, answerer.encoder, answerer.encoder.prompts
    adapted = isinstance(backbone.model, PeftModel)
    start = START.format(
        peft="from peft import PeftModel\n" if adapted else "",
        tokenizer='"adapter"' if adapted else ", ".join(base_tokenizer(backbone, answerer.config)),
        adapter=ADAPTER if adapted else "",
        more_imports=", BitsAndBytesConfig" if backbone.quantised else "",
        prompt=encoder.prompt_text("<text>"),
        name=backbone.name,
        arguments=",\n    ".join(loading_arguments(backbone, answerer.config)),
        in_place=IN_PLACE if backbone.quantised else "",
    )
    if encoder.bos is not None:
        start += BOS.format(bos=encoder.bos)
    if answerer.decode == "score":
        answers = dict(zip(prompts.labels, encoder.candidates, strict=True))
        sizes = dict(zip(prompts.labels, answerer.divisors or (), strict=False))
        biases = dict(zip(prompts.labels, bias, strict=False))
        return start + SCORE.format(
            answers=answers,
            divided=f" / {sizes!r}[label]" if sizes else "",
            calibrated=f" - {biases!r}[label]" if biases else "",
        )
    if answerer.decode == "per_label":
        yes, no = encoder.yes_no_ids
        questions = dict(zip(prompts.labels, encoder.question_ids, strict=True))
        answer = MULTI if prompts.multilabel else SINGLE
        calibrated = f" - torch.tensor({list(bias)!r}, device=model.device)" if bias else ""
        return start + PER_LABEL.format(questions=questions, yes=yes, no=no, calibrated=calibrated, answer=answer)
    return start + WRITE.format(
        max_new_tokens=len(encoder.answer_ids(range(len(prompts.labels)) if prompts.multilabel else (0,))) + 8,
        end=encoder.end,
        pad=backbone.tokenizer.pad_token_id,
        names=dict(zip(prompts.verbalizers, prompts.labels, strict=True)),
        separator=prompts.separator,
    )
