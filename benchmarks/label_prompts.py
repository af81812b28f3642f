"""Prompts and answers of a corpus by the built-in templates, as text and as token ids: what label scoring and its peers
are asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import Options
from benchmarks.inputs import documents, write_documents
from evalsuite.prompts import PromptEncoder, PromptSet, load_prompts


def label_prompts(corpus: str, labels: list[str], template: str = "listed") -> PromptSet:
    """The built-in template set for a corpus whose documents have one label."""
    return load_prompts(template, task=corpus, labels=labels, multilabel=False, descriptions={}, search=[])


def write_prompts(job: Path, corpus: str, count: int, options: Options, model: Path) -> dict[str, Any]:
    """Write ``documents.jsonl`` and ``prompts.json``, and return the latter.

    texts, ids: of n prompts, all labels listed before the document. gold: n labels by index. labels: k names. answers,
    answer_ids: of k labels; the ids end in the end mark, the text does not.
    """
    from transformers import AutoTokenizer

    found = documents(corpus, count, options.data)
    # the labels are those of the corpus, not of the few documents that are asked about, unless it is only a try
    labels = sorted({one.label for one in (found if options.small else documents(corpus, 5000, options.data))})
    write_documents(job / "documents.jsonl", found)
    prompts = label_prompts(corpus, labels)
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(model), prompts)
    written = {
        "corpus": corpus,
        "labels": labels,
        "gold": [labels.index(one.label) for one in found],
        "texts": [encoder.prompt_text(one.text) for one in found],
        "ids": [encoder.prompt_ids(one.text, max_length=2048)[0] for one in found],
        "answers": [prompts.boundary + answer for answer in prompts.verbalizers],
        "answer_ids": encoder.candidates,
    }
    (job / "prompts.json").write_text(json.dumps(written), encoding="utf-8")
    return written


def read_prompts(job: Path) -> dict[str, Any]:
    """What ``write_prompts`` wrote."""
    found: dict[str, Any] = json.loads((job / "prompts.json").read_text(encoding="utf-8"))
    return found
