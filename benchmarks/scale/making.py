"""What the stages of several curves read: documents of any number, label names, small models and their methods."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.inputs import documents, llama
from benchmarks.scale.measuring import Inputs
from evalsuite.contracts import Example, RunContext
from evalsuite.progress import Silent

QUALITIES = "red blue late early open closed loud calm cheap costly plain rare warm cold quick slow small large old new"
THINGS = (
    "refund card transfer fee account branch statement loan rate limit transaction exchange payment deposit cheque"
    " password address phone device app currency balance interest mortgage insurance"
)
LONGEST = 4_096  # tokens
LABELS = ("World", "Sports", "Business", "Sci/Tech")


def write_documents(count: int, inputs: Inputs) -> Path:
    """A table of ``count`` news items with 4 classes, each with its number at its end, so that no two are alike."""
    path = inputs.folder / f"documents-{count}.jsonl"
    if not path.is_file():
        rows = enumerate(documents("ag_news", count, inputs.data))
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps({"text": f"{row.text} {at}", "label": row.label}) + "\n" for at, row in rows)
    return path


def examples(count: int, inputs: Inputs) -> list[Example]:
    """These documents as examples."""
    with write_documents(count, inputs).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    place = {name: at for at, name in enumerate(sorted({row["label"] for row in rows}))}
    return [Example(f"row-{at}", row["text"], (place[row["label"]],)) for at, row in enumerate(rows)]


def label_names(count: int) -> tuple[str, ...]:
    """``count`` names of two words."""
    return tuple(f"{quality} {thing}" for thing in THINGS.split() for quality in QUALITIES.split())[:count]


def scores(n: int, k: int, seed: int = 0) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Gold labels [n, k], the same for every seed, and logits [n, k] that find most of them."""
    gold = np.eye(k, dtype=np.bool_)[np.random.default_rng(0).integers(0, k, n)]
    noise = np.random.default_rng(1 + seed).standard_normal((n, k), dtype=np.float32)
    return gold, (noise + (2.5 + 0.5 * np.log(k)) * gold).astype(np.float32)


def model_folder(inputs: Inputs, layers: int, width: int) -> Path:
    """A Llama of this shape with random weights and the bundled tokenizer, for texts of up to 4,096 tokens."""
    folder = inputs.folder / f"llama-{layers}-{width}"
    if not (folder / "config.json").is_file():
        llama(folder, layers=layers, width=width)
        # The bundled tokenizer says how long the bundled model's texts may be.
        settings = folder / "tokenizer_config.json"
        told = json.loads(settings.read_text(encoding="utf-8")) | {"model_max_length": LONGEST}
        settings.write_text(json.dumps(told), encoding="utf-8")
    return folder


def context(labels: Sequence[str] = LABELS, prompts: str = "") -> RunContext:
    """A run's context on the CPU; ``prompts`` names a template set."""
    from evalsuite.prompts import load_prompts

    folder = Path(tempfile.mkdtemp(prefix="evalsuite-scale-"))
    found = None
    if prompts:
        found = load_prompts(prompts, task="scale", labels=labels, multilabel=False, descriptions={}, search=[])
    return RunContext("scale", tuple(labels), False, 0, "cpu", folder, folder, Silent(), prompts=found)


def untrained(name: str, labels: Sequence[str] = LABELS, template: str = "", **options: Any) -> Any:
    """A registered method with these options; ``template`` names the set of prompts that it reads."""
    from evalsuite.registry import build_registry

    spec = build_registry().method(name)
    return spec.build(spec.config(**options), context(labels, template))


def embedding(model: Path, labels: Sequence[str] = LABELS, **options: Any) -> Any:
    """The embedding method; it trains for one pass unless told, from a random head, without validation."""
    settings = {"model": str(model), "head_init": "random", "evaluations": 0, "epochs": 1, "load_in_4bit": False}
    return untrained("embedding", labels, **{**settings, **options})


def instruction(model: Path, labels: Sequence[str] = LABELS, **options: Any) -> Any:
    """The instruction method; it trains for one pass unless told, without validation."""
    settings = {"model": str(model), "evaluations": 0, "epochs": 1, "load_in_4bit": False}
    return untrained("instruction", labels, "plain", **{**settings, **options})


def long_texts(count: int, words: int) -> list[str]:
    """``count`` texts of so many words, of about one token each or more."""
    pool = f"{QUALITIES} {THINGS}".split()
    dice = np.random.default_rng(0)
    return [" ".join(pool[at] for at in dice.integers(0, len(pool), words)) for _ in range(count)]


def labelled(texts: Sequence[str], labels: int) -> Iterator[Example]:
    """The texts as examples with the labels in turn."""
    for at, text in enumerate(texts):
        yield Example(str(at), text, (at % labels,))
