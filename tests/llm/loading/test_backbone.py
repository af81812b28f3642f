"""Loading, 4-bit, padding token, LoRA, adapters on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_tokenizer
from tokenizers import processors
from training_setup import LABELS, classifier, context, documents, objective, quick

from evalsuite.errors import ModelError
from evalsuite.llm.loading.backbone import (
    base_of,
    choose_pad_token,
    load_causal_lm,
    load_sequence_classifier,
    local_device,
    recompute_activations,
)
from evalsuite.llm.loading.quantisation import is_4bit
from evalsuite.llm.lora.adapters import ADAPTER_WEIGHTS, attach_adapter, save_adapter
from evalsuite.llm.options import LoraOptions, ModelOptions
from evalsuite.llm.training.loop import train
from evalsuite.llm.training.seeding import seed_everything


def gradients(backbone: Any, examples: Any) -> torch.Tensor:
    goal = objective(backbone, examples)
    backbone.model.train()
    backbone.model.zero_grad()
    goal.losses(backbone.model, goal.collate(range(len(examples)))).sum().backward()
    return torch.cat([p.grad.flatten() for p in backbone.model.parameters() if p.requires_grad])


def test_lora_gradients_are_equal_before_and_after_a_4bit_evaluation(tiny_llama: Path) -> None:
    """bitsandbytes repacks weights in an evaluation pass on CPUs with AVX512-BF16: later gradients are wrong."""
    backbone = classifier(tiny_llama, load_in_4bit=True)
    examples = documents(6)
    before = gradients(backbone, examples)
    goal = objective(backbone, examples)
    backbone.model.eval()
    with torch.no_grad():
        goal.losses(backbone.model, goal.collate(range(6)))
    assert torch.equal(gradients(backbone, examples), before)
    assert before.abs().max() > 0


def test_every_4bit_layer_keeps_its_weights_in_place(tiny_llama: Path) -> None:
    backbone = classifier(tiny_llama, load_in_4bit=True)
    flags = [m.support_avx512bf16_for_cpu for m in backbone.model.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    assert len(flags) == 14
    assert not any(flags)


def test_4bit_is_nf4_with_double_quantisation(tiny_llama: Path) -> None:
    backbone = load_causal_lm(ModelOptions(model=str(tiny_llama), load_in_4bit=True), "cpu")
    layer = backbone.model.model.layers[0].mlp.up_proj
    assert backbone.quantised
    assert is_4bit(layer.weight)
    assert layer.weight.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert not is_4bit(backbone.model.lm_head.weight)


def test_head_is_float32_trainable_saved_and_never_4bit(tiny_llama: Path, tmp_path: Path) -> None:
    backbone = classifier(tiny_llama, load_in_4bit=True, dtype="bfloat16")
    score = base_of(backbone.model).score
    assert score.weight.dtype == torch.float32
    assert score.weight.requires_grad
    assert not is_4bit(score.weight)
    save_adapter(backbone, tmp_path)
    saved = load_file(tmp_path / ADAPTER_WEIGHTS)
    assert saved["base_model.model.score.weight"].dtype == torch.float32


def test_problem_type_and_labels_are_set(tiny_llama: Path) -> None:
    for multilabel, expected in ((False, "single_label_classification"), (True, "multi_label_classification")):
        config = load_sequence_classifier(ModelOptions(model=str(tiny_llama)), LABELS, multilabel, "cpu").model.config
        assert config.problem_type == expected
        assert config.id2label == dict(enumerate(LABELS))


def test_model_without_pad_token_reuses_one_and_keeps_its_size(tiny_llama: Path) -> None:
    backbone = classifier(tiny_llama)
    assert backbone.tokenizer.pad_token == "<|end_of_text|>"
    assert base_of(backbone.model).config.pad_token_id == backbone.tokenizer.pad_token_id
    assert base_of(backbone.model).model.embed_tokens.weight.shape[0] == len(backbone.tokenizer) == 400


def test_pad_token_is_never_the_mark_that_ends_every_text() -> None:
    """Stock pooling skips padding: with pad = eos and an appended eos it would read the token before it."""
    tokenizer = tiny_tokenizer(bos="<s>", eos="</s>", pad="</s>")
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert choose_pad_token(tokenizer, 400) == 0
    assert tokenizer.pad_token == "<s>"


def test_pad_token_beyond_the_embeddings_is_passed_over() -> None:
    tokenizer = tiny_tokenizer(bos="<s>", eos="</s>", pad=None)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert choose_pad_token(tokenizer, 400) == tokenizer.convert_tokens_to_ids("</s>")


def test_no_token_to_pad_with_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"has no token to pad with: set pad_token in tokenizer_config\.json"):
        choose_pad_token(tiny_tokenizer(bos="<s>", eos="</s>", pad=None), 0)


def test_lora_targets(tiny_llama: Path) -> None:
    everywhere = classifier(tiny_llama).model
    attention = classifier(tiny_llama, lora=LoraOptions(lora_targets="attention")).model
    adapted = [
        {n.split(".")[-2] for n, _ in m.named_modules() if n.endswith("lora_A")} for m in (everywhere, attention)
    ]
    assert adapted[0] == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert adapted[1] == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_seed_decides_head_and_adapter(tiny_llama: Path) -> None:
    def start(seed: int) -> torch.Tensor:
        backbone = classifier(tiny_llama, seed=seed)
        return torch.cat([p.detach().flatten() for p in backbone.model.parameters() if p.requires_grad])

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


@pytest.mark.parametrize("load_in_4bit", [False, True])
def test_adapter_survives_the_disk(tiny_qwen: Path, tmp_path: Path, load_in_4bit: bool) -> None:
    trained = classifier(tiny_qwen, seed=1, load_in_4bit=load_in_4bit)
    with torch.no_grad():
        for parameter in trained.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    save_adapter(trained, tmp_path)
    seed_everything(2)
    options = ModelOptions(model=str(tiny_qwen), load_in_4bit=load_in_4bit)
    fresh = load_sequence_classifier(options, LABELS, False, "cpu")
    attach_adapter(fresh, tmp_path)
    goal = objective(trained, documents(5))
    with torch.no_grad():
        batch = goal.collate(range(5))
        torch.testing.assert_close(
            goal.losses(fresh.model, batch), goal.losses(trained.model.eval(), batch), rtol=1e-5, atol=1e-5
        )
    assert not any(p.requires_grad for p in fresh.model.parameters())


def test_adapter_folder_holds_no_config_json(tiny_llama: Path, tmp_path: Path) -> None:
    """With one, AutoModel and pipeline take the adapter for a whole model and fail."""
    save_adapter(classifier(tiny_llama), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"adapter_config.json", ADAPTER_WEIGHTS, "tokenizer.json", "tokenizer_config.json"}


def break_weights(folder: Path) -> None:
    path = folder / ADAPTER_WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def break_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / ADAPTER_WEIGHTS)


def drop_folder(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [break_weights, break_config, drop_tensor, drop_folder])
def test_corrupt_adapter_is_one_clear_line(tiny_llama: Path, tmp_path: Path, damage: Any) -> None:
    save_adapter(classifier(tiny_llama), tmp_path / "adapter")
    damage(tmp_path / "adapter")
    fresh = load_sequence_classifier(ModelOptions(model=str(tiny_llama)), LABELS, False, "cpu")
    with pytest.raises(ModelError, match="adapter") as caught:
        attach_adapter(fresh, tmp_path / "adapter")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_adapter_of_another_model_is_an_error(tiny_llama: Path, tiny_hybrid: Path, tmp_path: Path) -> None:
    save_adapter(classifier(tiny_llama), tmp_path)
    fresh = load_sequence_classifier(ModelOptions(model=str(tiny_hybrid)), LABELS, False, "cpu")
    with pytest.raises(ModelError, match="adapter"):
        attach_adapter(fresh, tmp_path)


def test_missing_weights_are_an_error(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of its architecture, the first is 'model.layers.0.mlp.up"):
        load_causal_lm(ModelOptions(model=str(folder)), "cpu")


def test_4bit_validation_in_mid_training_leaves_training_alone(tiny_llama: Path, tmp_path: Path) -> None:
    def losses(folder: str, evaluations: int) -> list[float]:
        backbone = classifier(tiny_llama, load_in_4bit=True)
        goal = objective(backbone, documents(20))

        def validate() -> float:
            with torch.no_grad():
                return -float(goal.losses(backbone.model, goal.collate(range(20))).mean())

        options = quick(evaluations=evaluations, patience=0)
        return train(backbone, replace(goal, validate=validate), options, context(tmp_path / folder)).losses

    assert losses("with", 6) == losses("without", 0)


def test_loading_says_nothing(tiny_llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_sequence_classifier(ModelOptions(model=str(tiny_llama)), LABELS, False, "cpu")
    assert capfd.readouterr() == ("", "")


def test_each_process_has_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """device_map="auto" under a launcher leaves a single process training."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == torch.device("cuda:3")
    assert local_device("cuda:1") == torch.device("cuda:1")


def test_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device("auto") == torch.device("cpu")
    with pytest.raises(ModelError, match="torch sees no GPU; use --device cpu"):
        local_device("cuda")
    with pytest.raises(ModelError, match="unknown device 'gpu'"):
        local_device("gpu")


def test_effective_attention_is_recorded(tiny_llama: Path) -> None:
    assert load_causal_lm(ModelOptions(model=str(tiny_llama)), "cpu").attn_implementation == "sdpa"
    eager = ModelOptions(model=str(tiny_llama), attn_implementation="eager")
    assert load_causal_lm(eager, "cpu").attn_implementation == "eager"


def test_a_model_that_cannot_recompute_activations_says_so(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = classifier(tiny_llama)
    monkeypatch.setattr(base_of(backbone.model), "supports_gradient_checkpointing", False)
    with pytest.raises(ModelError, match="cannot recompute activations; set gradient_checkpointing=false"):
        recompute_activations(backbone.model, True)
