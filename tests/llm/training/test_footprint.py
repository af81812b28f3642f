"""Parameters counted as the paper counts them, and memory estimated from shapes alone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_setup import LABELS, classifier
from transformers import ViTConfig

from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.loading.backbone import Backbone, load_sequence_classifier, recompute_activations
from evalsuite.llm.loading.shapes import write_shape
from evalsuite.llm.lora.adapters import attach_adapter, save_adapter
from evalsuite.llm.options import LoraOptions, ModelOptions, TrainingOptions
from evalsuite.llm.training.footprint import count_parameters, estimate, estimate_training, main

GIB = 2**30


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a published shape, without weights."""
    folder = tmp_path_factory.mktemp("shapes")
    return functools.cache(lambda name: str(write_shape(name, folder / name)))


def test_the_papers_embedding_run(shape: Callable[[str], str]) -> None:
    """12.2M trainable parameters of the 3B model (arXiv 2512.12677): r = 8 everywhere and a head of 5 classes."""
    model = ModelOptions(model=shape("llama-3.2-3b"), max_length=1024)
    for lora in (LoraOptions(), LoraOptions(lora_budget="12.2M", lora_r=64)):
        found = estimate(model, lora, TrainingOptions(), "cuda", labels=5)
        assert (found.lora_r, found.trainable_parameters) == (8, 12_172_288)
    assert found.total_parameters == 3_212_749_824 + 12_172_288
    assert 2.0 * GIB < found.base_bytes < 2.3 * GIB
    assert found.logits_bytes == 0
    assert found.memory_bytes < 24 * GIB


def test_the_papers_instruction_run(shape: Callable[[str], str]) -> None:
    """167.8M trainable parameters of Mistral-7B: r = 64 on all linear layers."""
    training = TrainingOptions(token_budget=64)
    found = estimate(ModelOptions(model=shape("mistral-7b")), LoraOptions(lora_r=64), training, "cuda")
    assert found.trainable_parameters == 167_772_160
    assert found.adapter_bytes == 16 * 167_772_160
    # one document, 16 tokens of an answer, 12 bytes an entry of the vocabulary
    assert found.logits_bytes == 16 * 32_000 * 12


def test_an_8b_shape_fits_in_48_gb(shape: Callable[[str], str]) -> None:
    model = ModelOptions(model=shape("llama-3.1-8b"), max_length=1024)
    for labels in (14, None):
        assert estimate(model, LoraOptions(), TrainingOptions(), "cuda", labels).memory_bytes < 48 * GIB


@pytest.mark.parametrize(
    ("budget", "words"), [("500k", "at least 1,534,976 parameters"), ("9B", "at most .* at rank 1024")]
)
def test_a_budget_that_no_rank_meets_is_found_before_any_weight(
    shape: Callable[[str], str], budget: str, words: str
) -> None:
    model = ModelOptions(model=shape("llama-3.2-3b"))
    with pytest.raises(OptionError, match=words):
        estimate_training(model, LoraOptions(lora_budget=budget), TrainingOptions(), "cpu", labels=5)


