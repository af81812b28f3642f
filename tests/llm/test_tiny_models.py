"""The tiny models load as a user's would, and encode any text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

MODELS = ("tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid")
ENCODERS = ("tiny_bert", "tiny_roberta", "tiny_modernbert", "minilm")


@pytest.mark.parametrize("name", MODELS)
def test_tiny_model_reads_any_text(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    encoded = tokenizer("Ünïcode, 漢字", return_tensors="pt")
    assert tokenizer.decode(encoded["input_ids"][0], skip_special_tokens=True) == "Ünïcode, 漢字"
    logits = model(**encoded).logits
    assert logits.shape == (*encoded["input_ids"].shape, len(tokenizer))
    assert logits.std() > 0.1


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_reads_to_both_sides(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    encoded = tokenizer(["the team won the match", "the team won the game!"], padding=True, return_tensors="pt")
    rows = encoded["input_ids"].tolist()
    marks = {(row[0], [token for token in row if token != tokenizer.pad_token_id][-1]) for row in rows}
    assert marks == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    with torch.no_grad():
        first, second = model(**encoded).last_hidden_state[:, 1]
    assert not torch.allclose(first, second, atol=1e-4)  # the same beginning, read in the light of its end
