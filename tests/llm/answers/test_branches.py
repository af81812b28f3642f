"""Labels asked as branches of one pass get the answers, losses and gradients that they would get alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from plain_scoring import (
    WINDOWED,
    attach_telling_adapter,
    forget_windows,
    load,
    log_likelihood,
    prompts_of,
    read_by_last_layer,
)
from torch.nn import functional as F

from evalsuite.llm.answers import branches
from evalsuite.llm.answers.branches import LabelBranches, branch_batch, make_block
from evalsuite.llm.loading.backbone import Backbone, base_of, recompute_activations

# Questions that share a beginning, one inside another; answers of several tokens that begin alike.
QUESTIONS = [[50, 9], [50, 60, 9], [50, 60, 70], [80, 90, 100, 110, 9], [7]]
YES, NO = [30, 31, 32], [30, 40]


def adapted(request: pytest.FixtureRequest, dropout: float = 0.0, **options: Any) -> Backbone:
    """A tiny Llama with an adapter that already changes what it says."""
    backbone = load(request, "tiny_llama", **options)
    attach_telling_adapter(backbone, dropout)
    return backbone


def asked(backbone: Backbone, questions: list[list[int]] = QUESTIONS, **changes: Any) -> LabelBranches:
    return LabelBranches(backbone, questions, (YES, NO), **({"max_length": 100} | changes))


def log_odds(backbone: Backbone, prompt: list[int], question: list[int]) -> torch.Tensor:
    """Of yes against no, each as the answer of a text of its own."""
    asked_alone = prompt + question
    return log_likelihood(backbone, asked_alone, YES) - log_likelihood(backbone, asked_alone, NO)


def oracle(backbone: Backbone, prompts: list[list[int]], questions: list[list[int]] = QUESTIONS) -> np.ndarray:
    with torch.no_grad():
        return np.array([[float(log_odds(backbone, p, q)) for q in questions] for p in prompts], dtype=np.float32)


@contextmanager
def columns_of(backbone: Backbone) -> Iterator[list[tuple[int, int]]]:
    """The (rows, columns) of every forward pass meanwhile."""
    seen: list[tuple[int, int]] = []

    def note(module: Any, given: Any, named: dict[str, Any]) -> None:
        seen.append(tuple(named["input_ids"].shape))

    handle = base_of(backbone.model).register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    handle.remove()


def gradients(backbone: Backbone, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    backbone.model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in backbone.model.named_parameters() if p.grad is not None}


def assert_alike(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one
    assert one.keys() == two.keys()
    assert max(float(value.abs().max()) for value in one.values()) > 1e-2, "a comparison of nothing with nothing"
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


def items_of(count: int, labels: int = len(QUESTIONS)) -> list[tuple[list[int], np.ndarray]]:
    random = np.random.default_rng(1)
    return [(prompt, random.random(labels) < 0.4) for prompt in prompts_of(*random.integers(2, 30, count).tolist())]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fixture", ["tiny_llama", *WINDOWED])
def test_branches_equal_one_label_at_a_time(request: pytest.FixtureRequest, fixture: str, attention: str) -> None:
    backbone = load(request, fixture, attn_implementation=attention)
    scorer = asked(backbone)
    assert scorer.way == "one pass", scorer.reason
    prompts = prompts_of(40, 3, 17, 1)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts)).max() < 1e-4


def test_a_logit_is_the_probability_of_yes_given_yes_or_no(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    [prompt] = prompts_of(12)
    scorer = LabelBranches(backbone, QUESTIONS, ([30], [40]), max_length=100)
    with torch.no_grad():
        following = backbone.model(input_ids=torch.tensor([prompt + QUESTIONS[1]])).logits[0, -1].softmax(dim=-1)
    expected = float(following[30] / (following[30] + following[40]))
    assert 1 / (1 + np.exp(-scorer.score([prompt])[0, 1])) == pytest.approx(expected, abs=1e-5)


def test_a_hybrid_model_cannot_branch_and_says_so(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_hybrid")
    scorer = asked(backbone)
    assert scorer.way == "one label at a time"
    assert scorer.reason == "one pass is refused (ValueError: layers of type linear_attention cannot branch)"
    prompts = prompts_of(30, 4)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts)).max() < 1e-4


@pytest.mark.parametrize("fixture", WINDOWED)
def test_a_mask_that_forgets_the_window_is_found_at_load(
    request: pytest.FixtureRequest, fixture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(request, fixture)
    forget_windows(monkeypatch)
    scorer = asked(backbone)
    assert scorer.way == "one label at a time"
    assert scorer.reason.startswith("one pass is off by")
    prompts = prompts_of(20)
    assert np.abs(scorer.score(prompts) - oracle(backbone, prompts)).max() < 1e-4


def test_a_branch_does_not_see_the_others(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_gemma3")
    prompts = prompts_of(14, 5)
    whole = asked(backbone).score(prompts)
    for label, question in enumerate(QUESTIONS):
        alone = asked(backbone, [question]).score(prompts)
        assert np.abs(alone[:, 0] - whole[:, label]).max() < 1e-5


@pytest.mark.parametrize(
    ("limit", "recompute", "four_bit"),
    [(512, False, False), (512, True, False), (6, False, False), (6, True, False), (6, True, True)],
    ids=["one block", "one block recomputed", "blocks", "blocks recomputed", "blocks recomputed in 4-bit"],
)
def test_losses_and_gradients_are_those_of_one_label_at_a_time(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, limit: int, recompute: bool, four_bit: bool
) -> None:
    backbone = adapted(request, load_in_4bit=four_bit)
    monkeypatch.setattr(branches, "BLOCK", limit)
    scorer = asked(backbone)
    assert (len(scorer.blocks) > 2) == (limit == 6)
    backbone.model.train()
    recompute_activations(backbone.model, recompute)
    items = items_of(4)
    losses = scorer.losses(branch_batch(items, backbone.tokenizer.pad_token_id))
    found = gradients(backbone, losses.sum())
    recompute_activations(backbone.model, False)
    plain = [
        F.binary_cross_entropy_with_logits(
            torch.stack([log_odds(backbone, prompt, question) for question in QUESTIONS]),
            torch.from_numpy(labels).float(),
        )
        for prompt, labels in items
    ]
    assert losses.tolist() == pytest.approx([float(loss.detach()) for loss in plain], abs=1e-4)
    assert_alike(found, gradients(backbone, torch.stack(plain).sum()))


def test_a_model_that_cannot_branch_trains_one_label_at_a_time(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = adapted(request)
    batch = branch_batch(items_of(3), backbone.tokenizer.pad_token_id)
    packed = gradients(backbone, asked(backbone).losses(batch).sum())

    def refuse(*arguments: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(branches, "packed", refuse)
    scorer = asked(backbone)
    assert scorer.way == "one label at a time"
    assert len(scorer.blocks) == len(QUESTIONS), "only one label's activations live"
    assert_alike(gradients(backbone, scorer.losses(batch).sum()), packed)


def test_blocks_are_recomputed_with_the_same_dropout(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = adapted(request, dropout=0.5)
    monkeypatch.setattr(branches, "BLOCK", 6)
    scorer = asked(backbone)
    backbone.model.train()
    batch = branch_batch(items_of(3), backbone.tokenizer.pad_token_id)

    def trained() -> tuple[float, dict[str, torch.Tensor]]:
        torch.manual_seed(5)
        loss = scorer.losses(batch).sum()
        return float(loss.detach()), gradients(backbone, loss)

    loss, found = trained()
    monkeypatch.setattr(branches, "checkpoint", lambda ask, *arguments, use_reentrant: ask(*arguments))
    kept_loss, kept = trained()
    assert loss == kept_loss
    assert_alike(found, kept)


def test_log_odds_stay_in_float32_under_autocast(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(request, "tiny_llama")
    scorer, batch = asked(backbone), branch_batch(items_of(2), 0)
    made: list[Any] = []
    last_logits = branches.last_logits
    monkeypatch.setattr(branches, "last_logits", lambda *a, **k: made.append(last_logits(*a, **k)) or made[0])
    with torch.no_grad():
        exact = scorer.log_odds(batch["input_ids"], batch["attention_mask"])
        with torch.autocast("cpu", torch.bfloat16):
            found = scorer.log_odds(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(found, exact)


def test_many_labels_keep_memory_bounded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """451 labels in blocks of 64 tokens: no pass is longer, and what autograd keeps does not grow with the labels."""
    backbone = adapted(request)
    monkeypatch.setattr(branches, "BLOCK", 64)
    many = [[5 + i % 20, 30 + i // 20, 9] for i in range(451)]
    scorer, few = asked(backbone, many), asked(backbone, many[:10])
    assert (len(few.blocks), scorer.tokens <= 64) == (1, True)
    items = items_of(2, 451)
    batch = branch_batch(items, backbone.tokenizer.pad_token_id)
    width = batch["input_ids"].shape[1]

    def kept(scorer: LabelBranches, labels: int) -> int:
        storages: dict[int, Any] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        part = {**batch, "targets": batch["targets"][:, :labels]}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            scorer.losses(part)
        return sum(storage.nbytes() for storage in storages.values())

    backbone.model.train()
    with columns_of(backbone) as seen:
        scorer.losses(batch).sum().backward()  # type: ignore[no-untyped-call]
    assert len(seen) == 2 * len(scorer.blocks), "every block once forward and once more backward"
    assert max(columns for _, columns in seen) == width + scorer.tokens
    assert kept(scorer, 451) < kept(few, 10)
    with columns_of(backbone) as seen:
        scores = scorer.score([prompt for prompt, _ in items])
    assert len(seen) == len(scorer.blocks)
    assert max(columns for _, columns in seen) == width + scorer.tokens
    some = [0, 200, 450]
    backbone.model.eval()
    expected = oracle(backbone, [prompt for prompt, _ in items], [many[label] for label in some])
    assert np.abs(scores[:, some] - expected).max() < 1e-4


@pytest.mark.parametrize("four_bit", [False, True])
def test_a_trained_adapter_is_part_of_the_score(request: pytest.FixtureRequest, four_bit: bool) -> None:
    backbone = adapted(request, load_in_4bit=four_bit)
    backbone.model.eval()
    prompts = prompts_of(30, 12)
    scores = asked(backbone).score(prompts)
    assert np.abs(scores - oracle(backbone, prompts)).max() < 1e-4
    with backbone.model.disable_adapter():
        assert np.abs(scores - oracle(backbone, prompts)).max() > 1e-2


def test_scores_do_not_depend_on_the_batch(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_gemma3")
    prompts = prompts_of(5, 30, 12, 30, 1)
    together = asked(backbone, token_budget=10_000).score(prompts)
    alone = asked(backbone, token_budget=16)
    assert len(alone.blocks) > 1
    assert np.abs(together - alone.score(prompts)).max() < 1e-4


def test_only_places_that_predict_an_answer_get_logits(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    scorer = LabelBranches(backbone, QUESTIONS, ([30], [40]), max_length=64)
    seen: list[int] = []
    head: Callable[..., Any] = base_of(backbone.model).get_output_embeddings().register_forward_hook
    head(lambda module, given, made: seen.append(made.shape[1]))
    last = read_by_last_layer(backbone.model)
    scorer.score(prompts_of(40, 30))
    assert seen == [len(QUESTIONS)]
    assert last == [2 * len(QUESTIONS)], "the last layer runs for these places alone"


def test_training_mode_comes_back_and_no_prompt_is_fine(request: pytest.FixtureRequest) -> None:
    backbone = load(request, "tiny_llama")
    scorer = asked(backbone, token_budget=16)
    backbone.model.train()
    counted: list[int] = []
    scorer.score(prompts_of(3, 4), counted.append)
    assert backbone.model.training
    assert sum(counted) == 2, "each document counts once, however many blocks it is asked"
    assert scorer.score([]).shape == (0, len(QUESTIONS))


def test_a_block_reads_what_questions_share_once() -> None:
    block = make_block([[5, 6, 7], [5, 6, 8]], [1], [2])
    assert len(block.tree.tokens) == 4
    assert block.signs.tolist() == [[1, 0, -1, 0], [0, 1, 0, -1]]
