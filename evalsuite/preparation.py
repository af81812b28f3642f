"""From a resolved request to a run that could start: data read, templates and model checked, identity known."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalsuite.contracts import Example, MethodSpec, Splits, Task
from evalsuite.data.splits import fingerprint, text_hash
from evalsuite.decision import DecisionOptions, check_options
from evalsuite.environment import cache_folder
from evalsuite.errors import DataError, OptionError, UnknownNameError
from evalsuite.fewshot import balanced_subset, draw_examples
from evalsuite.identity import run_id, run_identity
from evalsuite.memory import collector_paused
from evalsuite.metrics import BUILTIN
from evalsuite.opening import Request, TaskFacts, make_prompts
from evalsuite.registry import Registry
from evalsuite.spec import RunSpec
from evalsuite.store import RunDirectory, digest_of


@dataclass(frozen=True)
class Prepared:
    """A run whose data is read and whose identity is known; nothing is written yet.

    ``splits.test`` holds the documents that are scored: half of validation where the request says so.
    """

    registry: Registry
    request: Request
    task: Task
    method: MethodSpec
    splits: Splits
    full_sizes: Mapping[str, int]
    identity: Mapping[str, Any]
    directory: RunDirectory
    device: str

    @property
    def spec(self) -> RunSpec:
        return self.request.spec

    @property
    def options(self) -> Any:
        """The method's options as its pydantic model."""
        return self.method.config.model_validate(self.spec.method_options)


def prepare(registry: Registry, spec: RunSpec, task: Task, method: MethodSpec) -> Prepared:
    """Read the data, check templates and model, and find the run's place.

    Raises:
        DataError: the data cannot be read, or there is nothing to train on or to score.
        UnknownNameError: the task's primary metric is neither built in nor a plugin's.
        OptionError: a decision that does not fit the task's labels.
        TemplateError: a template that cannot be rendered or cannot tell two labels apart.
        ModelError: a model that is absent or gated.
    """
    if task.primary_metric not in (metrics := {*BUILTIN, *registry.metrics}):
        raise UnknownNameError("primary metric", task.primary_metric, metrics, f"named by task {task.name}")
    whole = load_splits(task, spec)
    check_options(DecisionOptions.model_validate(spec.decision_options), whole.multilabel, len(whole.labels))
    splits, shots = without_shots(limited(whole, spec), whole, spec, task)
    for name, examples in (("train", splits.train), (spec.split, splits.test)):
        if not examples:
            raise DataError(f"task {task.name}: the {name} split is empty; see: evalsuite validate --task {spec.task}")
    request = Request(spec, replace(TaskFacts.of(task, splits, shots), data=fingerprint(whole)))
    prompts = make_prompts(request, registry)
    options = method.config.model_validate(spec.method_options)
    device, model_hash = "cpu", None
    if loads_model(method, options):
        with collector_paused():
            importlib.import_module("evalsuite.llm.loading.backbone")  # in one go with all that is slow to import
        from evalsuite.llm.loading.source import choose_device, model_identity

        device = choose_device(spec.device)
        model_hash = model_identity(options)
    identity = run_identity(
        spec,
        task,
        method,
        data=digest_of([fingerprint(splits), dict(splits.descriptions)]),
        template=prompts.hash if prompts else None,
        model=model_hash,
        more=method.identity(options) if method.identity else {},
    )
    model_name = str(spec.method_options.get("model", "none"))
    return Prepared(
        registry=registry,
        request=request,
        task=task,
        method=method,
        splits=splits,
        full_sizes={"train": len(whole.train), "validation": len(whole.validation), "test": len(whole.test)},
        identity=identity,
        directory=RunDirectory.place(spec.output_path, task.name, method.name, model_name, run_id(identity)),
        device=device,
    )


def loads_model(method: MethodSpec, options: Any) -> bool:
    """Whether a model is loaded on this machine; ``options.local`` is False where another one answers."""
    return "model" in method.needs and getattr(options, "local", True)


def load_splits(task: Task, spec: RunSpec) -> Splits:
    """Read a task's data with the options of ``spec``."""
    options = task.config.model_validate(spec.task_options) if task.config else None
    return task.load(options, cache_folder() / "tasks" / task.name)


def limited(splits: Splits, spec: RunSpec) -> Splits:
    """The documents that the request uses: limits keep those with the smallest hashes of their ids, in their old order;
    ``train_size`` then picks among the training documents, so many of each class.

    With split="validation", half of validation stands in place of test: what stops training and fits the decision is
    never what is scored.
    """
    most, test = spec.validation_limit, splits.test
    validation = splits.validation if most is None else smallest_hashes(splits.validation, most)
    if spec.split == "validation":
        validation, test = halved(validation)
    count = spec.limit if spec.limit is None or spec.limit >= 1 else len(test) * spec.limit
    test = test if count is None else smallest_hashes(test, max(1, round(count)))
    train = splits.train if spec.train_limit is None else smallest_hashes(splits.train, spec.train_limit)
    if spec.train_size is not None:
        train = balanced_subset(train, spec.train_size, spec.seed, len(splits.labels))
    return replace(splits, train=train, validation=validation, test=test)


def without_shots(splits: Splits, whole: Splits, spec: RunSpec, task: Task) -> tuple[Splits, list[Example]]:
    """The splits without the documents that stand solved in every prompt, and these documents.

    They come from train, and none has the text of a document in the ``whole`` validation or test split.

    Raises:
        OptionError: the task is private, and the run would have to keep its text.
    """
    if not spec.num_fewshot:
        return splits, []
    if task.private:
        raise OptionError(
            f"--num_fewshot {spec.num_fewshot} would keep texts of the private task {task.name!r} in the run; use 0"
        )
    scored = {text_hash(example.text) for example in (*whole.validation, *whole.test)}
    shots = draw_examples(splits.train, spec.num_fewshot, spec.seed, len(splits.labels), scored)
    drawn = {example.id for example in shots}
    return replace(splits, train=[example for example in splits.train if example.id not in drawn]), shots


def halved(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Two halves by a hash of the document id, not the one by which a run cuts its validation split in two."""
    halves: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        half = hashlib.blake2b(example.id.encode(), digest_size=1, person=b"scored").digest()[0] % 2
        halves[half].append(example)
    return halves


def smallest_hashes(examples: Sequence[Example], count: int) -> list[Example]:
    """``count`` examples by a hash of their id: the same for every seed and method, whatever order the file is in."""

    def key(row: int) -> bytes:
        return hashlib.blake2b(examples[row].id.encode(), digest_size=8).digest()

    chosen = set(sorted(range(len(examples)), key=key)[:count])
    return [example for row, example in enumerate(examples) if row in chosen]
