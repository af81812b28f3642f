"""The language model that ships with the package."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from evalsuite import bundled

PARAGRAPH = (
    "The town lies on a low hill above the river. For many years most people worked in the mill, but it was closed "
    "after the war, and a small museum is now kept in the building. In the summer the market is held in front of the "
    "church, where farmers sell fruit, cheese and bread. A railway was built to the coast, and the first train "
    "carried the mayor, two members of the government and a great number of children."
)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(bundled.path(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(bundled.path())


def perplexity(model: LlamaForCausalLM, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        return math.exp(model(input_ids=ids, labels=ids).loss.item())


def test_the_folder_is_small_and_complete() -> None:
    files = {file.name: file.stat().st_size for file in bundled.path().iterdir()}
    assert sum(files.values()) <= 8 * 2**20
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= set(files)


def test_special_tokens_are_distinct_and_agree(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(special)) == 3
    assert special == (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert len(tokenizer) == model.config.vocab_size


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "Naïve café  prices rose 12.5%\n\t(Übersee, 東京)"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_linear_dimensions_fit_nf4_blocks(model: LlamaForCausalLM) -> None:
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear
    assert all(size % 64 == 0 for module in linear for size in module.weight.shape)


def test_english_is_likelier_than_under_a_random_twin(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    ids = tokenizer(PARAGRAPH, return_tensors="pt")["input_ids"]
    torch.manual_seed(0)
    twin = LlamaForCausalLM(model.config).eval()
    assert perplexity(model, ids) < 0.1 * perplexity(twin, ids)


def test_the_card_states_licences_hashes_and_perplexity() -> None:
    card = (bundled.path() / "README.md").read_text(encoding="utf-8")
    for fact in ("sha256", "CC-BY-SA", "random-initialised twin", "evalsuite.llm.pretrain"):
        assert fact in card
