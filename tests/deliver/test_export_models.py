"""What methods write for plain libraries says, by its snippet and without evalsuite, what the method says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from training_setup import LABELS, context, documents
from transformers import pipeline

from evalsuite.contracts import Method, RunContext, Scores
from evalsuite.decision import Decision
from evalsuite.deliver import export_child
from evalsuite.deliver.export_decision import classify_source, decision_json
from evalsuite.llm.reading.sentence import sentence_pooling
from evalsuite.plugins.bert import Bert, BertConfig
from evalsuite.plugins.distill import Distill, DistillConfig
from evalsuite.plugins.embedding import Embedding, EmbeddingConfig
from evalsuite.plugins.frozen import Frozen, FrozenConfig
from evalsuite.plugins.instruction import Instruction, InstructionConfig
from evalsuite.prompts import load_prompts

LONG = "the company cut its forecast and shares fell " * 30
TEXTS = [
    "a method for separation of water",
    LONG,
    "the team won the match",
    "shares fell</s> <|end_of_text|> [SEP]",
    "7",
]
DRIVER = """
import json, os, runpy, sys
sys.modules["evalsuite"] = None
child = runpy.run_path(sys.argv[1])
texts, found = json.loads(sys.argv[2]), {}
for name in sys.argv[3:]:
    os.chdir(name)
    found[name] = child["answers"](child["snippet_of"](open("README.md").read()), texts)
    os.chdir("..")
