"""Label scoring equals one label at a time, for every family whose masks differ, on prompts longer than the window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_scoring import WINDOWED, attach_telling_adapter, forget_windows, load, log_likelihood, prompts_of

from evalsuite.llm.answers import label_scoring
from evalsuite.llm.answers.label_scoring import PREFIX_ONCE, LabelScorer, answer_sizes
from evalsuite.llm.loading.backbone import Backbone, base_of, layer_stack, load_causal_lm
from evalsuite.llm.options import ModelOptions

CANDIDATES = [[50, 1], [50, 60, 1], [50, 60, 70, 1], [80, 90, 100, 110, 1], [7, 1]]


def oracle(backbone: Backbone, prompts: list[list[int]], candidates: list[list[int]]) -> np.ndarray:
    """One label at a time."""
    with torch.no_grad():
        scores = [[float(log_likelihood(backbone, prompt, answer)) for answer in candidates] for prompt in prompts]
    return np.array(scores, dtype=np.float32)


@contextmanager
def read_by(backbone: Backbone) -> Iterator[list[int]]:
    """Tokens of every forward pass inside, padding included."""
    read: list[int] = []
    embeddings = base_of(backbone.model).get_input_embeddings()
    handle = embeddings.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].numel()))
    yield read
    handle.remove()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fixture", ["tiny_llama", *WINDOWED])
def test_one_pass_equals_one_label_at_a_time(request: pytest.FixtureRequest, fixture: str, attention: str) -> None:
    backbone = load(request, fixture, attn_implementation=attention)
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    assert scorer.way == PREFIX_ONCE, scorer.reason
    prompts = prompts_of(40, 3, 17, 1)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fixture", ["tiny_llama", *WINDOWED])
def test_what_prompts_begin_with_is_read_once(request: pytest.FixtureRequest, fixture: str, attention: str) -> None:
    backbone = load(request, fixture, attn_implementation=attention)
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    beginning, *rests = prompts_of(20, 5, 30, 1, 17)  # shorter and longer than the window, as are the rests
    prompts = [[*beginning, *rest] for rest in rests]
    expected = oracle(backbone, prompts, CANDIDATES)
    with read_by(backbone) as read:
        assert np.abs(scorer.score(prompts) - expected).max() < 1e-4
    nodes = len(scorer.trees[0].tokens)
    assert sorted(read) == sorted([20, 4 * (30 + nodes)]), "the beginning once, then the rests, padded"
    scorer.way = "one pass"
    with read_by(backbone) as read:
        assert np.abs(scorer.score(prompts) - expected).max() < 1e-4
    assert read == [4 * (50 + nodes)]


def test_a_beginning_is_read_once_however_many_the_batches(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_gemma3")
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100, token_budget=60)
    beginning, *rests = prompts_of(20, 5, 30, 1, 17, 22)
    prompts = [[*beginning, *rest] for rest in rests]
    with read_by(backbone) as read:
        scores = scorer.score(prompts)
    assert read.count(20) == 1
    assert len(read) > 3
    assert np.abs(scores - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


@pytest.mark.parametrize("lengths", [(20, 0), (20, 3), (3, 7)])
def test_prompts_that_begin_with_one_another(request: pytest.FixtureRequest, lengths: tuple[int, int]) -> None:
    """Every prompt keeps a token of its own: the one that is asked what follows."""
    backbone = load(request, "tiny_llama")
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    shared, more = prompts_of(*lengths)
    prompts = [shared, [*shared, *more]]
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


@pytest.mark.parametrize("fixture", ["tiny_llama", *WINDOWED, "tiny_hybrid"])
def test_the_shared_prefix_equals_one_label_at_a_time(request: pytest.FixtureRequest, fixture: str) -> None:
    backbone = load(request, fixture)
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    scorer.way = "shared prefix"
    prompts = prompts_of(40, 3, 17, 1)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


def test_a_hybrid_model_cannot_branch_and_says_so(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_hybrid")
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    assert scorer.way == "shared prefix"
    assert "one pass is refused (ValueError: layers of type linear_attention cannot branch)" in scorer.reason
    prompts = prompts_of(30, 4)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


@pytest.mark.parametrize("fixture", WINDOWED)
def test_a_mask_that_forgets_the_window_is_found_at_load(
    request: pytest.FixtureRequest, fixture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(request, fixture)
    forget_windows(monkeypatch)
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    assert scorer.way == "shared prefix"
    assert "one pass is off by" in scorer.reason


def test_the_check_is_longer_than_a_wide_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real windows have thousands of tokens: within one, a mask that forgets it would look right."""
    import tiny_models

    folder = tiny_models.tiny_mistral(tmp_path / "model", window=60)
    backbone = load_causal_lm(ModelOptions(model=str(folder)), "cpu")
    assert LabelScorer(backbone, CANDIDATES, max_length=100).way == PREFIX_ONCE
    forget_windows(monkeypatch)
    assert LabelScorer(backbone, CANDIDATES, max_length=100).way == "shared prefix"


