"""A merged model says what the adapter on its base says, for bases in 4-bit too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from training_setup import context, documents

from evalsuite.errors import ModelError
from evalsuite.llm.classifier import TextClassifier
from evalsuite.llm.loading.backbone import load_sequence_classifier
from evalsuite.llm.lora.adapters import ADAPTER_WEIGHTS, attach_adapter
from evalsuite.llm.lora.merging import merged
from evalsuite.plugins.embedding import Embedding, EmbeddingConfig

TEXTS = [example.text for example in documents(24)]


def trained(model: str, folder: Path, **options: Any) -> Embedding:
    steps = {"max_length": 32, "epochs": 2, "batch_size": 8, "evaluations": 0, "learning_rate": 5e-3, "lora_r": 4}
    method = Embedding(EmbeddingConfig(**steps, model=model, **options), context(folder))
    method.fit(documents(30), [])
    method.save(folder)
    return method


def logits_of(classifier: TextClassifier) -> Any:
    return classifier.predict(TEXTS).logits


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"dtype": "bfloat16"}], ids=str)
def test_a_qlora_adapter_is_merged_into_the_dequantised_base(options: dict[str, Any], tmp_path: Path) -> None:
    """Merged into the original base, it is another model: the adapter was trained on the 4-bit weights."""
    method = trained("bundled", tmp_path, load_in_4bit=True, **options)
    expected = logits_of(method._ready())
    original = load_sequence_classifier(EmbeddingConfig(model="bundled"), method.ctx.labels, False, "cpu")
    attach_adapter(original, tmp_path / "adapter")
    original.model = merged(original, "float32")
    naive = np.abs(logits_of(TextClassifier(original, method.ctx, method.config, "last")) - expected).max()
    backbone = method._ready().backbone
    backbone.model = merged(backbone, "float32")
    backbone.dtype = torch.float32
    difference = np.abs(logits_of(method._ready()) - expected).max()
    assert difference < (0.2 if options.get("dtype") else 0.02)
    assert naive > max(0.05, 3 * difference)


def test_weights_have_the_precision_that_is_asked(tiny_llama: Path, tmp_path: Path) -> None:
    for asked, found in (("auto", "bfloat16"), ("float32", "float32"), ("float16", "float16")):
        method = trained(str(tiny_llama), tmp_path, dtype="bfloat16")
        model = merged(method._ready().backbone, asked)
        assert {str(tensor.dtype) for tensor in model.parameters()} == {f"torch.{found}"}
        assert not model.training


@pytest.mark.parametrize("use_dora", [False, True])
def test_an_opened_adapter_is_added_to_float32_weights(use_dora: bool, tiny_qwen: Path, tmp_path: Path) -> None:
    """Beside the trained model, whose adapter is computed next to the base."""
    method = trained(str(tiny_qwen), tmp_path, use_dora=use_dora)
    expected = logits_of(method._ready())
    opened = Embedding.load(tmp_path, method.config, method.ctx)
    assert all(layer.merged for layer in lora_layers(opened))
    assert not any(layer.merged for layer in lora_layers(method))
    np.testing.assert_allclose(logits_of(opened._ready()), expected, atol=1e-5, rtol=0)
    # the saved adapter and the merged model are those of the trained one, not of a base that has it twice
    opened.save(tmp_path / "again")
    first, second = (load_file(folder / "adapter" / ADAPTER_WEIGHTS) for folder in (tmp_path, tmp_path / "again"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    opened._ready().backbone.model = merged(opened._ready().backbone, "float32")
    np.testing.assert_allclose(logits_of(opened._ready()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"load_in_4bit": True}], ids=str)
def test_an_opened_adapter_stays_beside_rounded_weights(
    options: dict[str, Any], tiny_qwen: Path, tmp_path: Path
) -> None:
    method = trained(str(tiny_qwen), tmp_path, **options)
    expected = logits_of(method._ready())
    opened = Embedding.load(tmp_path, method.config, method.ctx)
    assert not any(layer.merged for layer in lora_layers(opened))
    np.testing.assert_allclose(logits_of(opened._ready()), expected, atol=1e-5, rtol=0)


def lora_layers(method: Embedding) -> list[LoraLayer]:
    found = [module for module in method._ready().backbone.model.modules() if isinstance(module, LoraLayer)]
    assert len(found) == 14
    return found


def test_what_cannot_be_dequantised_is_one_clear_line(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_sequence_classifier(EmbeddingConfig(model=str(tiny_llama)), ("a", "b"), False, "cpu")
    backbone.quantised = True  # as of a checkpoint in a format of its own
    with pytest.raises(ModelError, match=r"weights of .* cannot be dequantised \(.*\); use --adapter"):
        merged(backbone, "auto")
