"""Published shapes: the parameters their authors count, and folders that stock tools read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from evalsuite.errors import StoreError, UnknownNameError
from evalsuite.llm.loading.shapes import SHAPES, main, write_random_weights, write_shape
from evalsuite.llm.training.footprint import count_parameters

# The hub's counts of the published weights; tied embeddings once
PUBLISHED = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-7b": 7_241_732_096,
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_shape_has_the_parameters_of_the_published_model(name: str, tmp_path: Path) -> None:
    folder = write_shape(name, tmp_path / name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert count_parameters(model).total == PUBLISHED[name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) <= model.config.vocab_size
    assert tokenizer.eos_token_id == model.config.eos_token_id


@pytest.mark.parametrize("tied", [True, False])
def test_random_weights_are_a_layer_a_file_and_complete(tied: bool, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        tie_word_embeddings=tied, attention_bias=True,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    write_random_weights(config, tmp_path)
    files = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len({file for key, file in files.items() if ".layers.1." in key}) == 1
    assert len(set(files.values())) == (5 if tied else 6)  # embedding, layers, norm, output
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    weight = model.model.layers[1].mlp.up_proj.weight
    assert weight.dtype == torch.bfloat16
    assert float(weight.detach().float().std()) == pytest.approx(config.initializer_range, rel=0.1)
    assert bool((model.model.norm.weight == 1).all())
    assert not bool(model.model.layers[0].self_attn.q_proj.bias.any())
    assert bool(model(torch.arange(9)[None]).logits.isfinite().all())


def test_what_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean llama-3\.2-3b"):
        write_shape("llama-3.2-4b", tmp_path / "a")
    main(["llama-3.2-1b", str(tmp_path / "b")])
    assert (tmp_path / "b" / "tokenizer.json").exists()
    with pytest.raises(StoreError, match="holds a model already"):
        write_shape("llama-3.2-1b", tmp_path / "b")
    with pytest.raises(SystemExit):
        main(["llama-3.2-1b", str(tmp_path / "b")])
    assert "holds a model already" in capsys.readouterr().err
