"""A finished run on new text: labels, calibrated probabilities and the run's own thresholds, row by row.

The input streams through in chunks, so that memory does not grow with it, and every row comes out, also one that cannot
be predicted. Shapes: n texts, k labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.contracts import Method, Progress
from evalsuite.decision import Decision
from evalsuite.deliver.predict_input import (
    STREAM,
    InputColumns,
    TextRow,
    format_of,
    read_rows,
    row_estimate,
    text_rows,
)
from evalsuite.deliver.predict_output import Columns, Output, Position, Stream, lines_of, open_file
from evalsuite.errors import Interrupted, OptionError, UsageError
from evalsuite.llm.training.interrupts import StopRequest, stop_on_signal
from evalsuite.opening import open_method, read_request
from evalsuite.preparation import loads_model
from evalsuite.progress import Silent
from evalsuite.registry import Registry
from evalsuite.reliability import confidence
from evalsuite.samples import has_answers
from evalsuite.spec import RunResult
from evalsuite.store import plain

CHUNK_CHARACTERS = 10_000_000  # a chunk of very long texts ends early: memory is bounded by characters, not by rows
UNANSWERED: Mapping[str, Any] = {"label": None, "confidence": None, "probabilities": None, "raw": None}


@dataclass(frozen=True)
class Settings:
    """What is read and how it is written.

    abstain: rows with a confidence (see ``evalsuite.reliability.confidence``) under it get no label. chunk_size: rows
    that are predicted together and written at once. overwrite: replace an output that is there.
    """

    columns: InputColumns = field(default_factory=InputColumns)
    input_format: str | None = None
    output_format: str | None = None
    encoding: str = "utf-8"
    abstain: float | None = None
    chunk_size: int = 1_000
    overwrite: bool = False


@dataclass(frozen=True)
class Labeller:
    """A trained method with the decision that was fitted for it."""

    method: Method
    decision: Decision
    labels: tuple[str, ...]

    @classmethod
    def open(cls, run: RunResult, registry: Registry, device: str) -> Labeller:
        """Load the model of a finished run.

        Raises:
            ModelError: an adapter or base model that cannot be read.
        """
        spec = read_request(run.directory).spec
        method = registry.method(spec.method)
        if loads_model(method, method.config.model_validate(spec.method_options)):
            from evalsuite.llm.loading.source import choose_device

            device = choose_device(device)
        opened = open_method(run.directory, registry, Silent(), device)
        return cls(opened, Decision.from_json(run.results["decision"]), tuple(run.results["labels"]))

    def answers(self, texts: Sequence[str], abstain: float | None = None) -> list[dict[str, Any]]:
        """For each text ``status``, ``label`` (a tuple for multi-label), ``confidence``, ``probabilities``, ``raw``."""
        if not texts:
            return []
        scores = self.method.predict(texts)
        predicted = self.decision.decide(scores)
        chances = None if self.decision.own_labels else self.decision.probabilities(scores)
        sure = np.full(len(texts), np.nan) if chances is None else confidence(chances, self.decision.multilabel)
        found = []
        for row, status in enumerate(scores.status):
            answer = {**UNANSWERED, "status": status, "raw": None if scores.raw is None else scores.raw[row]}
            if status == "ok":
                if chances is not None:
                    rounded = [round(float(p), 6) for p in chances[row]]
                    answer["probabilities"] = dict(zip(self.labels, rounded, strict=True))
                    answer["confidence"] = round(float(sure[row]), 6)
                if abstain is not None and not sure[row] >= abstain:
                    answer["status"] = "abstained"
                else:
                    names = tuple(self.labels[place] for place in np.flatnonzero(predicted[row]))
                    answer["label"] = names if self.decision.multilabel else names[0]
            found.append(answer)
        return found


def predict_file(
    run: RunResult,
    source: str,
    target: str,
    settings: Settings,
    load: Callable[[], Labeller],
    progress: Progress,
) -> Position:
    """Predict every row of ``source`` into ``target``; ``-`` is stdin or stdout. Gives what was counted.

    ``load`` opens the run's model, once there is something to predict. The same call goes on where an earlier one was
    stopped, at whatever point.

    Raises:
        UsageError: an output that is there, or was begun with another request; a run without a model.
        OptionError: a format, ``abstain`` or ``chunk_size`` that does not fit.
        DataError: an input that cannot be read, lacks a column, or is not what an unfinished output was made of.
        Interrupted: a signal came; what was predicted is kept.
    """
    decision = Decision.from_json(run.results["decision"])
    _check(run, decision, settings)
    form = format_of(source, settings.input_format, "--input_format")
    columns = Columns(
        labels=tuple(run.results["labels"]),
        multilabel=decision.multilabel,
        probabilities=not decision.own_labels,
        raw=has_answers(run.directory),
        id=settings.columns.id is not None,
        keep=settings.columns.keep,
    )
    with _opened(run, source, target, columns, settings) as output, stop_on_signal() as stop:
        if not output.position.finished:
            rows = text_rows(read_rows(source, form, settings.columns.all, settings.encoding), settings.columns)
            digest = _skip(rows, output.position, source, target)
            chunks = _chunks(rows, settings.chunk_size)
            # Before the model is loaded: an input that cannot be read is told at once, and leaves no output.
            first = next(chunks, None)
            labeller = load() if first else None
            output.begin()
            with progress.bar("predict", max(0, row_estimate(source, form) - output.position.rows)) as advance:
                for chunk in chain([first] if first else [], chunks):
                    assert labeller is not None  # there is a chunk
                    _stop_if_asked(stop, output, target)
                    _update(digest, chunk)
                    output.write(_records(chunk, labeller, columns, settings.abstain), digest.hexdigest())
                    advance(len(chunk))
        output.finish()
        return output.position


def _check(run: RunResult, decision: Decision, settings: Settings) -> None:
    if "predictions_file" in run.results["facts"]:
        raise UsageError(f"{run.directory} was scored from a file of predictions: it holds no model to predict with")
    if settings.chunk_size < 1:
        raise OptionError(f"--chunk_size {settings.chunk_size} must be at least 1 row")
    if settings.abstain is None:
        return
    if not 0 < settings.abstain <= 1:
        raise OptionError(f"--abstain {settings.abstain:g} must be above 0 and at most 1")
    if decision.own_labels:
        raise OptionError(f"--abstain: {run.results['method']} gives no probabilities in this run; leave it away")


def _opened(
    run: RunResult, source: str, target: str, columns: Columns, settings: Settings
) -> AbstractContextManager[Output]:
    form = format_of(target, settings.output_format, "--output_format")
    request = {
        "run": run.results["run_id"],
        "input": source if source == STREAM else str(Path(source).resolve()),
        "columns": asdict(settings.columns),
        "input_format": settings.input_format,
        "output_format": form,
        "encoding": settings.encoding,
        "abstain": settings.abstain,
    }
    if target == STREAM:
        return nullcontext(Stream(lines_of(form, columns), Position(request)))
    return open_file(Path(target), form, columns, request, settings.overwrite)


def _skip(rows: Iterator[TextRow], position: Position, source: str, target: str) -> Any:
    """Read over the rows that are in the output; gives the digest of them, for those that follow to be added to.

    Raises:
        UsageError: they are not the rows that the output was made of.
    """
    digest = hashlib.blake2b(digest_size=16)
    for row in islice(rows, position.rows):
        _update(digest, [row])
    if position.rows and digest.hexdigest() != position.digest:
        raise UsageError(
            f"{source} has changed: its first {position.rows:,} rows are not those that {target}.partial was made of; "
            f"delete {target}.partial to start again"
        )
    return digest


def _update(digest: Any, rows: Iterable[TextRow]) -> None:
    for row in rows:
        digest.update(repr((row.id, row.text, row.problem, row.kept)).encode("utf-8", "surrogatepass"))


def _chunks(rows: Iterable[TextRow], size: int) -> Iterator[list[TextRow]]:
    """Lists of at most ``size`` rows, the same ones from wherever a chunk begins."""
    chunk: list[TextRow] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += len(row.text)
        if len(chunk) == size or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _stop_if_asked(stop: StopRequest, output: Output, target: str) -> None:
    if stop.asked:
        kept = "what was written is complete as far as it goes" if target == STREAM else "the same command goes on"
        raise Interrupted(f"stopped after {output.position.rows:,} rows; {kept}")


def _records(
    chunk: Sequence[TextRow], labeller: Labeller, columns: Columns, abstain: float | None
) -> list[dict[str, Any]]:
    """One record a row, in the order of ``columns``."""
    answers = iter(labeller.answers([row.text for row in chunk if not row.problem], abstain))
    records = []
    for row in chunk:
        answer = {**UNANSWERED, "status": "bad"} if row.problem else next(answers)
        record: dict[str, Any] = {"row": row.number}
        if columns.id:
            record["id"] = plain(row.id)
        record |= {"status": answer["status"], "reason": row.problem or None, columns.label: answer["label"]}
        record["confidence"] = answer["confidence"]
        if columns.probabilities:
            record["probabilities"] = answer["probabilities"]
        if columns.raw:
            record["raw"] = answer["raw"]
        records.append(record | {name: plain(cell) for name, cell in row.kept.items()})
    return records
