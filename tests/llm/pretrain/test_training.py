"""The pretraining script on a corpus of a few sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalsuite.llm.pretrain.__main__ import main
from evalsuite.llm.pretrain.corpus import Source, read_corpus
from evalsuite.llm.pretrain.training import Settings, learning_rate_factor, pack, pretrain, write_twin

SUBJECTS = ["The minister", "A young trader", "The home team", "The laboratory", "An old sailor"]
ACTIONS = ["opened the new bridge", "sold the last shares", "won the final match", "tested a small engine"]
PLACES = ["in the capital", "before the winter", "after a long debate", "near the northern border"]
TINY = Settings(minutes=5, max_steps=3, vocabulary=320, context=64, batch=2, threads=1, warmup=1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Sixty articles of one sentence, in WikiText's format."""
    file = tmp_path / "wiki.tokens"
    sentences = [
        f"{s} {a} {p} , and the newspapers wrote about it ." for s in SUBJECTS for a in ACTIONS for p in PLACES
    ]
    file.write_text("".join(f" = Day {i} = \n {sentence} \n" for i, sentence in enumerate(sentences)))
    return file


@pytest.fixture
def sources(corpus: Path) -> list[Source]:
    return read_corpus([corpus])


def test_a_few_steps_write_a_loadable_model(sources: list[Source], tmp_path: Path) -> None:
    out = tmp_path / "lm"
    figures = pretrain(sources, out, TINY)
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert figures.steps == 3
    assert figures.seen_tokens == 3 * 2 * 64
    assert figures.perplexity < figures.twin_perplexity
    assert model.dtype == torch.bfloat16
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    ids = tokenizer("The home team won 2024 points.")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "The home team won 2024 points."


def test_the_card_states_sources_and_figures(sources: list[Source], tmp_path: Path) -> None:
    figures = pretrain(sources, tmp_path / "lm", TINY, "python -m evalsuite.llm.pretrain ...")
    card = (tmp_path / "lm" / "README.md").read_text()
    for fact in (sources[0].sha256, sources[0].licence, f"{figures.twin_perplexity:.1f}", "python -m evalsuite.llm"):
        assert fact in card


def test_the_same_seed_gives_the_same_weights(sources: list[Source], tmp_path: Path) -> None:
    # A budget so long that its share stays zero: the clock would otherwise move the learning rate.
    settings = Settings(**{**vars(TINY), "minutes": 1e9, "max_steps": 2})
    weights = []
    for name in ("a", "b"):
        pretrain(sources, tmp_path / name, settings)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    pretrain(sources, tmp_path / "c", Settings(**{**vars(settings), "seed": 1}))
    assert weights[0] == weights[1]
    assert weights[0] != (tmp_path / "c" / "model.safetensors").read_bytes()


def test_the_clock_ends_the_run(corpus: Path, tmp_path: Path) -> None:
    main(["--corpus", str(corpus), "--out", str(tmp_path / "lm"), "--minutes", "0.01", "--threads", "1"])
    assert (tmp_path / "lm" / "model.safetensors").exists()


def test_learning_rate_rises_then_falls_to_zero() -> None:
    assert learning_rate_factor(0.0, 0, 10) == pytest.approx(0.1)
    assert learning_rate_factor(0.0, 9, 10) == 1.0
    assert learning_rate_factor(0.5, 500, 10) == 0.5
    assert learning_rate_factor(1.0, 999, 10) == 0.0


def test_packing_loses_no_more_than_the_remainder() -> None:
    rows = [torch.arange(n, dtype=torch.int32) for n in (5, 7, 9)]
    packed = pack(rows, 4, torch.Generator().manual_seed(0))
    assert packed.shape == (5, 4)
    first = packed.flatten().tolist()
    assert first.count(0) == 3  # every row begins once


def test_the_twin_has_the_shape_and_other_weights(sources: list[Source], tmp_path: Path) -> None:
    pretrain(sources, tmp_path / "lm", TINY)
    write_twin(tmp_path / "lm", tmp_path / "twin", seed=7)
    trained, twin = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("lm", "twin"))
    assert trained.num_parameters() == twin.num_parameters()
    assert not torch.equal(trained.get_input_embeddings().weight, twin.get_input_embeddings().weight)
    assert (tmp_path / "twin" / "tokenizer.json").read_bytes() == (tmp_path / "lm" / "tokenizer.json").read_bytes()
