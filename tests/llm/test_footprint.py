"""Parameters counted as the paper counts them, and memory estimated from shapes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_setup import classifier
from transformers import LlamaConfig, MistralConfig

from evalsuite.llm.backbone import load_sequence_classifier
from evalsuite.llm.footprint import count_parameters, estimate_training, peak_memory
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions

GIB = 2**30


@pytest.fixture(scope="module")
def llama_3b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shape of Llama-3.2-3B; a configuration file and nothing else."""
    folder = tmp_path_factory.mktemp("llama-3b")
    LlamaConfig(
        vocab_size=128256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    ).save_pretrained(folder)
    return folder


def test_the_papers_embedding_run(llama_3b: Path) -> None:
    """12.2M trainable parameters of the 3B model (arXiv 2512.12677): r = 8 everywhere and a head of 5 classes."""
    model = ModelOptions(model=str(llama_3b), load_in_4bit=True, dtype="bfloat16")
    estimate = estimate_training(model, LoraOptions(), TrainingOptions(gradient_checkpointing=True), "cpu", labels=5)
    assert estimate["trainable_parameters"] == 12_172_288
    assert estimate["total_parameters"] == 3_212_749_824 + 12_172_288
    assert 2.0 * GIB < estimate["base_bytes"] < 2.3 * GIB
    assert estimate["memory_bytes"] < 24 * GIB


def test_the_papers_instruction_run(tmp_path: Path) -> None:
    """167.8M trainable parameters of Mistral-7B: r = 64 on all linear layers."""
    MistralConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    ).save_pretrained(tmp_path)
    model = ModelOptions(model=str(tmp_path), load_in_4bit=True, dtype="bfloat16")
    options = TrainingOptions(gradient_checkpointing=True, token_budget=64)
    estimate = estimate_training(model, LoraOptions(lora_r=64), options, "cpu")
    assert estimate["trainable_parameters"] == 167_772_160
    assert estimate["adapter_bytes"] == 16 * 167_772_160


def test_4bit_weights_are_counted_whole(tiny_llama: Path) -> None:
    """bitsandbytes packs two weights a byte: numel() of a 4-bit tensor is half of its weights."""
    plain = count_parameters(classifier(tiny_llama).model)
    packed = count_parameters(classifier(tiny_llama, load_in_4bit=True).model)
    assert packed == plain
    assert plain.trainable < plain.total


def test_estimate_counts_what_a_real_model_has(tiny_llama: Path) -> None:
    real = count_parameters(classifier(tiny_llama, lora=LoraOptions(lora_r=4)).model)
    estimate = estimate_training(
        ModelOptions(model=str(tiny_llama)), LoraOptions(lora_r=4), TrainingOptions(), "cpu", 3
    )
    assert (estimate["trainable_parameters"], estimate["total_parameters"]) == (real.trainable, real.total)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"])
def test_activations_are_those_a_real_forward_keeps(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    options = TrainingOptions(token_budget=512)
    estimate = estimate_training(ModelOptions(model=str(folder)), LoraOptions(), options, "cpu", labels=3)
    backbone = classifier(folder, lora=LoraOptions())
    weights = {p.untyped_storage().data_ptr() for p in backbone.model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    backbone.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.model(input_ids=torch.ones(8, 64, dtype=torch.long))
    real = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)
    # the plain attention of the meta device keeps the scores, which a real kernel does not; in models this narrow
    # they weigh much
    assert real * 0.99 < estimate["activations_bytes"] < real * 1.4


def test_recomputing_saves_memory(tiny_llama: Path) -> None:
    def activations(recompute: bool) -> int:
        options = TrainingOptions(gradient_checkpointing=recompute)
        return estimate_training(ModelOptions(model=str(tiny_llama)), LoraOptions(), options, "cpu", 3)[
            "activations_bytes"
        ]

    assert activations(True) < activations(False)


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta", "tiny_modernbert", "tiny_llama"])
def test_all_weights_are_estimated_as_adamw_holds_them(name: str, request: pytest.FixtureRequest) -> None:
    """Weight, gradient and two moments in float32: 16 bytes, and nothing frozen beside them."""
    model = ModelOptions(model=str(request.getfixturevalue(name)))
    estimate = estimate_training(model, None, TrainingOptions(), "cpu", labels=3)
    real = count_parameters(load_sequence_classifier(model, ("a", "b", "c"), False, "cpu").model).total
    assert estimate["trainable_parameters"] == estimate["total_parameters"] == real
    assert (estimate["base_bytes"], estimate["adapter_bytes"]) == (0, 16 * real)
    assert estimate["activations_bytes"] > 0


def test_peak_memory_is_in_bytes() -> None:
    peak = peak_memory()
    assert 50e6 < (peak["peak_cpu_bytes"] or 0) < 50e9
    assert peak["peak_gpu_bytes"] is None or torch.cuda.is_available()
