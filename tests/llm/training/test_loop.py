"""The loop: what a step is, what memory may change, when it stops, what it reports."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_setup import classifier, context, documents, objective, quick

from evalsuite.errors import TrainingError
from evalsuite.llm.batching import steps_of_epoch
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.training.checkpoint import trainable_tensors
from evalsuite.llm.training.loop import Objective, TrainingSummary, learning_rate, train


def run(folder: Path, model: Path, goal: Any = objective, count: int = 20, **options: Any) -> tuple[Backbone, Any]:
    backbone = classifier(model)
    ctx = context(folder)
    return backbone, (train(backbone, goal(backbone, documents(count)), quick(**options), ctx), ctx)


def largest_difference(first: Backbone, second: Backbone) -> float:
    one, two = trainable_tensors(first.model), trainable_tensors(second.model)
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def test_equals_a_plain_loop(tiny_llama: Path, tmp_path: Path) -> None:
    """One batch a step, mean loss, clip, AdamW, cosine: written out beside the real one."""
    trained, (summary, _) = run(tmp_path, tiny_llama, warmup_ratio=0.5)
    plain = classifier(tiny_llama)
    goal, options = objective(plain, documents(20)), quick(warmup_ratio=0.5)
    parameters = [p for p in plain.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    plan = steps_of_epoch(goal.lengths, 8, 0, 0) + steps_of_epoch(goal.lengths, 8, 0, 1)
    plain.model.train()
    for step, rows in enumerate(plan):
        optimizer.param_groups[0]["lr"] = learning_rate(step, 6, options)
        loss = goal.losses(plain.model, goal.collate(rows)).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        assert summary.losses[step] == pytest.approx(loss.item(), rel=1e-4)
        assert summary.grad_norms[step] == pytest.approx(norm.item(), rel=1e-3)
    assert largest_difference(trained, plain) < 1e-4


@pytest.mark.parametrize("budget", [16, 100, 200])
def test_accumulation_changes_neither_loss_nor_gradient_norm(tiny_llama: Path, tmp_path: Path, budget: int) -> None:
    """transformers' Trainer multiplies both by the number of accumulation steps on sequence classifiers."""
    _, (whole, _) = run(tmp_path / "whole", tiny_llama, token_budget=100_000)
    _, (cut, _) = run(tmp_path / "cut", tiny_llama, token_budget=budget)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-4)
    assert cut.grad_norms == pytest.approx(whole.grad_norms, rel=1e-4)


def out_of_memory_above(rows: int, backbone: Backbone) -> Objective:
    goal = objective(backbone, documents(20))

    def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        if len(batch["targets"]) > rows:
            raise torch.OutOfMemoryError
        return goal.losses(model, batch)

    return replace(goal, losses=losses)


def test_out_of_memory_cuts_the_micro_batch_and_nothing_else(tiny_llama: Path, tmp_path: Path) -> None:
    """Halving the batch without doubling the accumulation would change the effective batch."""
    roomy, (whole, _) = run(tmp_path / "roomy", tiny_llama)
    tight, (cut, ctx) = run(tmp_path / "tight", tiny_llama, lambda b, _: out_of_memory_above(2, b))
    assert cut.steps == whole.steps
    assert cut.losses == pytest.approx(whole.losses, rel=1e-4)
    assert largest_difference(roomy, tight) < 1e-3
    assert ctx.facts["effective_batch"] == 8
    assert ctx.facts["memory_cuts"] > 0
    assert ctx.facts["token_budget"] < quick().token_budget


def test_out_of_memory_in_mid_step_does_the_step_again(tiny_llama: Path, tmp_path: Path) -> None:
    """What earlier micro-batches of the step have added to the gradients must not be counted twice, or for all."""

    def once(backbone: Backbone, examples: Any) -> Objective:
        goal, calls = objective(backbone, examples), 0

        def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise torch.OutOfMemoryError
            return goal.losses(model, batch)

        return replace(goal, losses=losses)

    roomy, (whole, _) = run(tmp_path / "roomy", tiny_llama)
    tight, (cut, _) = run(tmp_path / "tight", tiny_llama, once, token_budget=100)
    assert cut.memory_cuts == 1
    assert cut.losses == pytest.approx(whole.losses, rel=1e-4)
    assert cut.grad_norms == pytest.approx(whole.grad_norms, rel=1e-3)
    assert largest_difference(roomy, tight) < 1e-3


