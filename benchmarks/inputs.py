"""What both sides read: documents, and models of a named shape with random weights.

Shapes of models are Llama's. Random weights do the same arithmetic as trained ones.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.harness import Options

CLASSES = 14  # of patents that are kept, the most frequent


@dataclass(frozen=True)
class Document:
    """A text with one label."""

    text: str
    label: str


def documents(corpus: str, count: int, data: Path | None, seed: int = 0) -> list[Document]:
    """``count`` documents of ``ag_news`` (4 labels), ``patents`` (abstracts, 14 classes) or ``banking77`` (77 intents).

    Drawn from the files in ``data``; without it, from texts that are made up, of a like number of words and labels. A
    corpus with fewer documents is gone through again.
    """
    found = _real(corpus, data) if data is not None else _made_up(corpus)
    Random(seed).shuffle(found)
    return [found[at % len(found)] for at in range(count)]


def _real(corpus: str, data: Path) -> list[Document]:
    if corpus == "ag_news":
        with (data / "ag_news" / "train.csv").open(encoding="utf-8", newline="") as stream:
            names = ("World", "Sports", "Business", "Sci/Tech")
            return [Document(f"{row[1]}. {row[2]}", names[int(row[0]) - 1]) for row in csv.reader(stream)]
    if corpus == "banking77":
        with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as stream:
            return [Document(row["text"], row["category"].replace("_", " ")) for row in csv.DictReader(stream)]
    with (data / "patents" / "us_patents_cpc.jsonl").open(encoding="utf-8") as stream:
        found = [Document(record["text"], record["cpc"][0][:3]) for record in map(json.loads, stream)]
    frequent = dict(Counter(one.label for one in found).most_common(CLASSES))
    return [one for one in found if one.label in frequent]


def _made_up(corpus: str) -> list[Document]:
    from evalsuite.data.synthetic import Difficulty, generate

    sizes = {"ag_news": (4, 20, 60), "patents": (CLASSES, 40, 250), "banking77": (77, 5, 30)}
    labels, shortest, longest = sizes[corpus]
    made = generate(labels, 2000, Difficulty(shortest=shortest, longest=longest), seed=0)
    return [Document(". ".join(one.sentences), f"kind {one.classes[0]}") for one in made]


def write_documents(path: Path, found: Sequence[Document]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(vars(one)) + "\n" for one in found), encoding="utf-8")


def read_documents(path: Path) -> list[Document]:
    """What ``write_documents`` wrote."""
    return [Document(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def own_decoder(folder: Path, options: Options, **more: Any) -> Path:
    """The decoder of the rows about arithmetic: 8 layers of width 384, in a small try 2 of width 64. See ``llama``."""
    size = {"layers": 2, "width": 64} if options.small else {"layers": 8, "width": 384}
    return llama(folder, **size, **more)


def llama(
    folder: Path, *, layers: int, width: int, vocabulary: int | None = None, heads: int | None = None, **more: Any
) -> Path:
    """Write a causal LM of Llama's shape with random weights, float32, and the bundled tokenizer, to ``folder``.

    vocabulary: rows of its embeddings (None: the tokenizer's); heads: of 64 dimensions each unless told; more: further
    fields of transformers' ``LlamaConfig``.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from evalsuite import bundled

    tokenizer = AutoTokenizer.from_pretrained(bundled.path())
    heads = heads or max(1, width // 64)
    settings: Mapping[str, Any] = {
        "num_key_value_heads": heads,
        "intermediate_size": width * 8 // 3 // 64 * 64,
        "max_position_embeddings": 4096,
        "initializer_range": 0.05,
    }
    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**settings, **more},
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
