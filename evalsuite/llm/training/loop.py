"""One plain training loop. A step is ``batch_size`` documents over all processes; everything else is memory.

The loss of a step is the sum of its documents' losses over their number, whatever the cut into micro-batches and
processes. transformers' Trainer is not used: on sequence classifiers it multiplies loss and gradients by the number of
accumulation steps, ends normally after SIGTERM, resumes from half-written checkpoints, and changes the effective batch
when memory runs out.

Shapes: b documents of a micro-batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.contracts import RunContext
from evalsuite.errors import Interrupted, StoreError, TrainingError
from evalsuite.llm.batching import micro_batches, steps_of_epoch, to_device
from evalsuite.llm.loading.backbone import Backbone, recompute_activations
from evalsuite.llm.lora.low_rank import lean_adapters
from evalsuite.llm.options import TrainingOptions
from evalsuite.llm.training.checkpoint import newest_checkpoint, restore_tensors, save_checkpoint, trainable_tensors
from evalsuite.llm.training.distributed import Processes
from evalsuite.llm.training.interrupts import StopRequest, stop_on_signal
from evalsuite.llm.training.seeding import random_state, restore_random_state, seed_everything
from evalsuite.llm.training.trackers import Trackers

CURVE_POINTS = 50


@dataclass(frozen=True)
class Objective:
    """What a method tells the loop.

    items: encoded training documents. lengths: tokens of each. collate: items -> tensors of one micro-batch.
    losses: (model, tensors) -> one loss a document, float32 [b]. validate: the validation's primary metric, higher is
    better; None where there is nothing to stop on. ids: names of the documents for error messages. starts_fitted: the
    model can classify before the first step; that state is scored too, and kept where training makes it no better.
    """

    items: Sequence[Any]
    lengths: Sequence[int]
    collate: Callable[[Sequence[Any]], dict[str, Tensor]]
    losses: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    validate: Callable[[], float] | None
    ids: Sequence[str] | None = None
    starts_fitted: bool = False


@dataclass
class TrainingSummary:
    """What training did so far. ``steps`` done, ``tokens`` without padding, ``seconds`` of the loop's own clock with
    validation; ``losses`` and ``grad_norms`` one a step; ``validations`` (step, score); ``best_step`` the kept state.
    """

    steps: int = 0
    total_steps: int = 0
    token_budget: int = 0
    tokens: int = 0
    seconds: float = 0.0
    memory_cuts: int = 0
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    stopped_early: bool = False


def learning_rate(step: int, total: int, options: TrainingOptions) -> float:
    """Step size of the step with this number (from 0): linear warm-up, then the schedule down to 0 at ``total``."""
    warmup = math.ceil(options.warmup_ratio * total)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return options.learning_rate * shape[options.schedule]


def train(backbone: Backbone, objective: Objective, options: TrainingOptions, ctx: RunContext) -> TrainingSummary:
    """Train the parameters that require gradients, from the newest checkpoint where there is one.

    The model is left in evaluation mode with its best state (the last one without validation).

    Raises:
        TrainingError: a loss or gradient is not finite (no weight has seen it), or no memory for one document.
        Interrupted: a signal came; the state is saved.
        StoreError: a checkpoint cannot be written, or belongs to another run.
    """
    if not objective.items:
        raise TrainingError("there are no training documents; give at least one")
    loop = _Loop(backbone, objective, options, ctx)
    loop.resume()
    if loop.processes.is_main:
        loop.trackers.start(options, ctx, loop.summary.steps)
    if options.recomputes(backbone.device.type):
        recompute_activations(backbone.model, True)
    try:
        bar = ctx.progress.bar("training", loop.total_documents)
        with lean_adapters(backbone), stop_on_signal() as request, bar as count:
            loop.run(request, count)
    finally:
        recompute_activations(backbone.model, False)
        backbone.model.eval()
        loop.optimizer.zero_grad(set_to_none=True)
        loop.trackers.close()
    ctx.facts.update(loop.facts())
    return loop.summary


class _Loop:
    """The state of one training, and the five things done with it: run, step, validate, save, resume."""

    def __init__(self, backbone: Backbone, objective: Objective, options: TrainingOptions, ctx: RunContext) -> None:
        self.backbone, self.objective, self.options, self.ctx = backbone, objective, options, ctx
        self.processes = Processes(backbone.device)
        self.parameters = [p for p in backbone.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, options.learning_rate, weight_decay=options.weight_decay)
        self.batch_size = options.documents_per_step
        self.steps_per_epoch = math.ceil(len(objective.items) / self.batch_size)
        total = max(1, math.ceil(options.epochs * self.steps_per_epoch))
        self.summary = TrainingSummary(total_steps=total, token_budget=options.token_budget)
        self.best: dict[str, Tensor] | None = None
        self.folder = ctx.workdir / "checkpoints"
        self.trackers = Trackers()
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        times = options.evaluations if objective.validate else 0
        self.evaluate_at = {round(total * (turn + 1) / times) for turn in range(times)}
        if self.processes.count > 1:  # dropout must differ between processes; the weights already agree
            seed_everything(ctx.seed + self.processes.rank)

    @property
    def total_documents(self) -> int:
        return round(self.options.epochs * len(self.objective.items))

    def run(self, request: StopRequest, count: Callable[[int], None]) -> None:
        """Train to the end, saving from time to time; on a signal finish the step, save and raise ``Interrupted``."""
        summary, stop, saved = self.summary, False, time.monotonic()
        started = saved - summary.seconds
        count(min(summary.steps * self.batch_size, self.total_documents))
        if summary.steps == 0 and self.objective.starts_fitted and self.evaluate_at:
            self.validate()
        while summary.steps < summary.total_steps and not summary.stopped_early and not stop:
            documents = self.documents(summary.steps)
            self.step(documents)
            count(len(documents))
            if summary.steps in self.evaluate_at:
                self.validate()
            summary.seconds = time.monotonic() - started
            due = time.monotonic() - saved > 60 * self.options.checkpoint_minutes
            stop, due = self.processes.any_of(request.asked, due)
            if stop or due:
                self.save()
                saved = time.monotonic()
        if stop:
            raise Interrupted(
                f"stopped after step {summary.steps} of {summary.total_steps}; the state is saved in {self.folder},"
                " the same command goes on from there"
            )
        if self.best is not None:
            restore_tensors(self.backbone.model, self.best)

    def documents(self, step: int) -> list[int]:
        """The documents of a step, by index."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            plan = steps_of_epoch(self.objective.lengths, self.batch_size, self.ctx.seed, epoch)
            self._epoch = (epoch, plan)
        return self._epoch[1][within]

    def step(self, documents: list[int]) -> None:
        """One optimizer step. Without memory, the token budget is cut and the same documents are done again."""
        summary = self.summary
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(summary.steps, summary.total_steps, self.options)
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            losses, possible = self.accumulate(documents)
            budget = self.processes.least(possible)
            if budget == summary.token_budget:
                break
            if budget == 0:
                raise TrainingError(
                    f"step {summary.steps + 1}: no memory for one document; lower max_length, or use load_in_4bit=true"
                    " or gradient_checkpointing=true"
                )
            torch.cuda.empty_cache()
            summary.token_budget, summary.memory_cuts = budget, summary.memory_cuts + 1
        self.update(documents, losses)

    def accumulate(self, documents: list[int]) -> tuple[dict[int, Tensor], int]:
        """Gradients of this process's share: (loss a document, the token budget this process can work with).

        The budget is the present one where all fitted, half of the batch that did not fit, or 0 where that batch was
        a single document.
        """
        objective, lengths = self.objective, self.objective.lengths
        mine = self.processes.share(sorted(documents, key=lambda index: lengths[index]))
        losses: dict[int, Tensor] = {}
        self.backbone.model.train()
        for batch in micro_batches(mine, lengths, self.summary.token_budget):
            try:
                tensors = to_device(
                    objective.collate([objective.items[index] for index in batch]), self.backbone.device
                )
                with self.autocast():
                    each = objective.losses(self.backbone.model, tensors)
                torch.autograd.backward(each.sum() / len(documents))
            except torch.OutOfMemoryError:
                return losses, len(batch) * max(lengths[index] for index in batch) // 2 if len(batch) > 1 else 0
            losses.update(zip(batch, each.detach(), strict=True))
        return losses, self.summary.token_budget

    def update(self, documents: list[int], losses: dict[int, Tensor]) -> None:
        """Check the gradients, then let the optimizer use them."""
        summary = self.summary
        self.processes.sum_gradients(self.parameters)
        mine = torch.stack(list(losses.values())).cpu() if losses else torch.zeros(0)
        loss = float(self.processes.sum(mine.sum().to(self.backbone.device))) / len(documents)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.options.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            wrong = [index for index, finite in zip(losses, mine.isfinite().tolist(), strict=True) if not finite]
            raise TrainingError(self.not_finite(loss, norm, wrong or documents))
        self.optimizer.step()
        summary.steps += 1
        summary.tokens += sum(self.objective.lengths[index] for index in documents)
        summary.losses.append(loss)
        summary.grad_norms.append(norm)
        rate = self.optimizer.param_groups[0]["lr"]
        self.trackers.log(summary.steps, {"train/loss": loss, "train/learning_rate": rate, "train/grad_norm": norm})

    def not_finite(self, loss: float, norm: float, documents: Sequence[int]) -> str:
        names = [self.objective.ids[index] if self.objective.ids else str(index) for index in documents[:5]]
        more = f" and {len(documents) - 5} more" if len(documents) > 5 else ""
        return (
            f"step {self.summary.steps + 1}: loss {loss}, gradient norm {norm}; no weight was changed. Documents"
            f" {', '.join(names)}{more}. Lower learning_rate, or use dtype=float32"
        )

    def validate(self) -> None:
        """Score validation, keep the best state, and stop when it has not risen ``patience`` times."""
        if self.objective.validate is None:
            return
        self.backbone.model.eval()
        state = random_state()  # scoring must not shift the dropout of later steps
        score = float(self.processes.from_main(self.objective.validate()))
        restore_random_state(state)
        summary = self.summary
        best = max((score for _, score in summary.validations), default=-math.inf)
        summary.validations.append((summary.steps, score))
        self.trackers.log(summary.steps, {"validation/score": score})
        if score > best or summary.best_step is None:
            summary.best_step = summary.steps
            self.best = trainable_tensors(self.backbone.model)
        since = sum(step > summary.best_step for step, _ in summary.validations)
        summary.stopped_early = 0 < self.options.patience <= since

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 arithmetic where the base is bfloat16: adapters and head keep their float32 weights."""
        if self.backbone.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.backbone.device.type, self.backbone.dtype)

    def save(self) -> None:
        """Write a checkpoint: trainable tensors, optimizer, generators of every process, position, best so far."""
        generators = self.processes.collect(random_state())
        if self.processes.is_main:
            state = {
                "summary": asdict(self.summary),
                "tensors": trainable_tensors(self.backbone.model),
                "optimizer": self.optimizer.state_dict(),
                "generators": generators,
                "best": self.best,
            }
            save_checkpoint(self.folder, self.summary.steps, state)
        self.processes.wait()

    def resume(self) -> None:
        """Continue from the newest complete checkpoint of this run, if any.

        Raises:
            StoreError: it was written by a training of another length, model or number of processes.
        """
        state = newest_checkpoint(self.folder)
        if state is None:
            return
        summary = TrainingSummary(**state["summary"])
        if summary.total_steps != self.summary.total_steps or len(state["generators"]) != self.processes.count:
            raise StoreError(
                f"the checkpoint in {self.folder} is of {summary.total_steps} steps on {len(state['generators'])}"
                f" processes, this training has {self.summary.total_steps} on {self.processes.count}; remove the folder"
            )
        restore_tensors(self.backbone.model, state["tensors"])
        self.optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state["generators"][self.processes.rank])
        self.summary, self.best = summary, state["best"]

    def facts(self) -> dict[str, Any]:
        """What a result reports of the training."""
        summary = self.summary
        stride = max(1, math.ceil(len(summary.losses) / CURVE_POINTS))
        return {
            "steps": summary.steps,
            "epochs": round(summary.steps / self.steps_per_epoch, 4),
            "best_step": summary.best_step,
            "stopped_early": summary.stopped_early,
            "train_tokens": summary.tokens,
            "train_seconds": round(summary.seconds, 3),
            "loss_curve": [
                (step + 1, round(summary.losses[step], 5)) for step in range(0, len(summary.losses), stride)
            ],
            "validation_curve": [(step, round(score, 5)) for step, score in summary.validations],
            "effective_batch": self.batch_size,
            "token_budget": summary.token_budget,
            "memory_cuts": summary.memory_cuts,
            "processes": self.processes.count,
        }
