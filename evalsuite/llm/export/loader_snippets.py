"""Code that stands beside an exported model: loads it with plain libraries and defines ``score(texts)``.

``score`` gives logits, a numpy array with one row a text and one column a label. Models that write their answers define
``classify(texts)`` instead. Every snippet runs in the folder it describes; ``decision`` is what the file decision.json
there holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalsuite.llm.answering import Answerer
from evalsuite.llm.classifier import TextClassifier
from evalsuite.llm.export.frozen_snippet import BIDIRECTIONAL
from evalsuite.llm.export.snippets import CAST, FLOAT, LAYERS, PREPARE, loading_arguments
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.options import ModelOptions
from evalsuite.prompts import PromptEncoder

START = """\
# pip install {packages}
import json
from pathlib import Path

import numpy as np
{imports}

folder = Path(".")  # where this model lies
decision = json.loads((folder / "decision.json").read_text(encoding="utf-8"))
"""
DEVICE = 'device = "cuda" if torch.cuda.is_available() else "cpu"\n'
TOKENIZER = "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
BASE = """\
base = {architecture}.from_pretrained(
    {name},
    {arguments},
){place}.eval()
"""
PAD = "base.config.get_text_config().pad_token_id = tokenizer.pad_token_id\n"
ADAPTER = "model = PeftModel.from_pretrained(base, folder).eval()\n"
WHOLE = "{variable} = {architecture}.from_pretrained(folder{trust}).to(device).eval()\n"
PIPELINE = """\
model = pipeline("text-classification", model=str(folder){trust}, top_k=None, function_to_apply="none")


def score(texts):
    \"\"\"Logits of the labels: one row a text.\"\"\"
    rows = []
    for answer in model(list(texts), truncation=True, split_special_tokens=True):
        logits = {{entry["label"]: entry["score"] for entry in answer}}
        rows.append([logits[label] for label in decision["labels"]])
    return np.array(rows)
"""
TEXT = """

def encode(text):
    \"\"\"Token ids of a text, at most {max_length}.\"\"\"
    cut = tokenizer(text, truncation=True, max_length={max_length}, split_special_tokens=True)
    return cut["input_ids"] or [{lone}]
"""
PROMPT = """
prompt = {prompt!r}
marks = {{str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}}
marks = sorted({{*marks, *tokenizer.all_special_tokens}}, key=len, reverse=True)


def encode(text):
    \"\"\"Token ids of the prompt with a text in it, at most {room}: the text is cut to fit, never the prompt.\"\"\"
    for mark in marks:  # a text cannot contain a special token
        text = text.replace(mark, mark[0] + " " + mark[1:]) if len(mark) > 1 else text
    ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    cut, keep = text, len(ends)
    while True:
        ids = tokenizer(prompt.replace("<text>", cut), add_special_tokens=False)["input_ids"]
        {bos}
        if len(ids) <= {room}:
            return ids
        keep -= len(ids) - {room}
        cut = {cut}
"""
BOS = "ids = ids if ids[:1] == [{bos}] else [{bos}, *ids]"
CUTS = {"right": "text[: ends[keep - 1][1]]", "left": "text[ends[-keep][0] :]"}
SCORE = """

@torch.no_grad()
def score(texts):
    \"\"\"Logits of the labels: one row a text.\"\"\"
    rows = []
    for text in texts:
        ids = torch.tensor([encode(text)], device=device)
        {logits}
        rows.append(logits.float().cpu().numpy())
    return np.stack(rows)
"""
STOCK = "logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]"
HEAD = '\nhead = {name: tensor.to(device) for name, tensor in load_file(folder / "head.safetensors").items()}\n'
STATES = "states = {body}(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].float()"
POOLS = {  # of one text: states [t, h]
    "last": "pooled = states[-1]",
    "cls": "pooled = states[0]",
    "mean": "pooled = states.mean(0)",
    "max": "pooled = states.amax(0)",
    "attention": 'pooled = (states @ head["query"] / len(head["query"]) ** 0.5).softmax(0) @ states',
}
ONNX = """\
session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
"""
RUN = """

