"""The distill method end to end: what a teacher adds, what it is compared with, and teachers that will not do."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import Oracle, finished
from training_setup import LABELS, context, documents

import evalsuite
from evalsuite.contracts import Example, FinishedRun, RunContext, Scores
from evalsuite.errors import DataError, Interrupted, ModelError, OptionError, StoreError
from evalsuite.llm.training import loop as training
from evalsuite.plugins import distill
from evalsuite.plugins.distill import Distill, DistillConfig, Lessons, evalsuite_register_methods, read_texts

TEXTS = ["a method for separation of water", "", "the team won the match " * 9, "shares fell"]
SPY = Path(__file__).parent.parent / "spy_plugin.py"


def config(model: Path, **more: Any) -> DistillConfig:
    settings: dict[str, Any] = {"max_length": 32, "learning_rate": 2e-3, "epochs": 6, "batch_size": 8, "teacher": "run"}
    return DistillConfig(**{**settings, "model": str(model), "evaluations": 0, **more})


def taught_by(run: FinishedRun, folder: Path, multilabel: bool = False, seed: int = 0) -> RunContext:
    return context(folder, multilabel, seed, open_run=lambda path: run)


def fitted(model: Path, ctx: RunContext, examples: list[Example] | None = None, **more: Any) -> Distill:
    method = Distill(config(model, **more), ctx)
    method.fit(documents(36, ctx.multilabel) if examples is None else examples, [])
    return method


def share_right(logits: Any, examples: list[Example], multilabel: bool) -> float:
    found = [tuple(np.flatnonzero(row > 0)) if multilabel else (row.argmax(),) for row in logits]
    return float(np.mean([labels == example.labels for labels, example in zip(found, examples, strict=True)]))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("adaptation", ["full", "lora"])
@pytest.mark.parametrize("name", ["tiny_modernbert", "tiny_bert", "tiny_llama"])
def test_a_student_learns_and_survives_the_disk(
    name: str, adaptation: str, multilabel: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ctx = taught_by(finished(Oracle(), multilabel=multilabel), tmp_path / "work", multilabel)
    more = {"adaptation": adaptation, "load_in_4bit": adaptation == "lora", "epochs": 14 if multilabel else 6}
    if adaptation == "lora":
        more |= {"learning_rate": 1e-2, "lora_r": 4}
    method = fitted(request.getfixturevalue(name), ctx, **more)
    examples = documents(36, multilabel)
    assert share_right(method.predict([example.text for example in examples]).logits, examples, multilabel) > 0.8
    before = method.predict(TEXTS).logits
    method.save(tmp_path)
    np.testing.assert_array_equal(Distill.load(tmp_path, method.config, ctx).predict(TEXTS).logits, before)


def test_a_teacher_corrects_wrong_labels(tiny_bert: Path, tmp_path: Path) -> None:
    """With alpha=1 the gold labels are not looked at: a student of false ones learns the teacher's."""
    examples = documents(36)
    wrong = [replace(example, labels=((example.labels[0] + 1) % 3,)) for example in examples]
    method = fitted(tiny_bert, taught_by(finished(Oracle()), tmp_path), wrong, alpha=1.0)
    texts = [example.text for example in examples]
    assert share_right(method.predict(texts).logits, examples, False) > 0.8
    gold_only = method.references()["gold_only"].load()
    assert share_right(gold_only.predict(texts).logits, wrong, False) > 0.8


def test_with_alpha_0_the_student_is_the_one_without_a_teacher(tiny_modernbert: Path, tmp_path: Path) -> None:
    """Same seed, same head, same documents in the same order: the comparison shows the teacher and nothing else."""
    method = fitted(tiny_modernbert, taught_by(finished(Oracle()), tmp_path), alpha=0.0, epochs=2)
    reference = method.references()["gold_only"]
    np.testing.assert_array_equal(method.predict(TEXTS).logits, reference.load().predict(TEXTS).logits)
    for name in ("trainable_parameters", "total_parameters", "steps"):
        assert reference.facts[name] == method.ctx.facts[name]
    with_teacher = fitted(tiny_modernbert, taught_by(finished(Oracle()), tmp_path / "other"), epochs=2)
    assert not np.allclose(with_teacher.predict(TEXTS).logits, method.predict(TEXTS).logits, atol=1e-3)


