"""The nouns that tasks, methods and the core share, on numpy alone. Shapes: n documents, k labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from evalsuite.errors import DataError

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Example:
    """One document. ``labels`` holds indices: exactly one where the task is single-label, any number otherwise."""

    id: str
    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Splits:
    """A loaded dataset. ``findings`` maps what the reader repaired, skipped or noticed to the row ids it concerns.
    ``descriptions`` says in a few words what a label stands for; templates may print it.

    Raises:
        DataError: too few or duplicate labels, a document id twice in a split, or labels that do not fit a document.
    """

    labels: tuple[str, ...]
    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    multilabel: bool = False
    descriptions: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    synthetic: bool = False

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise DataError(f"a task needs two or more distinct labels, got {list(self.labels)[:20]}")
        for name in get_args(SplitName):
            seen: set[str] = set()
            for example in self.split(name):
                where = f"{name}: document {example.id!r}"
                if example.id in seen:
                    raise DataError(f"{name}: document id {example.id!r} occurs twice; ids must be unique in a split")
                if not self.multilabel and len(example.labels) != 1:
                    raise DataError(f"{where} has {len(example.labels)} labels, expected exactly one")
                if any(not 0 <= label < len(self.labels) for label in example.labels):
                    raise DataError(f"{where} has a label outside 0..{len(self.labels) - 1}")
                seen.add(example.id)

    def split(self, name: SplitName) -> Sequence[Example]:
        """The examples of one split by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


@dataclass(frozen=True)
class Task:
    """A dataset to classify, and what a reader of a result must know about it.

    ``load(config, cache)`` gets an instance of ``config`` (None where there are no options) and a folder for derived
    files. ``private`` text reaches no result, log or card. ``split_sizes``: as published; empty if the user's own.
    """

    name: str
    load: Callable[[Any, Path], Splits]
    config: type[Any] | None = None
    multilabel: bool = False
    primary_metric: str = "f1_macro"
    description: str = ""
    source: str = ""
    revision: str = ""
    licence: str = ""
    citation: str = ""
    split_sizes: Mapping[str, int] = field(default_factory=dict)
    private: bool = False


@dataclass(frozen=True)
class Scores:
    """What a method says about n documents, in their order.

    logits: float32 [n, k]; softmax (single label) or sigmoid (multi-label) makes probabilities of them. None where the
        method cannot give them: probabilities are then null, never invented.
    predicted: bool [n, k], the method's own decision, used where there are no logits. raw: n answers as written.
    status: n of "ok", "invalid" (an answer outside the label set) or "failed" (no answer was had).
    """

    logits: Floats | None = None
    predicted: Bools | None = None
    status: Sequence[str] = ()
    raw: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if (given := self.logits if self.logits is not None else self.predicted) is None:
            raise ValueError("Scores needs logits or predicted")
        if not self.status:
            object.__setattr__(self, "status", ("ok",) * len(given))
        if len(self.status) != len(given) or (self.raw is not None and len(self.raw) != len(given)):
            raise ValueError(f"{len(given)} documents, but {len(self.status)} states")

    def __len__(self) -> int:
        return len(self.status)


class Progress(Protocol):
    """Reports long work. ``bar`` is entered around it and gives a function that counts finished documents."""

    def bar(self, title: str, total: int, unit: str = "docs") -> AbstractContextManager[Callable[[int], None]]: ...


@dataclass(frozen=True)
class RunContext:
    """What the core hands a method. ``facts`` is where a method reports what it did (see docs: facts)."""

    task: str
    labels: tuple[str, ...]
    multilabel: bool
    seed: int
    device: str
    workdir: Path
    cache: Path
    progress: Progress
    prompts: Any = None  # evalsuite.prompts.PromptSet, where the method's needs name "prompts"
    primary_metric: Callable[[Scores, Sequence[Example]], float] | None = None
    open_run: Callable[[Path], FinishedRun] | None = None
    private: bool = False  # the task's text may go nowhere
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """A system that is scored beside a method on the same documents. ``facts``: as a context's, after ``load``."""

    load: Callable[[], Method]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class FinishedRun(Reference):
    """A complete run that another one builds on, such as a teacher; its model is read by ``load`` and not before."""

    task: str
    labels: tuple[str, ...]
    multilabel: bool
    run_id: str


class Method(Protocol):
    """A way to classify. ``fit`` never sees the split that is scored; ``validation`` is for early stopping only.

    It may have ``card_snippet() -> str | None``, ``references() -> Mapping[str, Reference]``, asked after ``fit``, and
    ``exports(dtype) -> Mapping[kind, Callable[[Path], str]]``, see ``evalsuite.deliver.export``.
    """

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None: ...
    def predict(self, texts: Sequence[str]) -> Scores: ...
    def save(self, directory: Path) -> None: ...


@dataclass(frozen=True)
class MethodSpec:
    """A registered method.

    build(config, ctx) makes an untrained method, load(directory, config, ctx) reads what ``save`` wrote. config: a
    pydantic model with extra="forbid". needs: any of "model" (torch is seeded), "prompts" (always has a template) or
    "template" (has one where it is named). trained: False where ``fit`` learns nothing. preflight(config, ctx, train):
    checks and estimates before any work. identity(config): what else can change a result, such as a teacher's run id.
    """

    name: str
    build: Callable[[Any, RunContext], Method]
    load: Callable[[Path, Any, RunContext], Method]
    config: type[Any]
    needs: frozenset[str] = frozenset()
    description: str = ""
    trained: bool = True
    preflight: Callable[[Any, RunContext, Sequence[Example]], Mapping[str, Any]] | None = None
    identity: Callable[[Any], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Metric:
    """``compute(gold bool[n, k], predicted bool[n, k], probabilities float[n, k] or None)`` -> a number, or None."""

    name: str
    compute: Callable[[Bools, Bools, npt.NDArray[np.floating] | None], float | None]
    higher_is_better: bool = True
    description: str = ""
