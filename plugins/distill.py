"""The distill method: a small student learns from gold labels and from the logits of a finished run, its teacher.

Hinton et al. 2015 (arXiv 1503.02531): the student also matches the teacher's distribution, softened by a temperature.
The student is an encoder with its own head, or a small causal model with a linear head on its last token; all weights
are trained, or a LoRA adapter. The teacher sees the student's training text and no other document of the task. Further
text that nobody labelled may be added: the teacher alone answers for it.

Whether the teacher helped shows only beside the same student without one. So that one is trained here too, with the
same seed and as many epochs over the labelled documents, and both it and the teacher are scored as references.

Shapes: n labelled documents, u unlabelled ones, k labels.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.contracts import Example, Floats, Method, MethodSpec, Reference, RunContext, Scores
from evalsuite.errors import DataError, ModelError, OptionError
from evalsuite.hookspecs import hookimpl
from evalsuite.llm.options import FineTuningOptions
from evalsuite.memory import release_memory
from evalsuite.metrics import one_hot
from evalsuite.options import option

if TYPE_CHECKING:
    from torch import Tensor

    from evalsuite.llm.classifier import TextClassifier
    from evalsuite.llm.export.formats import Exports

DISTILBERT = "arXiv 1910.01108, and its published run_squad_w_distillation.py"
GOLD_ONLY = Path("checkpoints", "gold_only")  # below the working directory; gone once the run is scored
FACTS = "facts.json"


class DistillConfig(FineTuningOptions):
    """Options of the distill method."""

    teacher: str | None = option(None, "directory of the finished run that teaches", identity=False)
    temperature: float = option(2.0, "softens the distributions that are compared", gt=0, source=DISTILBERT)
    alpha: float = option(
        0.5, "weight of the teacher's part of the loss; the gold label's has the rest", ge=0, le=1, source=DISTILBERT
    )
    unlabelled: str | None = option(
        None, "file of further texts: .txt, one a line; .jsonl or .csv with a field `text`", identity=False
    )


@dataclass(frozen=True)
class Lessons:
    """What the teacher adds: u texts without gold labels; logits, float32 [n + u, k], NaN where it had no answer."""

    texts: Sequence[str]
    logits: Floats


class Distill:
    """A student."""

    def __init__(self, config: DistillConfig, ctx: RunContext, classifier: TextClassifier | None = None) -> None:
        self.config, self.ctx, self._classifier = config, ctx, classifier
        self._references: Mapping[str, Reference] = {}

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Ask the teacher, then train two students: one on gold alone, one on both; ``validation`` stops each.

        Raises:
            OptionError: no teacher, or one of another task.
            StoreError: the teacher's run is not complete.
            ModelError: the teacher gives no logits.
        """
        from evalsuite.llm.teacher import open_teacher, teacher_logits

        teacher, unlabelled = open_teacher(self.config.teacher, self.ctx), read_texts(self.config.unlabelled)
        started = time.monotonic()
        logits = teacher_logits(teacher, [*(example.text for example in train), *unlabelled], self.ctx.cache)
        self.ctx.facts.update(
            teacher=teacher.run_id,
            teacher_seconds=round(time.monotonic() - started, 3),
            teacher_unanswered=int(np.isnan(logits).any(axis=1).sum()),
            unlabelled_documents=len(unlabelled),
        )
        gold_only = self._without_teacher(train, validation)
        self.ctx.facts["gold_only_train_seconds"] = gold_only.facts["train_seconds"]
        self._references = {"teacher": teacher, "gold_only": gold_only}
        self._classifier = train_student(self.config, self.ctx, train, validation, Lessons(unlabelled, logits))

    def references(self) -> Mapping[str, Reference]:
        """The teacher, and the student without one."""
        return self._references

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits, float32 [n, k], in the order of ``texts``."""
        return self._ready().predict(texts)

    def save(self, directory: Path) -> None:
        """Write the student: ``model/``, all weights, or ``adapter/``, a peft adapter with the head in it."""
        from evalsuite.llm.adaptation import save_classifier

        save_classifier(self._ready(), self.config, directory)

    @classmethod
    def load(cls, directory: Path, config: DistillConfig, ctx: RunContext) -> Distill:
        """Read what ``save`` wrote; the teacher is not needed.

        Raises:
            ModelError: it is missing, cut short, or of another model or other labels.
        """
        from evalsuite.llm.adaptation import read_classifier

        return cls(config, ctx, read_classifier(directory, config, ctx))

    def card_snippet(self) -> str:
        """Python that classifies a text with the saved folder, without evalsuite."""
        from evalsuite.llm.adaptation import fine_tuned_snippet

        return fine_tuned_snippet(self._ready(), self.config)

    def exports(self, dtype: str) -> Exports:
        """What can be written of the model for plain libraries, by kind."""
        from evalsuite.llm.export.formats import classifier_exports

        return classifier_exports(self._ready(), self.config, dtype)

    def _without_teacher(self, train: Sequence[Example], validation: Sequence[Example]) -> Reference:
        """Train the same student on gold alone and put it on disk, where an interrupted run finds it again."""
        from evalsuite.llm.adaptation import save_classifier
        from evalsuite.llm.training.distributed import Processes

        folder = self.ctx.workdir / GOLD_ONLY
        config, ctx = self.config, replace(self.ctx, workdir=folder, facts={})
        if not (folder / FACTS).is_file():
            classifier = train_student(config, ctx, train, validation)
            processes = Processes(classifier.backbone.device)
            if processes.is_main:
                save_classifier(classifier, config, folder)
                # last, and under its name only when whole: it says that the student is
                (folder / "draft").write_text(json.dumps(ctx.facts), encoding="utf-8")
                (folder / "draft").replace(folder / FACTS)
            processes.wait()
            del classifier
            release_memory()
        ctx.facts.update(json.loads((folder / FACTS).read_text(encoding="utf-8")))

        def load() -> Method:
            return Distill.load(folder, config, ctx)

        return Reference(load, ctx.facts)

    def _ready(self) -> TextClassifier:
        if self._classifier is None:
            raise ModelError("the distill method has no model yet; call fit or load first")
        return self._classifier


def train_student(
    config: DistillConfig,
    ctx: RunContext,
    train: Sequence[Example],
    validation: Sequence[Example],
    lessons: Lessons | None = None,
) -> TextClassifier:
    """A student of n labelled documents, and of its teacher where there are ``lessons``.

    A document's loss is (1 - alpha) times that of its gold label plus alpha times the distance from its teacher; a part
    that is missing is 0. Without lessons it is the gold label's alone.
    """
    import torch

    from evalsuite.llm.adaptation import build_classifier
    from evalsuite.llm.training.loop import train as run
    from evalsuite.llm.training.losses import ClassificationLoss, distillation_losses
    from evalsuite.llm.training.seeding import seed_everything

    seed_everything(ctx.seed)  # before the model is built: every student starts from the same head
    classifier = build_classifier(config, ctx)
    gold_loss = ClassificationLoss(config, one_hot(train, len(ctx.labels)), ctx.multilabel)
    texts, ids = [example.text for example in train], [example.id for example in train]
    targets = classifier.targets(train)
    columns = {"targets": targets}
    if lessons is not None:
        more, logits = len(lessons.texts), torch.from_numpy(lessons.logits)
        texts, ids = [*texts, *lessons.texts], [*ids, *(f"unlabelled text {row + 1}" for row in range(more))]
        columns = {
            "targets": torch.cat([targets, targets.new_zeros(more, *targets.shape[1:])]),
            "labelled": torch.cat([torch.ones(len(train)), torch.zeros(more)]),
            "teacher": logits.nan_to_num(),
            "taught": logits.isfinite().all(dim=1).float(),
        }

    def losses(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        gold = gold_loss(logits, batch["targets"])
        if lessons is None:
            return gold
        distance = distillation_losses(logits, batch["teacher"], config.temperature, ctx.multilabel)
        return (1 - config.alpha) * batch["labelled"] * gold + config.alpha * batch["taught"] * distance

    run(
        classifier.backbone,
        classifier.objective(classifier.encode(texts), columns, losses, validation, ids),
        config,
        ctx,
    )
    return classifier


def read_texts(path: str | None) -> list[str]:
    """The texts of a file, empty ones left out; none where there is no file.

    Raises:
        OptionError: a file of another kind.
        DataError: a file that is absent, cannot be read, or has no field ``text``.
    """
    if path is None:
        return []
    kind = Path(path).suffix.lower()
    if kind not in (".txt", ".jsonl", ".csv"):
        raise OptionError(f"unlabelled={path} is of another kind; expected .txt, .jsonl or .csv")
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            if kind == ".txt":
                texts = list(file)
            else:
                rows = map(json.loads, file) if kind == ".jsonl" else csv.DictReader(file)
                texts = [str(row["text"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"unlabelled={path} cannot be read: {type(error).__name__}: {error}") from error
    return [text.strip() for text in texts if text.strip()]


def preflight(config: DistillConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """The student's memory and disk in bytes; the teacher is freed before the student is built.

    Raises:
        OptionError: no teacher, or one of another task or other labels; options that do not fit each other.
        StoreError: no run, or one that is not complete.
        DataError: unlabelled texts that cannot be read.
        ModelError: a student that is absent, gated, or has no classifier in transformers.
    """
    from evalsuite.llm.adaptation import estimate_fine_tuning
    from evalsuite.llm.teacher import open_teacher

    open_teacher(config.teacher, ctx)
    read_texts(config.unlabelled)
    return estimate_fine_tuning(config, ctx)


def identity(config: DistillConfig) -> Mapping[str, Any]:
    """The teacher's run and the unlabelled texts, by content; ``preflight`` says what is wrong with either."""
    results = Path(config.teacher or "") / "results.json"
    run_id = json.loads(results.read_text(encoding="utf-8"))["run_id"] if results.is_file() else None
    texts = Path(config.unlabelled or "")
    digest = hashlib.sha256(texts.read_bytes()).hexdigest()[:16] if texts.is_file() else None
    return {"teacher": run_id, "unlabelled": digest}


@hookimpl
def evalsuite_register_methods() -> list[MethodSpec]:
    """The distill method."""
    return [
        MethodSpec(
            name="distill",
            build=Distill,
            load=Distill.load,
            config=DistillConfig,
            needs=frozenset({"model"}),
            description="a small student of gold labels and of a finished run's logits",
            preflight=preflight,
            identity=identity,
        )
    ]