def test_unlabelled_text_is_the_teachers_alone(tiny_bert: Path, tmp_path: Path) -> None:
    """Three labelled documents of one label teach two labels nothing; the rest comes from text without labels."""
    (tmp_path / "more.txt").write_text("\n".join(example.text for example in documents(60)[3:]) + "\n\n")
    few = [replace(documents(60)[0], id=f"labelled-{number}") for number in range(3)]
    oracle = Oracle()
    ctx = taught_by(finished(oracle), tmp_path / "work")
    method = fitted(tiny_bert, ctx, few, unlabelled=str(tmp_path / "more.txt"))
    examples = documents(36)
    texts = [example.text for example in examples]
    assert share_right(method.predict(texts).logits, examples, False) > 0.8
    assert share_right(method.references()["gold_only"].load().predict(texts).logits, examples, False) < 0.5
    assert ctx.facts["unlabelled_documents"] == 57
    assert oracle.asked == 8 + 3 + 57


def test_the_loss_is_that_of_the_parts_that_are_there(tiny_bert: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Gold and teacher; gold alone where the teacher had no answer; the teacher alone where nobody labelled."""
    from evalsuite.llm.training.losses import distillation_losses

    seen = {}
    monkeypatch.setattr(training, "train", lambda backbone, objective, options, ctx: seen.update(objective=objective))
    options = config(tiny_bert, alpha=0.25, temperature=3.0)
    nan = [np.nan] * 3
    lessons = Lessons(["shares fell"], np.array([[1, 2, 3], nan, [3, 2, 1]], np.float32))
    classifier = distill.train_student(options, context(tmp_path), documents(2), [], lessons)
    import torch

    with torch.no_grad():
        batch = seen["objective"].collate([0, 1, 2])
        losses = seen["objective"].losses(classifier.backbone.model, batch)
        logits = torch.from_numpy(
            classifier.logits(classifier.encode([e.text for e in documents(2)] + ["shares fell"]))
        )
    gold = torch.nn.functional.cross_entropy(logits[:2], torch.tensor([0, 1]), reduction="none")
    distance = distillation_losses(logits, torch.from_numpy(lessons.logits), 3.0, False)
    expected = [0.75 * gold[0] + 0.25 * distance[0], 0.75 * gold[1], 0.25 * distance[2]]
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_the_teacher_sees_the_training_text_and_no_other(tiny_bert: Path, tmp_path: Path) -> None:
    class Listening(Oracle):
        heard: set[str] = set()  # noqa: RUF012 - one list for the test

        def predict(self, texts: Any) -> Scores:
            self.heard |= set(texts)
            return super().predict(texts)

    ctx = replace(taught_by(finished(Listening()), tmp_path), primary_metric=lambda scores, examples: 0.5)
    method = Distill(config(tiny_bert, epochs=1, evaluations=2), ctx)
    train, validation = documents(12), [Example("v", "shares of nobody", (1,))]
    method.fit(train, validation)
    method.predict(["a test text"])
    assert Listening.heard == {example.text for example in train}


def test_an_interrupted_run_does_not_train_the_first_student_again(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(tiny_bert, taught_by(finished(Oracle()), tmp_path / "whole"), epochs=2)
    trained: list[str] = []
    original = distill.train_student

    def interrupted(*arguments: Any) -> Any:
        trained.append("with teacher" if len(arguments) > 4 else "gold only")
        if len(trained) == 2:
            raise Interrupted("a signal came")
        return original(*arguments)

    monkeypatch.setattr(distill, "train_student", interrupted)
    ctx = taught_by(finished(Oracle()), tmp_path / "cut")
    with pytest.raises(Interrupted):
        fitted(tiny_bert, ctx, epochs=2)
    again = fitted(tiny_bert, ctx, epochs=2)
    assert trained == ["gold only", "with teacher", "with teacher"]
    np.testing.assert_array_equal(again.predict(TEXTS).logits, whole.predict(TEXTS).logits)
    gold = [method.references()["gold_only"] for method in (again, whole)]
    np.testing.assert_array_equal(*(reference.load().predict(TEXTS).logits for reference in gold))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"task": "wipo"}, r"the teacher run has task 'wipo', this run task 'toy'; train one on this task"),
        ({"labels": LABELS[:2]}, "has 2 labels, this run 3"),
        ({"labels": (LABELS[0], LABELS[2], LABELS[1])}, "has label 1 = 'Science', this run label 1 = 'Business'"),
        ({"multilabel": True}, "has any number of labels a document, this run one label a document"),
    ],
)
def test_a_teacher_of_something_else_is_refused_before_any_training(
    tiny_bert: Path, tmp_path: Path, run: dict[str, Any], words: str
) -> None:
    (spec,) = evalsuite_register_methods()

    def load() -> Any:
        raise AssertionError("the teacher's model was read")

    ctx = taught_by(finished(Oracle(), **run, load=load), tmp_path)
    assert spec.preflight is not None
    for refuse in (lambda: spec.preflight(config(tiny_bert), ctx, []), lambda: fitted(tiny_bert, ctx)):
        with pytest.raises(OptionError, match=words):
            refuse()


def test_no_teacher(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="distill has no teacher; name a finished run"):
        fitted(tiny_bert, taught_by(finished(Oracle()), tmp_path), teacher=None)


def test_a_teacher_without_logits_is_refused_before_the_student_is_built(tmp_path: Path) -> None:
    class Mute(Oracle):
        def predict(self, texts: Any) -> Scores:
            return Scores(predicted=np.zeros((len(texts), 3), bool))

    with pytest.raises(ModelError, match="gives no logits"):
        fitted(tmp_path / "no model here", taught_by(finished(Mute()), tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "first text\n\n  second, text \r\n"),
        ("a.jsonl", '{"text": "first text"}\n{"text": " ", "id": 3}\n{"text": "second, text"}\n'),
        ("a.csv", 'id,text\n1,first text\n2,"second, text"\n3,\n'),
    ],
)
def test_unlabelled_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_texts(str(tmp_path / name)) == ["first text", "second, text"]


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.pdf", "x", OptionError, r"expected \.txt, \.jsonl or \.csv"),
        ("a.jsonl", '{"text": "x"}\n{broken', DataError, "JSONDecodeError"),
        ("a.jsonl", '{"words": "x"}\n', DataError, "KeyError: 'text'"),
        ("a.jsonl", "[1]\n", DataError, "TypeError"),
        ("a.csv", "id,words\n1,x\n", DataError, "KeyError: 'text'"),
        ("a.txt", None, DataError, "FileNotFoundError"),
        ("a.txt", b"\xff\xfe\xff", DataError, "UnicodeDecodeError"),
    ],
)
def test_unlabelled_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: Any, kind: type[Exception], words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(kind, match=words) as caught:
        read_texts(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_identity_is_content_not_paths(tiny_bert: Path, tmp_path: Path) -> None:
    (spec,) = evalsuite_register_methods()
    assert spec.identity is not None
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({"run_id": "same"}))
        (tmp_path / name / "texts.txt").write_text("one\n")
    first, second = (
        spec.identity(config(tiny_bert, teacher=str(tmp_path / name), unlabelled=str(tmp_path / name / "texts.txt")))
        for name in ("a", "b")
    )
    assert first == second
    assert first["teacher"] == "same"
    (tmp_path / "b" / "texts.txt").write_text("two\n")
    changed = config(tiny_bert, teacher=str(tmp_path / "b"), unlabelled=str(tmp_path / "b" / "texts.txt"))
    assert spec.identity(changed) != first
    assert spec.identity(config(tiny_bert, teacher=None)) == {"teacher": None, "unlabelled": None}
    for name in ("teacher", "unlabelled"):
        extra = DistillConfig.model_fields[name].json_schema_extra
        assert isinstance(extra, dict)
        assert extra["identity"] is False


@pytest.mark.usefixtures("few_resamples")
def test_a_whole_run_says_what_the_teacher_was_worth(
    tiny_modernbert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From a finished run on disk: teacher and gold-only student scored beside it, and the student usable alone."""
    common = {"plugins": [SPY], "output_path": tmp_path}
    teacher = evalsuite.run("words", "tfidf", **common)
    small = {"epochs": 2, "learning_rate": 2e-3, "batch_size": 8, "max_length": 64, "evaluations": 1}
    options = {**common, **small, "model": str(tiny_modernbert)}
    student = evalsuite.run("words", "distill", teacher=str(teacher.directory), **options)
    results = student.results
    assert results["reload_check"]["passed"], results["reload_check"]
    assert results["facts"]["teacher"] == teacher.results["run_id"] == results["identity"]["more"]["teacher"]
    assert results["facts"]["gold_only_train_seconds"] > 0
    assert not any("builds on" in line for line in results["notices"])
    compared = results["references"]
    assert compared["teacher"]["metrics"]["f1_macro"]["value"] == teacher.metrics["f1_macro"]["value"]
    ours = student.metrics["f1_macro"]["value"]
    for reference in compared.values():
        theirs = reference["metrics"]["f1_macro"]["value"]
        assert reference["ratios"]["primary"] == (pytest.approx(ours / theirs) if theirs else None)
        assert reference["ratios"]["speed"] > 0
    assert compared["gold_only"]["parameters"] == results["parameters"]
    assert compared["gold_only"]["ratios"]["total_parameters"] == 1
    assert not list(student.directory.rglob("checkpoints"))
    # the student needs no teacher to be used
    snippet = (student.directory / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "snippet.py").write_text(snippet, encoding="utf-8")
    monkeypatch.chdir(student.directory)
    runpy.run_path(str(tmp_path / "snippet.py"))
    assert any(label in capfd.readouterr().out for label in results["labels"])
    with pytest.raises(StoreError, match="is not a run directory"):
        evalsuite.run("words", "distill", teacher=str(tmp_path / "nothing"), **options)
