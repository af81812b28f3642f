"""A run made of an outside system's predictions, so that a vendor or an annotator can be compared like any method.

The system enters by the hook that every method enters by, under a name of its own; nothing is trained or run here.
Shapes: n documents, k labels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.accounting import Accounting, Phase
from evalsuite.attempts import Attempt
from evalsuite.collapse import Collapse
from evalsuite.config import resolve
from evalsuite.contracts import Example, Method, MethodSpec
from evalsuite.data.splits import text_hash
from evalsuite.decision import Decision
from evalsuite.deliver.predict_input import Row, cell_text, format_of, is_missing, read_rows
from evalsuite.deliver.predict_output import SEPARATORS, unguarded
from evalsuite.environment import describe_environment
from evalsuite.errors import DataError, UsageError, nearest
from evalsuite.hookspecs import hookimpl
from evalsuite.identity import run_id
from evalsuite.metrics import one_hot
from evalsuite.opening import write_request
from evalsuite.options import Options
from evalsuite.preparation import Prepared, prepare
from evalsuite.registry import Registry
from evalsuite.reliability import NAMES, reliability
from evalsuite.report.card import write_card
from evalsuite.results import Outcome, assemble, notices
from evalsuite.runner import announced, finished
from evalsuite.samples import Samples, write_samples
from evalsuite.scoring import measure
from evalsuite.spec import RunResult
from evalsuite.store import RESULTS, RunDirectory, file_digest, plain, write_json, write_text

ID_COLUMNS = ("id", "doc_id", "doc_hash")
LABEL_COLUMNS = ("label", "labels", "prediction")
UNANSWERED = {"failed", "bad", "abstained"}  # what `evalsuite predict` writes where it gives no label
SUM_TOLERANCE = 0.01  # of probabilities of one document, which may have been rounded
NAMED = 5

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """A file of predictions. ``id`` and ``label`` name its columns; None: the first of those that are usual."""

    path: str
    form: str | None = None
    encoding: str = "utf-8"
    id: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a system says of one document: label indices, or why it has none; probabilities [k], or None."""

    labels: tuple[int, ...]
    status: str
    probabilities: tuple[float, ...] | None = None


@dataclass
class Answers:
    """Answers by document id, or by hash of the text. ``outside``: labels that are not in the set, counted."""

    by_hash: bool
    found: dict[str, Answer] = field(default_factory=dict)
    outside: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class OutsideSystem:
    """A plugin that registers one method, which can neither be trained nor asked."""

    name: str

    @hookimpl
    def evalsuite_register_methods(self) -> list[MethodSpec]:
        """The outside system as a method."""
        told = "an outside system, known by its predictions alone"
        return [MethodSpec(self.name, self._refuse, self._refuse, Options, description=told, trained=False)]

    def _refuse(self, *arguments: Any) -> Method:
        raise UsageError(f"{self.name} is known by its predictions alone: there is no model to train or to load")


def score(
    registry: Registry, source: Source, name: str, flags: Mapping[str, Any], assignments: Iterable[str] = ()
) -> RunResult:
    """Score the predictions in ``source`` under ``name`` on the task in ``flags``, and keep the result as a run.

    Raises:
        UsageError: a name that a method has.
        DataError: a file that cannot be read, lacks a column, or names a document twice.
    """
    if name in registry.methods:
        raise UsageError(f"--name {name!r} is a method of evalsuite's; give the outside system a name of its own")
    form = format_of(source.path, source.form, "--input_format")
    if not Path(source.path).is_file():
        raise DataError(f"cannot read {source.path}: there is no such file")
    registry.load(f"score {name}", source.path, lambda: OutsideSystem(name))
    prepared = prepare(registry, *resolve(registry, {**flags, "method": name}, assignments))
    prepared = _of_this_file(prepared, file_digest(Path(source.path)))
    if (found := finished(prepared)) is not None:
        return found
    answers = read_answers(source, form, prepared.splits.labels, prepared.splits.multilabel)
    samples = joined(prepared, answers)
    told = _told(prepared, source, answers, samples)
    results = plain(_results(prepared, source, samples, told))
    with prepared.directory.claim() as workdir:
        write_request(workdir, prepared.request)
        texts = None if prepared.task.private else [example.text for example in prepared.splits.test]
        write_samples(workdir, prepared.task.name, samples, texts, None)
        write_json(workdir / "environment.json", describe_environment())
        write_text(workdir / "log.txt", "".join(f"{line}\n" for line in told))
        write_json(workdir / RESULTS, results)
        write_card(workdir, results, None)
        prepared.directory.finish()
    return announced(prepared, results)


def _of_this_file(prepared: Prepared, digest: str) -> Prepared:
    """Another file is another run. It is no other system: files that differ in the seed alone are seeds of one."""
    spec, identity = prepared.spec, {**prepared.identity, "predictions": digest}
    place = RunDirectory.place(spec.output_path, prepared.task.name, prepared.method.name, "none", run_id(identity))
    return replace(prepared, identity=identity, directory=place)