def test_a_gpu_that_is_not_here_can_be_estimated_but_not_used(tiny_llama: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    model, training = ModelOptions(model=str(tiny_llama)), TrainingOptions()
    found = estimate(model, LoraOptions(), training, "cuda", labels=3)
    plain = estimate(model, LoraOptions(), training, "cpu", labels=3)
    assert found.base_bytes < plain.base_bytes / 2  # bfloat16 embeddings, the rest in 4-bit
    assert found.activations_bytes < plain.activations_bytes / 2  # recomputed
    with pytest.raises(ModelError, match="torch sees no GPU"):
        estimate_training(model, LoraOptions(), training, "cuda", labels=3)


def test_layers_above_the_one_that_is_read_are_not_counted(tiny_gemma3: Path) -> None:
    class Reading(ModelOptions):
        layer: int | None = None

    def parameters(layer: int | None) -> int:
        model = Reading(model=str(tiny_gemma3), layer=layer)
        return estimate(model, LoraOptions(), TrainingOptions(), "cpu", labels=3).total_parameters

    assert parameters(1) < parameters(None) == parameters(2)


def test_every_linear_layer_is_4bit_whatever_has_an_adapter(tiny_llama: Path) -> None:
    model = ModelOptions(model=str(tiny_llama), load_in_4bit=True)
    bases = {
        estimate(model, LoraOptions(lora_targets=targets), TrainingOptions(), "cpu", labels=3).base_bytes
        for targets in ("attention", "all-linear")
    }
    assert len(bases) == 1


def test_the_command_says_that_it_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--shape", "llama-3.2-1b", "--method", "embedding", "--lora_budget", "12M", "--layer", "8"])
    text = capsys.readouterr().out
    assert "llama-3.2-1b, embedding, cuda" in text
    assert "total" in text
    assert "GiB" in text
    assert "An estimate" in text
    with pytest.raises(SystemExit):
        main(["--shape", "llama-3.2-1b", "--method", "embedding", "--lora_budget", "12 apples"])
    assert "is no number of parameters" in capsys.readouterr().err


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


def kept_bytes(backbone: Backbone, tokens: int) -> int:
    """What autograd holds after a forward pass over rows of 64 tokens, each storage once, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in backbone.model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    backbone.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.model(input_ids=torch.ones(tokens // 64, 64, dtype=torch.long))
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"])
def test_activations_are_those_a_real_forward_keeps(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    options = TrainingOptions(token_budget=512)
    found = estimate_training(ModelOptions(model=str(folder)), LoraOptions(), options, "cpu", labels=3)
    real = kept_bytes(classifier(folder, lora=LoraOptions()), 512)
    # the plain attention of the meta device keeps the scores, which a real kernel does not; in models this narrow
    # they weigh much
    assert real * 0.99 < found["activations_bytes"] < real * 1.4


def test_recomputed_activations_are_the_layers_inputs_and_one_layer(tiny_llama: Path) -> None:
    options = TrainingOptions(token_budget=512, gradient_checkpointing=True)
    found = estimate(ModelOptions(model=str(tiny_llama)), LoraOptions(), options, "cpu", labels=3)
    backbone = classifier(tiny_llama, lora=LoraOptions())
    whole = kept_bytes(backbone, 512)
    recompute_activations(backbone.model, True)
    inputs = kept_bytes(backbone, 512)
    assert inputs < whole / 2
    assert (inputs + whole / 2) * 0.99 < found.activations_bytes < (inputs + whole / 2) * 1.4


def test_recomputing_saves_memory(tiny_llama: Path) -> None:
    def activations(recompute: bool) -> int:
        options = TrainingOptions(gradient_checkpointing=recompute)
        return estimate_training(ModelOptions(model=str(tiny_llama)), LoraOptions(), options, "cpu", 3)[
            "activations_bytes"
        ]

    assert activations(True) < activations(False)


def test_a_loaded_adapter_counts_as_the_one_that_was_trained(tiny_llama: Path, tmp_path: Path) -> None:
    """It is read without gradients, and a teacher's size would be reported as nothing trainable."""
    trained = classifier(tiny_llama)
    save_adapter(trained, tmp_path)
    loaded = load_sequence_classifier(ModelOptions(model=str(tiny_llama)), LABELS, False, "cpu")
    attach_adapter(loaded, tmp_path)
    assert count_parameters(loaded.model) == count_parameters(trained.model)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta", "tiny_modernbert", "tiny_llama"])
def test_all_weights_are_estimated_as_adamw_holds_them(name: str, request: pytest.FixtureRequest) -> None:
    """Weight, gradient and two moments in float32: 16 bytes, and nothing frozen beside them."""
    model = ModelOptions(model=str(request.getfixturevalue(name)))
    estimate = estimate_training(model, None, TrainingOptions(), "cpu", labels=3)
    real = count_parameters(load_sequence_classifier(model, ("a", "b", "c"), False, "cpu").model).total
    assert estimate["trainable_parameters"] == estimate["total_parameters"] == real
    assert (estimate["base_bytes"], estimate["adapter_bytes"]) == (0, 16 * real)
    assert estimate["activations_bytes"] > 0


@pytest.mark.parametrize(("labels", "architecture"), [(3, "SequenceClassification"), (None, "CausalLM")])
def test_a_model_that_neither_classifies_nor_writes_text_is_refused(
    tmp_path: Path, labels: int | None, architecture: str
) -> None:
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"is no model for transformers' AutoModelFor{architecture}: ") as caught:
        estimate_training(ModelOptions(model=str(tmp_path)), None, TrainingOptions(), "cpu", labels)
    assert "\n" not in str(caught.value)