def test_no_memory_for_one_document(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 1: no memory for one document; lower max_length"):
        run(tmp_path, tiny_llama, lambda b, _: out_of_memory_above(0, b))


def poisoned(backbone: Backbone, where: str) -> Objective:
    goal = objective(backbone, documents(20))

    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(_: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * math.inf

    def collate(rows: Any) -> dict[str, Tensor]:
        return {**goal.collate(rows), "rows": torch.tensor(list(rows))}

    def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        values = goal.losses(model, batch)
        if where == "gradient":
            return Poison.apply(values)
        return values.where(batch["rows"] != 3, math.nan)

    return replace(goal, collate=collate, losses=losses)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_not_finite_stops_before_a_weight_changes(tiny_llama: Path, tmp_path: Path, where: str) -> None:
    """One such step destroys every weight, and the run would end cleanly with loss 0."""
    backbone = classifier(tiny_llama)
    before = trainable_tensors(backbone.model)
    with pytest.raises(TrainingError, match=r"step \d+: loss .* no weight was changed\. Documents doc-") as caught:
        train(backbone, poisoned(backbone, where), quick(batch_size=32), context(tmp_path))
    if where == "loss":
        assert "Documents doc-3. Lower" in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in trainable_tensors(backbone.model).items())


@pytest.mark.parametrize(
    ("schedule", "end", "middle"), [("cosine", 0.0, 0.5), ("linear", 0.0, 0.5), ("constant", 1.0, 1.0)]
)
def test_learning_rate(schedule: str, end: float, middle: float) -> None:
    options = quick(schedule=schedule, warmup_ratio=0.2, learning_rate=1.0)
    assert [learning_rate(step, 10, options) for step in range(2)] == [0.5, 1.0]
    assert learning_rate(6, 10, options) == pytest.approx(middle)
    assert learning_rate(10, 10, options) == pytest.approx(end, abs=1e-12)
    assert learning_rate(0, 10, quick(warmup_ratio=0, learning_rate=1.0)) == 1.0


def with_scores(scores: list[float], seen: list[dict[str, Tensor]]) -> Any:
    def goal(backbone: Backbone, examples: Any) -> Objective:
        def validate() -> float:
            seen.append(trainable_tensors(backbone.model))
            return scores[len(seen) - 1]

        return objective(backbone, examples, validate)

    return goal


def test_early_stop_keeps_the_best_state(tiny_llama: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []
    scores = [0.1, 0.5, 0.4, 0.3, 0.9, 0.9]
    backbone, (summary, ctx) = run(tmp_path, tiny_llama, with_scores(scores, seen), evaluations=6, patience=2)
    assert summary.validations == [(1, 0.1), (2, 0.5), (3, 0.4), (4, 0.3)]
    assert (summary.best_step, summary.stopped_early, summary.steps) == (2, True, 4)
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in trainable_tensors(backbone.model).items())
    assert ctx.facts["best_step"] == 2
    assert ctx.facts["stopped_early"]


def test_patience_zero_never_stops(tiny_llama: Path, tmp_path: Path) -> None:
    _, (summary, _) = run(tmp_path, tiny_llama, with_scores([0.9, *[0.1] * 5], []), evaluations=6, patience=0)
    assert summary.steps == 6
    assert summary.best_step == 1


def test_scoring_validation_does_not_shift_training(tiny_llama: Path, tmp_path: Path) -> None:
    def drawing(backbone: Backbone, examples: Any) -> Objective:
        return objective(backbone, examples, lambda: float(torch.rand(())) * 0)

    silent, _ = run(tmp_path / "a", tiny_llama)
    scored, _ = run(tmp_path / "b", tiny_llama, drawing, evaluations=3, patience=0)
    assert scored.model.training is False
    assert silent.model.training is False
    # equal scores keep the first state, so compare the trajectories
    _, (first, _) = run(tmp_path / "c", tiny_llama)
    _, (second, _) = run(tmp_path / "d", tiny_llama, drawing, evaluations=3, patience=0)
    assert first.losses == second.losses


def test_facts(tiny_llama: Path, tmp_path: Path) -> None:
    backbone, (summary, ctx) = run(tmp_path, tiny_llama, epochs=1.5)
    lengths = objective(backbone, documents(20)).lengths
    assert summary.steps == ctx.facts["steps"] == 5
    assert ctx.facts["epochs"] == pytest.approx(5 / 3, abs=1e-3)
    assert sum(lengths) < ctx.facts["train_tokens"] < 2 * sum(lengths)
    assert ctx.facts["train_seconds"] > 0
    assert [step for step, _ in ctx.facts["loss_curve"]] == [1, 2, 3, 4, 5]
    assert ctx.facts["loss_curve"][-1][1] < ctx.facts["loss_curve"][0][1]


def test_progress_counts_documents(tiny_llama: Path, tmp_path: Path) -> None:
    class Recorder:
        total, counts = 0, []

        def bar(self, title: str, total: int, unit: str = "docs") -> Any:
            from contextlib import nullcontext

            Recorder.total = total
            return nullcontext(Recorder.counts.append)

    backbone = classifier(tiny_llama)
    train(backbone, objective(backbone, documents(20)), quick(), replace(context(tmp_path), progress=Recorder()))
    assert Recorder.total == sum(Recorder.counts) == 40


def test_only_trainable_weights_change(tiny_llama: Path, tmp_path: Path) -> None:
    fresh = {name: p.clone() for name, p in classifier(tiny_llama).model.named_parameters()}
    trained, _ = run(tmp_path, tiny_llama)
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(parameter, fresh[name]) == (not parameter.requires_grad), name


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"dtype": "bfloat16"}])
def test_learns_with(tiny_llama: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    model = {key: value for key, value in options.items() if key == "dtype"}
    rest = {key: value for key, value in options.items() if key != "dtype"}
    backbone = classifier(tiny_llama, **model)
    summary = train(backbone, objective(backbone, documents(24)), quick(epochs=8, **rest), context(tmp_path))
    assert summary.losses[-1] < 0.3 < summary.losses[0]


def test_gradient_checkpointing_changes_no_loss(tiny_llama: Path, tmp_path: Path) -> None:
    _, (plain, _) = run(tmp_path / "a", tiny_llama)
    _, (recomputed, _) = run(tmp_path / "b", tiny_llama, gradient_checkpointing=True)
    assert recomputed.losses == pytest.approx(plain.losses, rel=1e-5)


def test_trains_outside_the_main_thread(tiny_llama: Path, tmp_path: Path) -> None:
    """Signal handlers belong to the main thread: a notebook's or server's thread trains without them."""
    summaries: list[TrainingSummary] = []
    thread = threading.Thread(target=lambda: summaries.append(run(tmp_path, tiny_llama)[1][0]))
    thread.start()
    thread.join()
    assert summaries[0].steps == 6


def test_no_documents(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training documents"):
        run(tmp_path, tiny_llama, count=0)