def read_answers(source: Source, form: str, labels: Sequence[str], multilabel: bool) -> Answers:
    """Every row of a file of predictions.

    Raises:
        DataError: a file that cannot be read, lacks a column, or names a document twice.
    """
    rows = list(read_rows(source.path, form, encoding=source.encoding))
    if broken := next((row for row in rows if row.problem), None):
        raise DataError(f"{source.path} row {broken.number}: {broken.problem}")
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    key = _column(source.id, ID_COLUMNS, columns, source.path, "--id_column")
    label = _column(source.label, LABEL_COLUMNS, columns, source.path, "--label_column")
    reader = _Reader(labels, multilabel, label, _probability_columns(columns, labels, source.path), form)
    answers, seen = Answers(by_hash=key == "doc_hash", outside=reader.outside), dict[str, int]()
    for row in rows:
        if is_missing(row.cells.get(key)) or row.cells[key] == "":
            raise DataError(f"{source.path} row {row.number} has no {key}: which document is it about?")
        document = reader.text(row.cells[key])
        if document in seen:
            raise DataError(
                f"{source.path}: document {document!r} is predicted twice, in rows {seen[document]} and {row.number}; "
                "keep one of them"
            )
        seen[document] = row.number
        try:
            answers.found[document] = reader.answer(row)
        except (TypeError, ValueError) as error:
            raise DataError(f"{source.path} row {row.number} (document {document!r}): {error}") from None
    return answers


def _column(named: str | None, usual: Sequence[str], columns: Sequence[str], path: str, flag: str) -> str:
    if named is not None and named in columns:
        return named
    if named is None and (found := next((name for name in usual if name in columns), None)):
        return found
    wanted = repr(named) if named is not None else " or ".join(map(repr, usual))
    raise DataError(f"{path} has no column {wanted}; {nearest(named or usual[0], columns)}; name it with {flag}")


def _probability_columns(columns: Sequence[str], labels: Sequence[str], path: str) -> list[str]:
    wanted = [f"p_{label}" for label in labels]
    if missing := [name for name in wanted if name not in columns]:
        if len(missing) < len(wanted):
            raise DataError(f"{path} has no column {missing[0]!r}, and {len(wanted) - len(missing)} others like it")
        return []
    return wanted


@dataclass
class _Reader:
    """Reads cells: names into label indices, numbers into probabilities."""

    labels: Sequence[str]
    multilabel: bool
    label: str
    probabilities: Sequence[str]
    form: str
    outside: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.index = {label: place for place, label in enumerate(self.labels)}
        self.separators = [mark for mark in SEPARATORS if not any(mark in label for label in self.labels)]

    def text(self, cell: Any) -> str:
        """A cell as text, as it was before it was guarded from spreadsheets."""
        text = cell_text(cell).strip()
        return unguarded(text) if self.form in ("csv", "tsv") else text

    def answer(self, row: Row) -> Answer:
        """What a row says. Raises: ValueError, TypeError for probabilities that are none."""
        cell, status = row.cells.get(self.label), row.cells.get("status")
        names = None if is_missing(cell) else self._names(cell)
        if status in UNANSWERED or names is None or (not names and not self.multilabel):
            return Answer((), "failed")
        unknown = [name for name in names if name not in self.index]
        self.outside.update(unknown)
        if status == "invalid" or unknown or (not self.multilabel and len(names) > 1):
            return Answer((), "invalid")
        return Answer(tuple(self.index[name] for name in names), "ok", self._chances(row.cells))

    def _names(self, cell: Any) -> list[str]:
        if isinstance(cell, list | tuple):
            return [self.text(name) for name in cell]
        text = self.text(cell)
        if not self.multilabel or text in self.index:
            return [text] if text else []
        for separator in self.separators[1:]:
            text = text.replace(separator, self.separators[0])
        parts = text.split(self.separators[0]) if self.separators else [text]
        return [part.strip() for part in parts if part.strip()]

    def _chances(self, cells: Mapping[str, Any]) -> tuple[float, ...] | None:
        given = cells.get("probabilities")
        if self.probabilities:
            given = [cells.get(name) for name in self.probabilities]
        elif isinstance(given, Mapping):
            given = [given.get(label) for label in self.labels]
        if not isinstance(given, list | tuple) or all(is_missing(cell) or cell == "" for cell in given):
            return None
        chances = tuple(float(cell) for cell in given)
        if len(chances) != len(self.labels):
            raise ValueError(f"{len(chances)} probabilities, expected one for each of {len(self.labels)} labels")
        if not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"probabilities must be from 0 to 1, got {list(chances)[:NAMED]}")
        if not self.multilabel and not math.isclose(sum(chances), 1, abs_tol=SUM_TOLERANCE):
            raise ValueError(f"probabilities of the labels of one document must add up to 1, got {sum(chances):.4g}")
        return chances