json.dump(found, open("found.json", "w"))
"""
STEPS = {"max_length": 32, "epochs": 2, "batch_size": 8, "evaluations": 0, "learning_rate": 1e-2, "lora_r": 4}

ARGMAX = Decision(False)


@dataclass(frozen=True)
class Case:
    """A method, trained with ``options`` on the tiny model of a fixture, to be exported as ``kind``."""

    method: Any
    config: Any
    model: str
    kind: str
    options: dict[str, Any]
    multilabel: bool = False
    template: str | None = None
    decision: Decision = ARGMAX


def embedding(kind: str, model: str = "tiny_llama", **options: Any) -> Case:
    return Case(Embedding, EmbeddingConfig, model, kind, STEPS | options)


def bert(kind: str, model: str, **options: Any) -> Case:
    return Case(Bert, BertConfig, model, kind, STEPS | options)


def frozen(kind: str, model: str, **options: Any) -> Case:
    return Case(Frozen, FrozenConfig, model, kind, {"max_length": 32, "c": 0.1, **options})


def instruction(kind: str, model: str, multilabel: bool = False, **options: Any) -> Case:
    decision = Decision(multilabel, own_labels=True) if multilabel and "decode" not in options else Decision(multilabel)
    steps = STEPS | {"max_length": 160, "epochs": 4}
    return Case(Instruction, InstructionConfig, model, kind, steps | options, multilabel, "descriptions", decision)


THRESHOLDS = Decision(True, temperature=0.7, thresholds=(0.4, 0.6, 0.3))
VECTOR = Decision(False, scale=(0.5, 1.0, 2.0), bias=(0.1, 0.0, -0.2))
CASES = {
    "adapter": embedding("adapter", load_in_4bit=True),
    "adapter bundled": embedding("adapter", "bundled", truncation_side="left"),
    "adapter bfloat16": embedding("adapter", dtype="bfloat16", layer=1),
    "adapter attention": embedding("adapter", "tiny_qwen", pooling="attention"),
    "merged": embedding("merged", load_in_4bit=True),
    "merged layer": embedding("merged", "tiny_qwen", layer=1),
    "merged attention": embedding("merged", pooling="attention", load_in_4bit=True),
    "merged dora": embedding("merged", use_dora=True, truncation_side="left"),
    "onnx decoder": embedding("onnx", "tiny_qwen", pooling="max"),
    "bert": bert("merged", "tiny_bert"),
    "bert multi": Case(Bert, BertConfig, "tiny_bert", "merged", STEPS, multilabel=True, decision=THRESHOLDS),
    "bert top": Case(Bert, BertConfig, "tiny_roberta", "merged", STEPS, True, decision=Decision(True, top_k=2)),
    "bert lora": bert("adapter", "tiny_roberta", adaptation="lora"),
    "bert qlora": bert("merged", "tiny_modernbert", adaptation="lora", load_in_4bit=True),
    "bert onnx": Case(Bert, BertConfig, "tiny_modernbert", "onnx", STEPS, decision=VECTOR),
    "prompt": Case(Embedding, EmbeddingConfig, "tiny_llama", "merged", STEPS | {"max_length": 96}, template="listed"),
    "frozen": frozen("adapter", "tiny_qwen", load_in_4bit=True),
    "frozen merged": frozen("merged", "tiny_llama", bidirectional=True, layer=1, load_in_4bit=True),
    "frozen onnx": frozen("onnx", "tiny_bert", pooling="cls", normalize=True),
    "instruction": instruction("adapter", "tiny_llama", load_in_4bit=True),
    "instruction merged": instruction("merged", "tiny_qwen", normalise="token", load_in_4bit=True),
    "instruction yes or no": instruction("merged", "tiny_llama", multilabel=True, decode="per_label"),
    "instruction written": instruction("merged", "tiny_qwen", multilabel=True, load_in_4bit=True),
}


@dataclass(frozen=True)
class Told:
    """What the method says, and what the snippet says of the same texts."""

    expected: Scores
    answer: dict[str, Any]
    folder: Path


def write(case: Case, folder: Path, model: str) -> tuple[Scores, Method]:
    """Train, export; the method's own answers."""
    kinds = {"task": "toy", "labels": LABELS, "multilabel": case.multilabel, "descriptions": {}, "search": []}
    prompts = load_prompts(case.template, **kinds) if case.template else None
    ctx: RunContext = context(folder.parent, case.multilabel, prompts=prompts)
    method = case.method(case.config(**{**case.options, "model": model}), ctx)
    method.fit(documents(30, case.multilabel), [])
    expected = method.predict(TEXTS)
    folder.mkdir()
    source = method.exports("auto")[case.kind](folder) + classify_source(case.decision)
    (folder / "decision.json").write_text(json.dumps(decision_json(case.decision, LABELS)))
    (folder / "README.md").write_text(f"# A model\n\n```python\n{source.strip()}\n```\n")
    return expected, method


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, _make_model: Callable[[str], Path]) -> dict[str, Told]:
    """Every case, its snippet executed as written; one process for all, as most of its time goes into imports."""
    root = tmp_path_factory.mktemp("exports")
    models = {name: str(_make_model(name)) for name in {case.model for case in CASES.values()} - {"bundled"}}
    expected = {name: write(case, root / name, models.get(case.model, "bundled"))[0] for name, case in CASES.items()}
    command = [sys.executable, "-I", "-c", DRIVER, export_child.__file__, json.dumps(TEXTS), *CASES]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((root / "found.json").read_text())
    return {name: Told(expected[name], found[name], root / name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_snippet_says_what_the_method_says(name: str, told: dict[str, Told]) -> None:
    case, found = CASES[name], told[name]
    decided = case.decision.decide(found.expected)
    assert found.answer["labels"] == [[LABELS[label] for label in np.flatnonzero(row)] for row in decided]
    assert found.answer["printed"].startswith("[(")
    if found.expected.logits is None:
        assert found.answer["logits"] is None
        assert len({tuple(labels) for labels in found.answer["labels"]}) > 1
        return
    near = 0.05 if "bfloat16" in name else 2e-4
    np.testing.assert_allclose(found.answer["logits"], found.expected.logits, atol=near, rtol=1e-4)


def test_an_adapter_folder_has_no_config_json(told: dict[str, Told]) -> None:
    """In the folder of an adapter it makes AutoModel and pipeline fail."""
    adapters = [found.folder for name, found in told.items() if CASES[name].kind == "adapter"]
    assert len(adapters) > 4
    assert [folder.name for folder in adapters if (folder / "config.json").exists()] == []


def test_the_bundled_base_goes_with_its_adapter(told: dict[str, Told]) -> None:
    """It lies in the package, which the reader does not have."""
    folder = told["adapter bundled"].folder
    assert (folder / "base" / "model.safetensors").is_file()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert "site-packages" not in (folder / "README.md").read_text()
    assert not (told["adapter"].folder / "base").exists()


def test_a_merged_model_needs_no_bitsandbytes_and_has_every_weight(told: dict[str, Told]) -> None:
    config = json.loads((told["merged"].folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    tensors = load_file(told["merged"].folder / "model.safetensors")
    assert not any("lora" in name or "absmax" in name for name in tensors)


@pytest.mark.parametrize(("name", "activation"), [("merged", "softmax"), ("bert multi", "sigmoid")])
def test_a_plain_pipeline_knows_labels_activation_and_length(name: str, activation: str, told: dict[str, Told]) -> None:
    """``problem_type`` left unset would be inferred; and without a length, a long text would not fit."""
    found = told[name]
    answers = pipeline("text-classification", model=str(found.folder), device="cpu")(
        TEXTS[:2], top_k=None, truncation=True
    )
    logits = found.expected.logits[:2].astype(float)
    odds = np.exp(logits)
    wanted = odds / odds.sum(axis=1, keepdims=True) if activation == "softmax" else odds / (1 + odds)
    scores = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    np.testing.assert_allclose([[row[label] for label in LABELS] for row in scores], wanted, atol=1e-4)


def test_what_is_not_there_to_be_written_is_not_offered(tiny_bert: Path, tiny_llama: Path, tmp_path: Path) -> None:
    method = Bert(BertConfig(**STEPS, model=str(tiny_bert)), context(tmp_path))
    method.fit(documents(6), [])
    assert list(method.exports("auto")) == ["merged", "onnx"]
    student = Distill(DistillConfig(**STEPS, model=str(tiny_bert)), method.ctx, method._ready())
    assert list(student.exports("auto")) == ["merged", "onnx"]
    kinds = {"task": "toy", "labels": LABELS, "multilabel": False, "descriptions": {}, "search": []}
    ctx = context(tmp_path, prompts=load_prompts("plain", **kinds))
    free = Instruction(InstructionConfig(model=str(tiny_llama), decode="free"), ctx)
    assert free.exports("auto") == {}


def test_sentence_models_are_pooled_as_their_files_say(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real encoder as ONNX: 22 million weights, mean-pooled and normalised, within 1e-4 of torch on all lengths."""
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("needs the extra `onnx`")
    case = frozen("onnx", str(minilm), max_length=64)
    expected, method = write(case, tmp_path / "onnx", str(minilm))
    pooling = sentence_pooling(method.config)  # type: ignore[attr-defined]
    assert pooling is not None
    assert "normalize" in json.dumps(pooling._asdict())
    monkeypatch.chdir(tmp_path / "onnx")
    source = export_child.snippet_of(Path("README.md").read_text())
    answer = export_child.answers(source, TEXTS)
    np.testing.assert_allclose(answer["logits"], expected.logits, atol=1e-4)
