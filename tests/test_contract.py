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
from evalsuite.runner import run

REGISTRY = build_registry()
# `table` has no sample of its own; `clv` reads one through the same reader.
TASKS = sorted(set(REGISTRY.tasks) - {"table"})
ENCODERS = {"bert", "distill"}
IN_4BIT = [name for name, spec in sorted(REGISTRY.methods.items()) if "load_in_4bit" in spec.config.model_fields]
FEW = {"train_limit": 24, "limit": 12}
SMALL = {"epochs": 1, "max_length": 192, "evaluations": 1}


Given = Callable[[str, str], dict[str, str]]  # (task, method) -> flags


class Case:
    """One method on a few documents of one task."""

    def __init__(self, task: str, method: str, given: Given, workdir: Path, **options: Any) -> None:
        known = set(REGISTRY.method(method).config.model_fields)
        flags: dict[str, Any] = {"task": task, "method": method, **FEW, **given(task, method)}
        flags |= {name: value for name, value in {**SMALL, **options}.items() if name in known}
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


@pytest.fixture(scope="session")
def given(tiny_llama: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """What a method on a task cannot do without: a model, an encoder where only that will do, and a teacher's run."""
    finished = tmp_path_factory.mktemp("finished")

    def flags(task: str, method: str) -> dict[str, str]:
        spec, found = REGISTRY.method(method), {}
        if "model" in spec.needs:
            found["model"] = str(tiny_bert if method in ENCODERS else tiny_llama)
        if "teacher" in spec.config.model_fields:
            found["teacher"] = str(run(task, "majority", output_path=finished, **FEW).directory)
        return found

    return flags


def decided(scores: Scores, multilabel: bool) -> np.ndarray[Any, Any]:
    return Decision(multilabel).decide(scores)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", sorted(REGISTRY.methods))
def test_a_method_keeps_its_contract(task: str, method: str, given: Given, tmp_path: Path) -> None:
    keeps_its_contract(Case(task, method, given, tmp_path))


@pytest.mark.parametrize("task", ["ag_news", "wipo"])
@pytest.mark.parametrize("method", IN_4BIT)
def test_a_method_keeps_its_contract_on_a_4bit_base(task: str, method: str, given: Given, tmp_path: Path) -> None:
    keeps_its_contract(Case(task, method, given, tmp_path, load_in_4bit=True, adaptation="lora"))


def keeps_its_contract(case: Case) -> None:
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
