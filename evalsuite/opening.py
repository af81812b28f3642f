"""Opens a run directory as a method that predicts: for the reload check, for a teacher, for predictions on new text."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.config import read_yaml
from evalsuite.contracts import Example, FinishedRun, Method, Progress, RunContext, Scores, Splits, Task
from evalsuite.environment import cache_folder
from evalsuite.errors import StoreError
from evalsuite.metrics import one_hot, score_metric
from evalsuite.prompts import PromptSet, load_prompts
from evalsuite.registry import Registry
from evalsuite.spec import RunSpec
from evalsuite.store import open_run, write_json, write_yaml

CONFIG = "config.yaml"
TASK = "task.json"
DEFAULT_TEMPLATE = "plain"
OTHER_DATA = "builds_on_other_data"  # the fact that names such runs

log = logging.getLogger("evalsuite")


@dataclass(frozen=True)
class TaskFacts:
    """What a method must know about its task, kept beside the run so that the data need not be read again.

    ``shots``: solved examples (text, label indices) in front of every prompt. ``data``: fingerprint of the splits as
    the task loads them, before any limit; empty where it is not known.
    """

    name: str
    labels: tuple[str, ...]
    multilabel: bool
    descriptions: dict[str, str]
    primary_metric: str
    private: bool
    shots: tuple[tuple[str, tuple[int, ...]], ...] = ()
    data: str = ""

    @classmethod
    def of(cls, task: Task, splits: Splits, shots: Sequence[Example] = ()) -> TaskFacts:
        """The facts of a loaded task."""
        return cls(
            task.name,
            tuple(splits.labels),
            splits.multilabel,
            dict(splits.descriptions),
            task.primary_metric,
            task.private,
            tuple((example.text, example.labels) for example in shots),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskFacts:
        """What ``task.json`` holds. Raises: KeyError, TypeError where it holds something else."""
        shots = tuple((text, tuple(labels)) for text, labels in data["shots"])
        return cls(**{**data, "labels": tuple(data["labels"]), "shots": shots})


@dataclass(frozen=True)
class Request:
    """A resolved spec with the facts of the task it names: all that is needed to build or open its method."""

    spec: RunSpec
    facts: TaskFacts


def write_request(directory: Path, request: Request) -> None:
    """Write ``config.yaml`` and ``task.json``: enough to run again, and to open the trained method without the data."""
    write_yaml(directory / CONFIG, request.spec.to_dict())
    write_json(directory / TASK, asdict(request.facts))


def read_request(directory: Path) -> Request:
    """What ``write_request`` wrote. Raises: StoreError."""
    if not (directory / CONFIG).is_file() or not (directory / TASK).is_file():
        raise StoreError(f"{directory} is not a run directory: {CONFIG} or {TASK} is missing")
    data: dict[str, Any] = read_yaml(directory / CONFIG)
    try:
        facts = TaskFacts.from_json(json.loads((directory / TASK).read_text(encoding="utf-8")))
        return Request(RunSpec.from_dict(data), facts)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{directory}: {CONFIG} or {TASK} was changed, or another version wrote it: {error}") from None


def make_prompts(request: Request, registry: Registry) -> PromptSet | None:
    """The prompt templates of a run, None where its method has no prompt, or has one on demand and none is named."""
    needs = registry.method(request.spec.method).needs
    wanted = "prompts" in needs or ("template" in needs and request.spec.template is not None)
    return bind_prompts(request, registry) if wanted else None


def bind_prompts(request: Request, registry: Registry) -> PromptSet:
    """The template set that the request names, bound to its task's labels. Raises: UnknownNameError, TemplateError."""
    spec, facts = request.spec, request.facts
    prompts = load_prompts(
        spec.template or DEFAULT_TEMPLATE,
        task=facts.name,
        labels=facts.labels,
        multilabel=facts.multilabel,
        descriptions=facts.descriptions,
        search=[*map(Path, spec.templates), *registry.template_folders],
        chat=spec.apply_chat_template,
    )
    return replace(prompts, shots=facts.shots)


def make_context(request: Request, registry: Registry, workdir: Path, progress: Progress, device: str) -> RunContext:
    """The context that a method is built or loaded with."""
    facts = request.facts

    def primary_metric(scores: Scores, examples: Sequence[Example]) -> float:
        gold, metrics = one_hot(examples, len(facts.labels)), tuple(registry.metrics.values())
        return score_metric(facts.primary_metric, scores, gold, facts.multilabel, metrics)

    found: dict[str, Any] = {}

    def open_finished(directory: Path) -> FinishedRun:
        run, theirs = finished_run(directory, registry, progress, device), read_request(directory).facts.data
        known = found.get(OTHER_DATA, [])
        if theirs and facts.data and theirs != facts.data and run.run_id not in known:
            found[OTHER_DATA] = [*known, run.run_id]
            log.warning("%s", other_data(run.run_id))
        return run

    return RunContext(
        task=facts.name,
        labels=facts.labels,
        multilabel=facts.multilabel,
        seed=request.spec.seed,
        device=device,
        workdir=workdir,
        cache=cache_folder(),
        progress=progress,
        prompts=make_prompts(request, registry),
        primary_metric=primary_metric,
        open_run=open_finished,
        private=facts.private,
        facts=found,
    )


def other_data(run_id: str) -> str:
    """What a reader must know of a run that builds on ``run_id``, which has learned from other data of the task."""
    return (
        f"Data: run {run_id}, which this one builds on, has seen other data or other splits of this task; if it was "
        "trained on documents that are test documents here, both scores are too high. Train it with these task options."
    )


def finished_run(directory: Path, registry: Registry, progress: Progress, device: str) -> FinishedRun:
    """A complete run as another method sees it; no model is read yet.

    Raises:
        StoreError: not a run directory, or one that is not complete.
    """
    results = open_run(directory).results
    request = read_request(directory)
    facts, context = request.facts, make_context(request, registry, directory, progress, device)

    def load() -> Method:
        method = registry.method(request.spec.method)
        return method.load(directory, method.config.model_validate(request.spec.method_options), context)

    return FinishedRun(load, context.facts, facts.name, facts.labels, facts.multilabel, results["run_id"])


def open_method(directory: Path, registry: Registry, progress: Progress, device: str) -> Method:
    """Load the trained method of a run directory.

    Raises:
        StoreError: not a run directory.
        ModelError: an adapter or base model that cannot be read.
    """
    request = read_request(directory)
    method = registry.method(request.spec.method)
    context = make_context(request, registry, directory, progress, device)
    return method.load(directory, method.config.model_validate(request.spec.method_options), context)
