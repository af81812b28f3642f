"""The tiny models load as a user's would, and encode any text."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

MODELS = ("tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid")


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
