"""What every method owes every task, whoever wrote either: all built-in pairs, on random tiny models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.config import resolve
from evalsuite.contracts import Method, RunContext, Scores, Splits
from evalsuite.decision import Decision
from evalsuite.opening import Request, TaskFacts, make_context
from evalsuite.preparation import limited, load_splits
from evalsuite.progress import Silent
from evalsuite.registry import build_registry

REGISTRY = build_registry()
# `table` has no sample of its own; `clv` reads one through the same reader.
TASKS = sorted(set(REGISTRY.tasks) - {"table"})
BASES: dict[str, dict[str, Any]] = {"own": {}, "4-bit": {"load_in_4bit": True, "adaptation": "lora"}}
CASES = [
    (method, task, base)
    for method, spec in sorted(REGISTRY.methods.items())
    for base, tasks in (("own", TASKS), ("4-bit", ["ag_news", "wipo"]))
    for task in tasks
    if base == "own" or "load_in_4bit" in spec.config.model_fields
]
FEW = {"train_limit": 24, "limit": 12}
SMALL = {"epochs": 1, "max_length": 192, "evaluations": 1}

Given = Callable[..., dict[str, str]]


class Case:
    """One method on a few documents of one task."""

    def __init__(self, task: str, method: str, given: Given, workdir: Path, **options: Any) -> None:
        spec = REGISTRY.method(method)
        flags: dict[str, Any] = {"task": task, "method": method, **FEW, **given(spec, task, **FEW)}
        flags |= {name: value for name, value in {**SMALL, **options}.items() if name in spec.config.model_fields}
        self.spec, found, self.method = resolve(REGISTRY, flags)
        whole = limited(load_splits(found, self.spec), self.spec)
        self.splits: Splits = replace(whole, validation=whole.validation[:8])
        self.request = Request(self.spec, TaskFacts.of(found, self.splits))
        self.workdir = workdir
        self.texts = [example.text for example in self.splits.test]

    def context(self) -> RunContext:
        return make_context(self.request, REGISTRY, self.workdir, Silent(), "cpu")

    def options(self) -> Any:
        return self.method.config.model_validate(self.spec.method_options)

    def trained(self) -> Method:
        built = self.method.build(self.options(), self.context())
        built.fit(self.splits.train, self.splits.validation)
        return built


def decided(scores: Scores, multilabel: bool) -> np.ndarray[Any, Any]:
    return Decision(multilabel).decide(scores)


@pytest.mark.parametrize(("method", "task", "base"), CASES)
def test_a_method_keeps_its_contract(method: str, task: str, base: str, given: Given, tmp_path: Path) -> None:
    case = Case(task, method, given, tmp_path, **BASES[base])
    trained = case.trained()
    n, k, multilabel = len(case.texts), len(case.splits.labels), case.splits.multilabel

    scores = trained.predict(case.texts)
    assert len(scores) == n
    assert set(scores.status) <= {"ok", "invalid", "failed"}
    if scores.logits is not None:
        assert scores.logits.shape == (n, k)
        assert scores.logits.dtype == np.float32
        assert np.isfinite(scores.logits).all()
    labels = decided(scores, multilabel)
    assert labels.shape == (n, k)
    if not multilabel:
        assert (labels.sum(axis=1) <= 1).all()

    # Answers follow the order of the texts, whatever batches were made of them.
    backwards = trained.predict(case.texts[::-1])
    if scores.logits is not None and backwards.logits is not None:
        np.testing.assert_allclose(backwards.logits[::-1], scores.logits, atol=2e-4)
    else:
        np.testing.assert_array_equal(decided(backwards, multilabel)[::-1], labels)

    # Nothing to say about nothing, and no crash on empty or hostile text.
    assert len(trained.predict(["", " ", "{{ 7 * 7 }} </s> <pad>"])) == 3
    assert len(trained.predict([])) == 0

    trained.save(case.workdir)
    reloaded = case.method.load(case.workdir, case.options(), case.context()).predict(case.texts)
    if scores.logits is not None and reloaded.logits is not None:
        np.testing.assert_allclose(reloaded.logits, scores.logits, atol=2e-4)
    np.testing.assert_array_equal(decided(reloaded, multilabel), labels)


@pytest.mark.parametrize("method", sorted(REGISTRY.methods))
def test_a_seed_repeats_itself(method: str, given: Given, tmp_path: Path) -> None:
    first, second = (Case("ag_news", method, given, tmp_path / name).trained() for name in ("a", "b"))
    texts = Case("ag_news", method, given, tmp_path).texts
    one, two = first.predict(texts), second.predict(texts)
    assert one.logits is not None
    assert two.logits is not None
    np.testing.assert_array_equal(one.logits, two.logits)
