"""451 labels, as WIPO-Alpha has subclasses: every method trains and answers, and no pass grows with their number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import many_labels_plugin
import numpy as np
import pytest
import torch
from torch import nn

from evalsuite.config import resolve
from evalsuite.contracts import Scores
from evalsuite.decision import DecisionOptions, fit_decision
from evalsuite.llm.answers.generation import AnswerGrammar
from evalsuite.llm.answers.label_scoring import LabelScorer
from evalsuite.llm.loading.backbone import load_causal_lm
from evalsuite.llm.options import ModelOptions
from evalsuite.metrics import evaluate
from evalsuite.opening import Request, TaskFacts, make_context
from evalsuite.preparation import load_splits
from evalsuite.progress import Silent
from evalsuite.prompts import PromptEncoder, load_prompts
from evalsuite.registry import build_registry

PLUGIN = str(Path(many_labels_plugin.__file__))
LABELS = many_labels_plugin.LABELS
REGISTRY = build_registry([PLUGIN])
BUDGET = 1024
SMALL = {"epochs": 1, "max_length": 128, "evaluations": 1, "token_budget": BUDGET}
CASES = [
    (method, task, decode)
    for method, spec in sorted(REGISTRY.methods.items())
    for task in ("many", "one_of_many")
    for decode in (("auto", "per_label", "free") if "decode" in spec.config.model_fields else ("",))
]


@pytest.fixture
def largest_pass() -> Iterator[list[int]]:
    """One number: the tokens, padding included, of the largest forward pass so far."""
    largest = [0]

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding):
            largest[0] = max(largest[0], inputs[0].numel())

    handle = nn.modules.module.register_module_forward_pre_hook(count)
    yield largest
    handle.remove()


@pytest.mark.parametrize(("method", "task", "decode"), CASES)
def test_a_method_takes_451_labels_within_its_token_budget(
    method: str,
    task: str,
    decode: str,
    given: Callable[..., dict[str, str]],
    largest_pass: list[int],
    tmp_path: Path,
) -> None:
    flags: dict[str, Any] = {"task": task, "method": method, "plugins": [PLUGIN]}
    flags |= given(REGISTRY.method(method), task, plugins=[PLUGIN])
    known = REGISTRY.method(method).config.model_fields
    flags |= {name: value for name, value in {**SMALL, "decode": decode}.items() if value and name in known}
    spec, found, chosen = resolve(REGISTRY, flags)
    splits = load_splits(found, spec)
    context = make_context(Request(spec, TaskFacts.of(found, splits)), REGISTRY, tmp_path, Silent(), "cpu")
    options = chosen.config.model_validate(spec.method_options)
    if chosen.preflight is not None:
        chosen.preflight(options, context, splits.train)
    largest_pass[0] = 0
    built = chosen.build(options, context)
    built.fit(splits.train, splits.validation)
    scores = built.predict([example.text for example in splits.test])
    given_scores = scores.logits if scores.logits is not None else scores.predicted
    assert given_scores is not None
    assert given_scores.shape == (len(splits.test), len(LABELS))
    assert np.isfinite(given_scores).all()
    assert largest_pass[0] <= BUDGET
    assert largest_pass[0] > 0 or "model" not in chosen.needs


def test_a_label_tree_larger_than_the_budget_is_cut_and_scores_the_same(
    tiny_llama: Path, largest_pass: list[int]
) -> None:
    backbone = load_causal_lm(ModelOptions(model=str(tiny_llama)), "cpu")
    prompts = load_prompts("plain", task="t", labels=LABELS, multilabel=False, descriptions={}, search=[])
    encoder = PromptEncoder(backbone.tokenizer, prompts)
    documents = [encoder.prompt_ids(text, max_length=64)[0] for text in ("water", "an apparatus", "")]
    scorers = [LabelScorer(backbone, encoder.candidates, max_length=64, token_budget=budget) for budget in (8192, 512)]
    assert [len(scorer.trees) > 1 for scorer in scorers] == [False, True]
    assert all(len(tree.tokens) <= 256 for tree in scorers[1].trees)
    expected = scorers[0].score(documents)
    largest_pass[0] = 0
    np.testing.assert_allclose(scorers[1].score(documents), expected, atol=1e-4)
    assert largest_pass[0] <= 512


def test_a_grammar_of_451_labels_stays_small() -> None:
    """The readings of an answer so far must not multiply: labels that begin alike are one reading."""
    segments = [tuple(label.encode()) for label in LABELS]
    grammar = AnswerGrammar(segments, [(59, *segment) for segment in segments], (1,), 0, multilabel=True)
    answer = [*segments[0], *(token for segment in segments[1:] for token in (59, *segment)), 0]
    started, state = time.monotonic(), grammar.start
    for token in answer:
        state = grammar.options(state)[token]
        assert len(state) <= 1
    assert grammar.read(answer) == tuple(range(len(LABELS)))
    assert time.monotonic() - started < 5  # 0.2 s on an idle core


@pytest.mark.parametrize("multilabel", [True, False])
def test_decisions_and_metrics_of_451_labels_are_quick(multilabel: bool) -> None:
    random = np.random.default_rng(0)
    n, k = 500, len(LABELS)
    gold = random.random((n, k)) < 2 / k if multilabel else np.eye(k, dtype=bool)[random.integers(k, size=n)]
    scores = Scores(logits=(4 * gold + random.normal(-4, 1.5, (n, k))).astype(np.float32))
    started = time.monotonic()
    decision = fit_decision(scores, gold, multilabel=multilabel, options=DecisionOptions(threshold="per_label"))
    report = evaluate(
        gold, decision.decide(scores), decision.probabilities(scores), scores.status, multilabel=multilabel
    )
    assert report.counts["labels"] == k
    assert time.monotonic() - started < 15  # 1 s on an idle core


def test_the_loss_of_451_questions_keeps_less_than_one_block_does(tiny_llama: Path) -> None:
    """Blocks are computed again in the backward pass: no activations of any wait for it."""
    from evalsuite.llm.answers.branches import LabelBranches, branch_batch

    backbone = load_causal_lm(ModelOptions(model=str(tiny_llama)), "cpu")
    prompts = load_prompts("plain", task="t", labels=LABELS, multilabel=True, descriptions={}, search=[])
    encoder = PromptEncoder(backbone.tokenizer, prompts)
    prompt = encoder.prompt_ids("water", max_length=64)[0]

    def kept(labels: int) -> int:
        branches = LabelBranches(
            backbone, encoder.question_ids[:labels], encoder.yes_no_ids, max_length=64, token_budget=BUDGET
        )
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        batch = branch_batch([(prompt, np.zeros(labels, dtype=bool))], backbone.tokenizer.pad_token_id)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            branches.losses(batch)
        return sum(sizes.values())

    assert kept(len(LABELS)) < kept(20) / 10
