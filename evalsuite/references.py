"""Scores what a method is compared with, such as its teacher: on the same documents, in the same process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalsuite.accounting import Accounting
from evalsuite.contracts import Reference
from evalsuite.decision import ValidationParts
from evalsuite.memory import release_memory
from evalsuite.metrics import Report
from evalsuite.preparation import Prepared
from evalsuite.scoring import calibrate, decide, measure


@dataclass(frozen=True)
class Scored:
    """One system's report on the test split, its speed there and its size."""

    report: Report
    documents_per_second: float | None
    trainable_parameters: int | None
    total_parameters: int | None

    @classmethod
    def of(cls, report: Report, accounting: Accounting, facts: Mapping[str, Any]) -> Scored:
        """From what the phase "predict" counted and the method reported."""
        speed = accounting.to_json()["predict"]["documents_per_second"]
        return cls(report, speed, facts.get("trainable_parameters"), facts.get("total_parameters"))


def score_references(
    prepared: Prepared, references: Mapping[str, Reference], validation: ValidationParts, own: Scored
) -> dict[str, Any]:
    """Name -> metrics, parameters, documents a second and the ratios ours / theirs, of every reference.

    Each is loaded, calibrated and scored as the run's own method was, and freed before the next.
    """
    compared = {}
    for name, reference in references.items():
        compared[name] = _entry(own, _score(prepared, reference, validation), prepared.task.primary_metric)
        release_memory()
    return compared


def _score(prepared: Prepared, reference: Reference, validation: ValidationParts) -> Scored:
    method, accounting = reference.load(), Accounting()
    decision = calibrate(prepared, validation, method).decision
    texts = [example.text for example in prepared.splits.test]
    with accounting.phase("predict", documents=len(texts)):
        scores = method.predict(texts)
    return Scored.of(measure(prepared, decide(prepared, decision, scores)), accounting, reference.facts)


def _entry(own: Scored, other: Scored, primary: str) -> dict[str, Any]:
    return {
        "metrics": other.report.summary(),
        "parameters": {"trainable": other.trainable_parameters, "total": other.total_parameters},
        "documents_per_second": other.documents_per_second,
        "ratios": {
            "primary": _ratio(own.report.values[primary], other.report.values[primary]),
            "speed": _ratio(own.documents_per_second, other.documents_per_second),
            "total_parameters": _ratio(own.total_parameters, other.total_parameters),
        },
    }


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None