def test_the_plain_way_is_left_when_the_others_fail(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(request, "tiny_llama")

    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no such kernel\nsecond line")

    monkeypatch.setattr(label_scoring, "one_pass", broken)
    monkeypatch.setitem(label_scoring.WAYS, "one pass", broken)
    monkeypatch.setitem(label_scoring.WAYS, "shared prefix", broken)
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    assert scorer.way == "plain"
    assert scorer.reason.startswith(
        "one pass, prefix once is refused (RuntimeError: no such kernel second line); "
        "one pass is refused (RuntimeError: no such kernel second line); shared prefix is refused"
    )
    prompts = prompts_of(5, 9)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


@pytest.mark.parametrize("four_bit", [False, True])
def test_a_trained_adapter_is_part_of_the_score(request: pytest.FixtureRequest, four_bit: bool) -> None:
    backbone = load(request, "tiny_mistral", load_in_4bit=four_bit)
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    assert scorer.way == PREFIX_ONCE, scorer.reason
    prompts = prompts_of(30, 12)
    before = scorer.score(prompts)
    attach_telling_adapter(backbone)
    after = scorer.score(prompts)
    backbone.model.eval()
    assert np.abs(after - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4
    assert np.abs(after - before).max() > 1e-2


def test_scores_do_not_depend_on_the_batch(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_gemma3")
    prompts = prompts_of(5, 30, 12, 30, 1)
    together = LabelScorer(backbone, CANDIDATES, max_length=64, token_budget=10_000).score(prompts)
    alone = LabelScorer(backbone, CANDIDATES, max_length=64, token_budget=1).score(prompts)
    assert np.abs(together - alone).max() < 1e-4


def test_many_labels_are_scored_in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load(request, "tiny_llama")
    candidates = [[5 + i % 10, 20 + i, 40 + i, 1] for i in range(60)]
    monkeypatch.setattr(label_scoring, "LOGITS", 400 * 30)
    scorer = LabelScorer(backbone, candidates, max_length=64)
    assert len(scorer.trees) > 3
    prompts = prompts_of(6, 11)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, candidates)).max() < 1e-4
    assert max(scorer._costs(prompts, scorer.trees[0])) * 2 > scorer.token_budget, "one prompt a batch"


def test_only_the_needed_positions_get_logits(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    scorer = LabelScorer(backbone, CANDIDATES, max_length=64)
    seen: list[int] = []
    head = base_of(backbone.model).get_output_embeddings()
    head.register_forward_hook(lambda module, given, made: seen.append(made.shape[1]))
    scorer.score(prompts_of(40, 30))
    assert seen == [1 + len(scorer.trees[0].tokens)]


def test_the_last_layer_runs_for_the_needed_positions(request: pytest.FixtureRequest) -> None:
    backbone, read = load(request, "tiny_llama"), list[int]()
    scorer = LabelScorer(backbone, CANDIDATES, max_length=100)
    for layer in layer_stack(backbone.model):
        layer.mlp.register_forward_hook(lambda module, given, made: read.append(given[0].shape[:-1].numel()))
    scorer.score(prompts_of(30, 29))
    nodes = len(scorer.trees[0].tokens)
    assert read == [2 * (30 + nodes), 2 * (1 + nodes)]


def test_training_mode_comes_back_and_no_prompt_is_fine(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    scorer = LabelScorer(backbone, CANDIDATES, max_length=64)
    backbone.model.train()
    counted: list[int] = []
    scorer.score(prompts_of(3, 4), counted.append)
    assert backbone.model.training
    assert sum(counted) == 2
    assert scorer.score([]).shape == (0, len(CANDIDATES))


def test_soft_capped_logits_are_scored_as_the_model_makes_them(tmp_path: Path) -> None:
    import tiny_models
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = tiny_models.tiny_tokenizer(bos="<bos>", eos="<eos>", pad="<pad>")
    config = Gemma2Config(
        **tiny_models.SHAPE,
        head_dim=8,
        sliding_window=8,
        final_logit_softcapping=2.0,
        **tiny_models._ids(tokenizer),
    )
    folder = tiny_models._write(tmp_path / "gemma2", Gemma2ForCausalLM, config, tokenizer)
    backbone = load_causal_lm(ModelOptions(model=str(folder)), "cpu")
    scorer = LabelScorer(backbone, CANDIDATES, max_length=64)
    assert scorer.way == PREFIX_ONCE, scorer.reason
    prompts = prompts_of(30, 6)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts, CANDIDATES)).max() < 1e-4


def test_normalisation_divides_by_tokens_or_bytes(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    assert answer_sizes("none", CANDIDATES, ["a"] * 5) is None
    assert answer_sizes("token", CANDIDATES, ["a"] * 5) == [2, 3, 4, 5, 2]
    assert answer_sizes("byte", CANDIDATES[:2], ["a", "é€"]) == [1, 5]
    prompts = prompts_of(6)
    raw = LabelScorer(backbone, CANDIDATES, max_length=64).score(prompts)
    divided = LabelScorer(backbone, CANDIDATES, max_length=64, divisors=[2, 3, 4, 5, 2]).score(prompts)
    assert np.allclose(divided, raw / np.array([2, 3, 4, 5, 2]), atol=1e-6)