def joined(prepared: Prepared, answers: Answers) -> Samples:
    """The table of the scored split, in the order that every run of the same task and limits has."""
    splits = prepared.splits
    hashes = tuple(text_hash(example.text) for example in splits.test)
    found = [_of(answers, example, digest) for example, digest in zip(splits.test, hashes, strict=True)]
    predicted = one_hot([Example("", "", answer.labels) for answer in found], len(splits.labels))
    return Samples(
        ids=tuple(example.id for example in splits.test),
        hashes=hashes,
        gold=one_hot(splits.test, len(splits.labels)),
        predicted=predicted,
        probabilities=_probabilities(found, len(splits.labels), splits.multilabel),
        status=tuple(answer.status for answer in found),
        labels=tuple(splits.labels),
        split=prepared.spec.split,
    )


def _of(answers: Answers, example: Example, digest: str) -> Answer:
    return answers.found.get(digest if answers.by_hash else example.id, Answer((), "failed"))


def _probabilities(found: Sequence[Answer], k: int, multilabel: bool) -> Array | None:
    """[n, k], None unless every valid answer has them; what says nothing stands for a document without an answer."""
    given = [answer.probabilities is not None for answer in found if answer.status == "ok"]
    if not given or not all(given):
        return None
    nothing = (0.5 if multilabel else 1 / k,) * k
    return np.array([answer.probabilities or nothing for answer in found], np.float64)


def _told(prepared: Prepared, source: Source, answers: Answers, samples: Samples) -> list[str]:
    """What a reader of the result must know, in sentences."""
    lines = [
        *notices(prepared),
        f"Outside system: its predictions were read from {Path(source.path).name}; nothing was trained or run here, so "
        "that size, time and cost are unknown.",
    ]
    scored = set(samples.hashes if answers.by_hash else samples.ids)
    if unknown := [name for name in answers.found if name not in scored]:
        shown = ", ".join(unknown[:NAMED])
        lines.append(f"Left out: {len(unknown):,} predictions are of documents that are not scored here ({shown}).")
    if failed := samples.status.count("failed"):
        lines.append(f"Incomplete: {failed:,} of {len(samples.ids):,} documents have no prediction and count nowhere.")
    if invalid := samples.status.count("invalid"):
        outside = ", ".join(f"{name} ({count:,})" for name, count in answers.outside.most_common(NAMED))
        more = f": {outside}" if outside else ""
        lines.append(f"Invalid: {invalid:,} answers are outside the label set and count as wrong{more}.")
    given = [answer.probabilities is not None for answer in answers.found.values() if answer.status == "ok"]
    if samples.probabilities is None and any(given):
        lines.append(f"Probabilities: {given.count(False):,} predictions have none, so that none are used.")
    return lines


def _results(prepared: Prepared, source: Source, samples: Samples, told: list[str]) -> dict[str, Any]:
    """``results.json`` with the keys of every run, null where only the system's owner could know."""
    splits, report = prepared.splits, measure(prepared, samples)
    note = "the labels, and the probabilities where there are any, are the outside system's own"
    outcome = Outcome(
        facts={"predictions_file": Path(source.path).name, "device": None},
        accounting=Accounting(phases={"train": Phase(), "predict": Phase()}),
        decision=Decision(splits.multilabel, notes=(note,), own_labels=True),
        calibration=_calibration(samples, splits.multilabel),
        report=report,
        collapse=Collapse(None, ("the system was made elsewhere",)),
        attempts=[Attempt(prepared.spec.seed, None, ("the system was made elsewhere",), None, 0.0, 0, 0.0)],
        references={},
        reload_check={"passed": None, "reason": "there is no model here to reload"},
        environment=describe_environment(),
        estimate={},
    )
    nothing = dict.fromkeys(Phase().to_json())
    return {
        **assemble(prepared, outcome),
        "attempts": [],
        "cost": {
            "train": nothing,
            "predict": nothing,
            "peak_memory_bytes": {"cpu": None, "gpu": None},
            "usd": None,
        },
        "total_evaluation_time_seconds": None,
        "reload_failed": False,
        "notices": told,
    }


def _calibration(samples: Samples, multilabel: bool) -> dict[str, Any]:
    """As of every run; nothing was calibrated here, so that before and after are the same."""
    ok = np.asarray(samples.status) == "ok"
    if samples.probabilities is None:
        found, reason = dict[str, Any].fromkeys(NAMES), "the outside system's file has no probabilities"
    else:
        found, reason = reliability(samples.probabilities[ok], samples.gold[ok], multilabel), None
    return {"before": found, "after": found, "reason": reason}
