"""The nouns that tasks, methods and the core share. Shapes: n documents, k labels.

Nothing here knows a task, a method, a file format or a model library; numpy is the only import from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

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
    """A loaded dataset, checked on construction.

    ``findings`` maps what the reader repaired, skipped or noticed ("unclosed abstract") to the row ids it concerns.
    ``descriptions`` says in a few words what a label stands for; templates may print it.

    Raises:
        DataError: no labels, duplicate labels, a label index out of range, a single-label document without exactly
            one label, or a document id that occurs twice in a split.
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
        for name, examples in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            seen: set[str] = set()
            for example in examples:
                if problem := self._problem(example, seen):
                    raise DataError(f"{name}: document {problem}")
                seen.add(example.id)

    def _problem(self, example: Example, seen: set[str]) -> str | None:
        if example.id in seen:
            return f"id {example.id!r} occurs twice; ids must be unique in a split"
        if not self.multilabel and len(example.labels) != 1:
            return f"{example.id!r} has {len(example.labels)} labels, expected exactly one"
        outside = any(not 0 <= label < len(self.labels) for label in example.labels)
        return f"{example.id!r} has a label outside 0..{len(self.labels) - 1}" if outside else None

    def split(self, name: SplitName) -> Sequence[Example]:
        """The examples of one split by name."""
        examples: Sequence[Example] = getattr(self, name)
        return examples


@dataclass(frozen=True)
class Task:
    """A dataset to classify: how to load it, and what a reader of a result must know about it.

    ``load(config, cache)`` gets an instance of ``config`` (a pydantic model; None where there are no options) and a
    folder it may keep derived files in. ``private`` text never reaches results, logs or cards; ids and hashes do.
    ``split_sizes`` are the published sizes of the corpus, for the reader's check; empty where they are the user's own.
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

    logits: float32 [n, k], higher is likelier; softmax (single label) or sigmoid (multi-label) makes probabilities of
        them. None where the method cannot give them: probabilities are then null, never invented.
    predicted: bool [n, k], the method's own decision, used where there are no logits.
    status: n of "ok", "invalid" (an answer outside the label set) or "failed" (no answer was had).
    raw: what a generative method wrote, n strings, or None.
    """

    logits: Floats | None = None
    predicted: Bools | None = None
    status: Sequence[str] = ()
    raw: Sequence[str] | None = None

    def __post_init__(self) -> None:
        given = self.logits if self.logits is not None else self.predicted
        if given is None:
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
    """A system that is scored beside a method on the same documents. ``facts``: as a context's, filled after ``load``."""

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

    A method may also have ``card_snippet() -> str`` (code for the model card) and, after ``fit``, ``references() ->
    Mapping[str, Reference]`` (what it is to be compared with in the same run, such as its teacher).
    """

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None: ...
    def predict(self, texts: Sequence[str]) -> Scores: ...
    def save(self, directory: Path) -> None: ...


@dataclass(frozen=True)
class MethodSpec:
    """A registered method.

    build: ``build(config, ctx)`` makes an untrained method; load: ``load(directory, config, ctx)`` reads what ``save``
    wrote. config: a pydantic model with extra="forbid". needs: any of "model" (takes --model; torch is seeded),
    "prompts" (has a template always) or "template" (has one where it is named). trained: False for methods whose
    ``fit`` learns nothing. preflight: checks and estimates from (config, ctx, training documents) before any work.
    identity: what else can change a result, from (config), such as the id of a teacher's run.
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
