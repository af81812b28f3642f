"""A trained model for libraries that do not know this one: what may be written of it, each with the code that reads it.

A method's ``exports`` are functions by kind, of which each writes into an empty folder and returns Python source:

adapter: what was trained, a peft adapter or a head; the base is named (the bundled one is copied to ``base/``).
merged: one model with every weight, 4-bit ones dequantised.
onnx: one graph from token ids to logits, in float32.

The source runs in the folder. It defines ``score(texts)``, logits [n, k] as a numpy array, or where a model writes its
answers ``classify(texts)``. Each function uses the model up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn

from evalsuite import bundled
from evalsuite.contracts import Floats
from evalsuite.llm.answering import Answerer
from evalsuite.llm.classifier import TextClassifier
from evalsuite.llm.embedder import Embedder
from evalsuite.llm.export import loader_snippets as source
from evalsuite.llm.export.onnx_graph import OwnGraph, PooledGraph, write_onnx
from evalsuite.llm.loading.backbone import Backbone, base_of, quiet
from evalsuite.llm.lora.adapters import save_adapter, set_sides
from evalsuite.llm.lora.merging import merged
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.reading.pooling import ATTENTION, POOLINGS

Exports = Mapping[str, Callable[[Path], str]]
HEAD, GRAPH = "head.safetensors", "model.onnx"
TOKENIZER, SAFETENSORS = "from transformers import AutoTokenizer", "from safetensors.torch import load_file"
STOCK = "AutoModelForSequenceClassification"


def classifier_exports(
    classifier: TextClassifier, options: ModelOptions, dtype: str, layer: int | None = None
) -> Exports:
    """What may be written of a sequence classifier. ``dtype`` is that of merged weights, "auto" for the run's own;
    ``layer`` the last one that was kept, None where all were.
    """
    adapter = isinstance(classifier.backbone.model, PeftModel)
    kinds: dict[str, Callable[[Path], str]] = {}
    if adapter:
        kinds["adapter"] = partial(_classifier_adapter, classifier, options, layer)
    kinds["merged"] = partial(_merged_classifier, classifier, options, dtype)
    kinds["onnx"] = partial(_classifier_graph, classifier)
    return kinds


def embedder_exports(
    embedder: Embedder, head: tuple[Floats, Floats], options: ModelOptions, dtype: str, layer: int | None
) -> Exports:
    """What may be written of a frozen model and the ``head`` on it, weight [k, h] and bias [k]. Else as above."""
    tensors = {"weight": torch.from_numpy(head[0]), "bias": torch.from_numpy(head[1])}
    return {
        "adapter": partial(_frozen_head, embedder, tensors, options, layer),
        "merged": partial(_merged_embedder, embedder, tensors, options, dtype),
        "onnx": partial(_embedder_graph, embedder, tensors),
    }


def answerer_exports(answerer: Answerer, dtype: str) -> Exports:
    """What may be written of a model that answers prompts; nothing where it answers freely (decode=free)."""
    if answerer.decode == "free":
        return {}
    return {
        "adapter": partial(_answering_adapter, answerer),
        "merged": partial(_merged_answerer, answerer, dtype),
    }


def _classifier_adapter(classifier: TextClassifier, options: ModelOptions, layer: int | None, folder: Path) -> str:
    backbone, pooling = classifier.backbone, classifier.pooling
    own_head = pooling in ("mean", "max", "attention")
    set_sides(backbone.tokenizer, classifier.options.truncation_side)
    name = _write_adapter(backbone, folder, leave_out=backbone.head if own_head else ())
    imports = ["from peft import PeftModel"] + ([SAFETENSORS] if own_head else [])
    text = source.start(*imports, _transformers(backbone, STOCK))
    labels = 'num_labels=len(decision["labels"])'
    text += source.base_source(backbone, options, STOCK, name, [labels]) + source.PAD + source.shaped(layer)
    if not own_head:
        text += source.float_heads(backbone)
        return text + source.ADAPTER + source.encode_source(classifier) + source.SCORE.format(logits=source.STOCK)
    _write_tensors(folder, head_tensors(base_of(backbone.model), pooling))
    return text + source.ADAPTER + source.encode_source(classifier) + source.pooled_source("base.base_model", pooling)


def _merged_classifier(classifier: TextClassifier, options: ModelOptions, dtype: str, folder: Path) -> str:
    backbone, pooling = classifier.backbone, classifier.pooling
    model = merged(backbone, dtype)
    _write_tokenizer(classifier, folder)
    encode = source.encode_source(classifier)
    if pooling in ("mean", "max", "attention"):
        _save(model.base_model, folder)
        _write_tensors(folder, head_tensors(model, pooling))
        text = source.start(SAFETENSORS, _import("AutoModel"))
        text += source.whole_source("AutoModel", options, "base")
        return text + encode + source.pooled_source("base", pooling)
    _save(model, folder)
    if classifier.prompts is None:
        text = source.opening(["from transformers import pipeline"], "torch")
        return text + source.PIPELINE.format(trust=source.trusting(options))
    text = source.start(_import(STOCK)) + source.whole_source(STOCK, options)
    return text + encode + source.SCORE.format(logits=source.STOCK)


def _classifier_graph(classifier: TextClassifier, folder: Path) -> str:
    pooling = classifier.pooling
    model: Any = merged(classifier.backbone, "float32")
    if pooling == "own":
        return _write_graph(classifier, OwnGraph(model), folder)
    pool = getattr(model, ATTENTION) if pooling == "attention" else POOLINGS[pooling]
    return _write_graph(classifier, PooledGraph(model.base_model, pool, model.score), folder)


def _frozen_head(
    embedder: Embedder, tensors: Mapping[str, Tensor], options: ModelOptions, layer: int | None, folder: Path
) -> str:
    name = _base_name(embedder.backbone, folder)
    _write_tokenizer(embedder.reader, folder)
    _write_tensors(folder, tensors)
    text = source.start(SAFETENSORS, _transformers(embedder.backbone, "AutoModel"))
    text += source.base_source(embedder.backbone, options, "AutoModel", name)
    return text + source.shaped(layer, embedder.bidirectional) + _pooled(embedder)


def _merged_embedder(
    embedder: Embedder, tensors: Mapping[str, Tensor], options: ModelOptions, dtype: str, folder: Path
) -> str:
    _save(merged(embedder.backbone, dtype), folder)
    _write_tokenizer(embedder.reader, folder)
    _write_tensors(folder, tensors)
    text = source.start(SAFETENSORS, _import("AutoModel")) + source.whole_source("AutoModel", options, "base")
    return text + source.shaped(bidirectional=embedder.bidirectional) + _pooled(embedder)


def _pooled(embedder: Embedder) -> str:
    scored = source.pooled_source("base", embedder.pooling, bias=True, normalize=embedder.normalize)
    return source.encode_source(embedder.reader) + scored


def _embedder_graph(embedder: Embedder, tensors: Mapping[str, Tensor], folder: Path) -> str:
    model = merged(embedder.backbone, "float32")
    linear = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
    linear.load_state_dict(dict(tensors))
    graph = PooledGraph(model, POOLINGS[embedder.pooling], linear, embedder.normalize)
    return _write_graph(embedder.reader, graph, folder)


def _answering_adapter(answerer: Answerer, folder: Path) -> str:
    architecture = "AutoModelForCausalLM"
    name = _write_adapter(answerer.backbone, folder)
    text = source.start("from peft import PeftModel", _transformers(answerer.backbone, architecture))
    text += source.base_source(answerer.backbone, answerer.config, architecture, name)
    return text + source.ADAPTER + source.answer_source(answerer)


def _merged_answerer(answerer: Answerer, dtype: str, folder: Path) -> str:
    architecture = "AutoModelForCausalLM"
    answers = source.answer_source(answerer)
    _save(merged(answerer.backbone, dtype), folder)
    answerer.backbone.tokenizer.save_pretrained(folder)
    return source.start(_import(architecture)) + source.whole_source(architecture, answerer.config) + answers


def head_tensors(model: Any, pooling: str) -> dict[str, Tensor]:
    """A pooled head: ``weight`` [k, h], and for pooling by attention its ``query`` [h]."""
    tensors = {"weight": model.score.weight}
    if pooling == "attention":
        tensors["query"] = getattr(model, ATTENTION).query
    return tensors


def _write_graph(reader: TextClassifier, graph: nn.Module, folder: Path) -> str:
    backbone = reader.backbone
    write_onnx(
        graph,
        folder / GRAPH,
        vocabulary=base_of(backbone.model).config.get_text_config().vocab_size,
        pad_id=backbone.tokenizer.pad_token_id,
        max_length=reader.max_length,
    )
    _write_tokenizer(reader, folder)
    start = source.start("import onnxruntime", TOKENIZER, torch=False)
    return start + source.ONNX + source.encode_source(reader) + source.RUN


def _write_adapter(backbone: Backbone, folder: Path, leave_out: Any = ()) -> str:
    """Write a peft adapter, and return an expression for the name of its base."""
    name = _base_name(backbone, folder)
    save_adapter(backbone, folder, leave_out)
    if name != repr(backbone.name):
        settings = folder / "adapter_config.json"
        saved = json.loads(settings.read_text(encoding="utf-8"))
        settings.write_text(json.dumps({**saved, "base_model_name_or_path": "base"}, indent=2), encoding="utf-8")
    return name


def _base_name(backbone: Backbone, folder: Path) -> str:
    """Source that names the base. The bundled one goes with the package it lies in, so it is copied."""
    if backbone.name != str(bundled.path()):
        return repr(backbone.name)
    shutil.copytree(backbone.name, folder / "base")
    return 'folder / "base"'


def _write_tokenizer(reader: TextClassifier, folder: Path) -> None:
    """The tokenizer, which then pads and cuts as was done here."""
    tokenizer = reader.backbone.tokenizer
    set_sides(tokenizer, reader.options.truncation_side)
    tokenizer.model_max_length = reader.max_length
    tokenizer.save_pretrained(folder)


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}, folder / HEAD)


def _save(model: Any, folder: Path) -> None:
    with quiet(bars=False):
        model.save_pretrained(folder)


def _transformers(backbone: Backbone, architecture: str) -> str:
    return _import(architecture, *(["BitsAndBytesConfig"] if backbone.quantised else []))


def _import(architecture: str, *more: str) -> str:
    return "from transformers import " + ", ".join([architecture, "AutoTokenizer", *more])
