"""The instruction method: it learns, reloads, and says what its answers are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from card_snippets import TEXT, run_cards

from evalsuite.contracts import Example, RunContext, Scores
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.loading.backbone import base_of
from evalsuite.llm.reading.logits import answer_batch, answer_losses
from evalsuite.plugins.instruction import Instruction, InstructionConfig
from evalsuite.progress import Silent
from evalsuite.prompts import load_prompts

LABELS = ("World", "Sports", "Business")
WORDS = ("treaty", "match", "shares")


def documents(count: int, multilabel: bool = False) -> list[Example]:
    random = np.random.default_rng(0)
    made = []
    for index in range(count):
        size = int(random.integers(0, 3)) if multilabel else 1
        labels = tuple(sorted(random.choice(3, size=size, replace=False).tolist()))
        text = " ".join([f"item {random.integers(50)}", *(WORDS[label] for label in labels)])
        made.append(Example(str(index), text, labels))
    return made


def context(workdir: Path, multilabel: bool = False, **changes: Any) -> RunContext:
    arguments: dict[str, Any] = {"task": "toy", "labels": LABELS, "multilabel": multilabel}
    prompts = load_prompts("descriptions", **arguments, descriptions={}, search=[])
    arguments |= {"seed": 0, "device": "cpu", "workdir": workdir, "cache": workdir, "progress": Silent()}
    return RunContext(**(arguments | {"prompts": prompts} | changes))


def config(model: Path, **changes: Any) -> InstructionConfig:
    options = {"model": str(model), "epochs": 4, "learning_rate": 2e-2, "batch_size": 8, "evaluations": 2}
    return InstructionConfig(**(options | changes))


def subset_accuracy(scores: Scores, examples: Sequence[Example]) -> float:
    if scores.logits is not None:
        rows = [(int(row.argmax()),) for row in scores.logits]
    else:
        assert scores.predicted is not None
        rows = [tuple(np.flatnonzero(row).tolist()) for row in scores.predicted]
    return float(np.mean([row == example.labels for row, example in zip(rows, examples, strict=True)]))


def texts(examples: Sequence[Example]) -> list[str]:
    return [example.text for example in examples]


@pytest.mark.parametrize("four_bit", [False, True])
def test_it_learns_one_label_a_document_and_reloads(tiny_llama: Path, tmp_path: Path, four_bit: bool) -> None:
    ctx = context(tmp_path, primary_metric=subset_accuracy)
    options = config(tiny_llama, load_in_4bit=four_bit)
    method = Instruction(options, ctx)
    data = documents(160)
    method.fit(data[:120], data[120:140])
    scores = method.predict(texts(data[140:]))
    assert subset_accuracy(scores, data[140:]) >= 0.9
    assert scores.logits is not None
    assert scores.logits.shape == (20, 3)
    assert (scores.logits <= 0).all(), "log-likelihoods"
    assert ctx.facts["label_scoring"].startswith("one pass")
    assert 0 < ctx.facts["trainable_parameters"] < ctx.facts["total_parameters"]
    assert ctx.facts["predict_tokens"] > 20
    assert len(ctx.facts["validation_curve"]) == 2
    method.save(tmp_path)
    again = Instruction.load(tmp_path, options, context(tmp_path)).predict(texts(data[140:]))
    assert again.logits is not None
    assert np.abs(again.logits - scores.logits).max() < 1e-4
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="cannot read the adapter"):
        Instruction.load(tmp_path, options, context(tmp_path))


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gemma3"])
def test_it_learns_any_number_of_labels_and_reloads(
    request: pytest.FixtureRequest, fixture: str, tmp_path: Path
) -> None:
    ctx = context(tmp_path, multilabel=True, primary_metric=subset_accuracy)
    options = config(request.getfixturevalue(fixture), epochs=6)
    method = Instruction(options, ctx)
    data = documents(200, multilabel=True)
    method.fit(data[:160], data[160:180])
    scores = method.predict(texts(data[180:]))
    assert subset_accuracy(scores, data[180:]) >= 0.7
    assert scores.logits is None, "greedy decoding gives no probability of a label"
    assert ctx.facts["decode"] == "constrained"
    assert set(scores.status) == {"ok"}
    assert scores.raw is not None
    assert [method.ctx.prompts.read(text) for text in scores.raw] == [
        tuple(np.flatnonzero(row)) for row in scores.predicted
    ]
    method.save(tmp_path)
    again = Instruction.load(tmp_path, options, context(tmp_path, multilabel=True)).predict(texts(data[180:]))
    assert again.raw == scores.raw


@pytest.mark.parametrize("four_bit", [False, True])
def test_it_learns_yes_or_no_to_every_label_and_reloads(tiny_llama: Path, tmp_path: Path, four_bit: bool) -> None:
    ctx = context(tmp_path, multilabel=True, primary_metric=subset_accuracy)
    options = config(tiny_llama, decode="per_label", load_in_4bit=four_bit, epochs=10, learning_rate=1e-2)
    method = Instruction(options, ctx)
    data = documents(200, multilabel=True)
    method.fit(data[:160], data[160:180])
    scores = method.predict(texts(data[180:]))
    assert scores.logits is not None
    assert subset_accuracy(Scores(predicted=scores.logits > 0), data[180:]) >= 0.9
    assert np.abs(scores.logits).min() > 0.5, "sure of what is plain to see"
    assert ctx.facts["decode"] == "per_label"
    assert ctx.facts["label_scoring"].startswith("one pass")
    method.save(tmp_path)
    again = Instruction.load(tmp_path, options, context(tmp_path, multilabel=True)).predict(texts(data[180:]))
    assert again.logits is not None
    assert np.abs(again.logits - scores.logits).max() < 1e-4


def test_yes_or_no_works_for_one_label_a_document_too(tiny_gemma3: Path, tmp_path: Path) -> None:
    ctx = context(tmp_path, primary_metric=subset_accuracy)
    method = Instruction(config(tiny_gemma3, decode="per_label", epochs=8, learning_rate=1e-2), ctx)
    data = documents(160)
    method.fit(data[:120], data[120:140])
    scores = method.predict(texts(data[140:]))
    assert subset_accuracy(scores, data[140:]) >= 0.9
    assert scores.logits is not None
    gold = np.array([[label in example.labels for label in range(3)] for example in data[140:]])
    assert ((scores.logits > 0) == gold).mean() >= 0.9, "each label has its own yes or no"


def test_many_questions_stay_within_the_token_budget(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalsuite.llm.answers import label_scoring

    monkeypatch.setattr("evalsuite.llm.answers.branches.BLOCK", 60)
    labels = tuple(f"class {index}" for index in range(40))
    prompts = load_prompts("numbers", task="toy", labels=labels, multilabel=True, descriptions={}, search=[])
    options = config(tiny_llama, decode="per_label", token_budget=2400, max_length=512, epochs=1, evaluations=0)
    method = Instruction(options, context(tmp_path, multilabel=True, labels=labels, prompts=prompts))
    branches = method.answerer.branches
    assert branches is not None
    assert len(branches.blocks) > 2
    seen: list[int] = []
    packed = label_scoring.tree_inputs

    def counted(backbone: Any, ids: torch.Tensor, real: torch.Tensor, tree: Any) -> Any:
        inputs = packed(backbone, ids, real, tree)
        seen.append(inputs["input_ids"].numel())
        return inputs

    monkeypatch.setattr("evalsuite.llm.answers.branches.tree_inputs", counted)
    method.fit([Example(str(index), "word " * index, (index,)) for index in range(16)], [])
    method.predict(["word " * index for index in range(16)])
    assert 1200 < max(seen) <= 2400


def test_free_decoding_counts_what_is_no_answer(tiny_llama: Path, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    method = Instruction(config(tiny_llama, decode="free", max_new_tokens=8), ctx)
    data = documents(160)
    before = method.predict(texts(data[:10]))
    assert set(before.status) == {"invalid"}, "a random model writes no label"
    assert before.raw is not None
    assert before.predicted is not None
    assert not before.predicted.any()
    method.fit(data, [])
    after = method.predict(texts(data[:40]))
    assert after.status.count("ok") >= 38
    assert subset_accuracy(after, data[:40]) >= 0.8


def test_constrained_decoding_works_for_one_label_too(tiny_qwen: Path, tmp_path: Path) -> None:
    method = Instruction(config(tiny_qwen, decode="constrained"), context(tmp_path))
    scores = method.predict(["a", "the match", ""])
    assert scores.predicted is not None
    assert scores.predicted.sum(axis=1).tolist() == [1, 1, 1]


def test_scoring_one_label_is_refused_where_there_may_be_more(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="decode=score names one label a document"):
        Instruction(config(tiny_llama, decode="score"), context(tmp_path, multilabel=True))


@pytest.mark.parametrize("multilabel", [False, True])
def test_training_scoring_and_decoding_take_the_same_answer_ids(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multilabel: bool
) -> None:
    from evalsuite.llm import answering
    from evalsuite.llm.reading import logits
    from evalsuite.llm.training import loop

    trained: list[Any] = []
    written: list[list[int]] = []
    decode = answering.decode
    monkeypatch.setattr(logits, "answer_batch", lambda items, pad_id: items)
    monkeypatch.setattr(
        loop, "train", lambda backbone, objective, *rest: trained.extend(objective.collate(objective.items))
    )
    monkeypatch.setattr(answering, "decode", lambda *a, **k: written.extend(made := decode(*a, **k)) or made)
    method = Instruction(config(tiny_llama), context(tmp_path, multilabel))
    encoder, data = method.answerer.encoder, documents(30, multilabel)
    method.fit(data, [])
    assert [answer for _, answer in trained] == [encoder.answer_ids(example.labels) for example in data]
    scores = method.predict(texts(data))
    if multilabel:
        assert scores.predicted is not None
        assert written == [encoder.answer_ids(np.flatnonzero(row)) for row in scores.predicted]
    else:
        assert method.answerer.scorer is not None
        assert [answer for tree in method.answerer.scorer.trees for answer in tree.answers] == encoder.candidates


def test_the_answer_loss_is_that_of_full_logits_at_a_fraction_of_the_positions(
    tiny_gemma3: Path, tmp_path: Path
) -> None:
    method = Instruction(config(tiny_gemma3), context(tmp_path, multilabel=True))
    data = [example for example in documents(12, multilabel=True) if example.labels]
    items = [
        (method.answerer.encoder.prompt_ids(e.text, max_length=200)[0], method.answerer.encoder.answer_ids(e.labels))
        for e in data
    ]
    model, seen = method.backbone.model, list[int]()
    head = base_of(model).get_output_embeddings()
    hook = head.register_forward_hook(lambda module, given, made: seen.append(made.shape[1]))
    losses = answer_losses(model, answer_batch(items, method.backbone.tokenizer.pad_token_id))
    assert seen == [sum(len(answer) for _, answer in items)]
    hook.remove()
    for (prompt, answer), loss in zip(items, losses, strict=True):
        ids = torch.tensor([[*prompt, *answer]])
        logp = model(input_ids=ids).logits[0].detach().float().log_softmax(dim=-1)
        expected = -sum(logp[len(prompt) + place - 1, token] for place, token in enumerate(answer))
        assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-4)


def test_label_scores_are_the_negative_training_losses(tiny_llama: Path, tmp_path: Path) -> None:
    method = Instruction(config(tiny_llama), context(tmp_path))
    prompt, _ = method.answerer.encoder.prompt_ids("the match", max_length=200)
    items = [(prompt, answer) for answer in method.answerer.encoder.candidates]
    losses = answer_losses(method.backbone.model, answer_batch(items, method.backbone.tokenizer.pad_token_id))
    logits = method.predict(["the match"]).logits
    assert logits is not None
    assert np.abs(logits[0] + losses.detach().numpy()).max() < 1e-4


def test_long_documents_are_cut_and_reported(tiny_llama: Path, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    method = Instruction(config(tiny_llama, max_length=40, truncation_side="left"), ctx)
    method.predict(["short", "long " * 100])
    assert (ctx.facts["truncated_share"], ctx.facts["truncation_side"]) == (0.5, "left")


def test_the_cards_run_without_evalsuite(tiny_llama: Path, tiny_qwen: Path, tmp_path: Path) -> None:
    kinds: list[tuple[Path, bool, dict[str, Any]]] = [
        (tiny_llama, False, {"epochs": 1}),
        (tiny_llama, False, {"epochs": 1, "normalise": "token", "load_in_4bit": True}),
        (tiny_llama, True, {"epochs": 1, "decode": "per_label"}),
        (tiny_qwen, False, {"epochs": 1, "decode": "per_label", "load_in_4bit": True}),
        (tiny_qwen, True, {}),
    ]
    methods = {}
    for place, (model, multilabel, changes) in enumerate(kinds):
        method = Instruction(config(model, **changes), context(tmp_path / str(place), multilabel))
        known = Example("x", TEXT, (1, 2) if multilabel else (2,))
        method.fit(documents(24, multilabel) + [known] * 40, [])
        assert "import evalsuite" not in method.card_snippet()
        methods[tmp_path / str(place)] = method
    *scored, written = [ran.printed.strip() for ran in run_cards(methods)]
    expected = [method.predict([TEXT]) for method in methods.values()]
    for place, (line, scores) in enumerate(zip(scored, expected, strict=False)):
        assert scores.logits is not None
        name, _, rest = line.rpartition(" {")
        printed = [float(part.partition(":")[2]) for part in rest.strip("}").split(",")]
        logits = torch.from_numpy(scores.logits[0])
        wanted = [logits, logits, logits.sigmoid(), logits.softmax(-1)][place]
        several = str([LABELS[label] for label in range(3) if logits[label] > 0])
        assert name == (several if place == 2 else LABELS[int(logits.argmax())])
        assert np.abs(np.array(printed) - wanted.numpy()).max() < 1e-3
    assert expected[4].predicted is not None
    assert written == str([LABELS[label] for label in np.flatnonzero(expected[4].predicted[0])])
    assert written == "['Sports', 'Business']"