def score(texts):
    \"\"\"Logits of the labels: one row a text.\"\"\"
    rows = []
    for text in texts:
        ids = np.array([encode(text)], dtype=np.int64)
        (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        rows.append(logits[0])
    return np.stack(rows)
"""


def start(*libraries: str, torch: bool = True) -> str:
    """Imports, the folder and its decision; with torch also the device."""
    lines = (["import torch"] if torch else []) + list(libraries)
    return opening(lines) + (DEVICE if torch else "") + TOKENIZER


def opening(imports: Sequence[str], *unseen: str) -> str:
    """What every snippet begins with: its import statements, and the packages of these and the ``unseen`` ones."""
    packages = [*unseen, *(line.split()[1].partition(".")[0] for line in imports)]
    if any("BitsAndBytesConfig" in line for line in imports):
        packages += ["accelerate", "bitsandbytes"]
    return START.format(packages=" ".join(packages), imports="\n".join(imports))


def base_source(
    backbone: Backbone, options: ModelOptions, architecture: str, name: str, more: Sequence[str] = ()
) -> str:
    """Load the base as training held it; ``name`` is an expression, ``more`` are further arguments."""
    unquantised = backbone.head or (["pooler"] if architecture == "AutoModel" else [])
    arguments = [*more, *loading_arguments(backbone, options, unquantised)]
    if backbone.quantised:
        arguments.append('device_map={"": device}')
    place = "" if backbone.quantised else ".to(device)"
    source = BASE.format(architecture=architecture, name=name, arguments=",\n    ".join(arguments), place=place)
    return source + (PREPARE if backbone.quantised else "")


def shaped(layer: int | None = None, bidirectional: bool = False) -> str:
    """What was changed of the base: layers above ``layer`` dropped, attention to both sides."""
    return (LAYERS.format(layer=layer) if layer is not None else "") + (BIDIRECTIONAL if bidirectional else "")


def float_heads(backbone: Backbone) -> str:
    """A head in float32 on a base that is not."""
    source = "".join(FLOAT.format(name=name) for name in backbone.head)
    if str(backbone.dtype) != "torch.float32":
        source += "".join(CAST.format(name=name) for name in backbone.head)
    return source


def whole_source(architecture: str, options: ModelOptions, variable: str = "model") -> str:
    """Load the folder itself as a model."""
    return WHOLE.format(variable=variable, architecture=architecture, trust=trusting(options))


def trusting(options: ModelOptions) -> str:
    return ", trust_remote_code=True" if options.trust_remote_code else ""


def encode_source(classifier: TextClassifier) -> str:
    """The function ``encode``, from a text to token ids, within the prompt where the model was trained with one."""
    tokenizer, length = classifier.backbone.tokenizer, classifier.max_length
    if classifier.prompts is not None:
        return prompt_source(classifier.prompts, length, str(classifier.options.truncation_side))
    lone = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.pad_token_id
    return TEXT.format(max_length=length, lone=lone)


def prompt_source(encoder: PromptEncoder, room: int, side: str) -> str:
    """The function ``encode``, from a text to the token ids of its prompt, at most ``room``."""
    bos = "# the prompt begins as it is" if encoder.bos is None else BOS.format(bos=encoder.bos)
    return PROMPT.format(prompt=encoder.prompt_text("<text>"), room=room, bos=bos, cut=CUTS[side])


def pooled_source(body: str, pooling: str, *, bias: bool = False, normalize: bool = False) -> str:
    """``score`` by the head in ``head.safetensors`` on the pooled states of ``body``, an expression."""
    lines = [STATES.format(body=body), POOLS[pooling]]
    if normalize:
        lines.append("pooled = torch.nn.functional.normalize(pooled, dim=0)")
    lines.append('logits = head["weight"] @ pooled' + (' + head["bias"]' if bias else ""))
    return HEAD + SCORE.format(logits="\n        ".join(lines))


ANSWERS = """
# The token ids of each label's answer, end mark included, in the order of the labels.
answers = {answers!r}


@torch.no_grad()
def score(texts):
    \"\"\"Log-likelihood of every label's answer, in nats: one row a text.\"\"\"
    rows = []
    for text in texts:
        ids, row = encode(text), []
        for answer in answers:
            read = torch.tensor([ids + answer], device=device)
            logits = model(input_ids=read).logits[0, len(ids) - 1 : -1].float()
            row.append(logits.log_softmax(-1)[range(len(answer)), answer].sum().item())
        rows.append(row)
    return np.array(rows){divided}
"""
QUESTIONS = """
# The token ids of the question about each label, in the order of the labels, and of the two answers to it.
questions = {questions!r}
yes, no = {yes!r}, {no!r}


def log_probability(ids, answer):
    \"\"\"Of an answer after a prompt, in nats.\"\"\"
    read = torch.tensor([ids + answer], device=device)
    logits = model(input_ids=read).logits[0, len(ids) - 1 : -1].float()
    return logits.log_softmax(-1)[range(len(answer)), answer].sum().item()


@torch.no_grad()
def score(texts):
    \"\"\"Log-odds of yes against no for every label: one row a text.\"\"\"
    rows = []
    for text in texts:
        asked = [encode(text) + question for question in questions]
        rows.append([log_probability(ids, yes) - log_probability(ids, no) for ids in asked])
    return np.array(rows)
"""
WRITTEN = """
# Token ids: of each label where it opens an answer and where it follows another, of no label, and of the end mark.
first = {first!r}
later = {later!r}
none, end = {none!r}, {end}


def following(written, room, last=-1):
    \"\"\"The tokens that may follow in an answer, after label number ``last``, with ``room`` tokens left.\"\"\"
    segments = list(enumerate(first)) + [(len(first), none)] if last < 0 else list(enumerate(later))[last + 1 :]
    found = set()
    for label, segment in segments:
        if not segment or written[: len(segment)] != segment[: len(written)]:
            continue
        if len(written) < len(segment):
            found.add(segment[len(written)])
        elif len(written) > len(segment):
            found |= following(written[len(segment) :], room, label)
        else:
            found.add(end)
            if all(len(other) < room for other in later[label + 1 :]):
                found |= following([], room, label)
    return found


def labels_of(written, last=-1):
    \"\"\"The numbers of the labels in a whole answer; None where it cannot be read on from here.\"\"\"
    if not written:
        return []
    for label, segment in list(enumerate(first)) if last < 0 else list(enumerate(later))[last + 1 :]:
        if written[: len(segment)] == segment:
            rest = labels_of(written[len(segment) :], label)
            if rest is not None:
                return [label, *rest]
    return None


@torch.no_grad()
def classify(texts):
    \"\"\"The labels that the model writes for each text; it gives no probabilities.\"\"\"
    found = []
    for text in texts:
        ids = torch.tensor([encode(text)], device=device)

        def allowed(row, seen, start=ids.shape[1]):
            written = seen[start:].tolist()
            return sorted(following(written, {room} - len(written))) or [end]

        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens={room},
            do_sample=False,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
            prefix_allowed_tokens_fn=allowed,
        )
        written = made[0, ids.shape[1] :].tolist()[:-1]
        labels = [] if written == none else labels_of(written)
        found.append(([decision["labels"][label] for label in labels or []], None))
    return found
"""


def answer_source(answerer: Answerer) -> str:
    """``encode``, and ``score``, or ``classify`` where answers are written."""
    encoder, decode = answerer.encoder, answerer.decode
    room = answerer.max_length - answerer.reserve
    source = prompt_source(encoder, room, answerer.config.truncation_side)
    if decode == "score":
        divided = f" / np.array({answerer.divisors!r})" if answerer.divisors else ""
        return source + ANSWERS.format(answers=encoder.candidates, divided=divided)
    if decode == "per_label":
        yes, no = encoder.yes_no_ids
        return source + QUESTIONS.format(questions=encoder.question_ids, yes=yes, no=no)
    multilabel = encoder.prompts.multilabel
    return source + WRITTEN.format(
        first=encoder.first,
        later=encoder.later if multilabel else [],
        none=encoder.none if multilabel else [],
        end=encoder.end,
        room=answerer.reserve,
    )
