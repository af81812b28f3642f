"""The floor of words: learning, odd label sets, and a model on disk that holds no code."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from evalsuite.calibration import probabilities_of
from evalsuite.contracts import Example, RunContext
from evalsuite.errors import ModelError, TrainingError
from evalsuite.metrics import score_metric
from evalsuite.plugins import tfidf
from evalsuite.plugins.tfidf import Tfidf, TfidfOptions

LABELS = ("pets", "metals", "plants")
WORDS = (["cat", "dog", "bird", "fur"], ["iron", "steel", "zinc", "ore"], ["oak", "leaf", "moss", "fern"])
FILLER = ["the", "of", "with", "under", "about", "very"]


class Counting:
    """Counts what the bar was told."""

    def __init__(self) -> None:
        self.total = self.done = 0

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "docs"):  # type: ignore[no-untyped-def]
        self.total = total

        def advance(count: int) -> None:
            self.done += count

        yield advance


def context(tmp_path: Path, multilabel: bool = False, seed: int = 0) -> RunContext:
    return RunContext("toy", LABELS, multilabel, seed, "cpu", tmp_path, tmp_path, Counting())


def corpus(n: int, multilabel: bool = False, seed: int = 0) -> list[Example]:
    """Texts of label words and filler, with a word from any label; one document in ten is about something else."""
    rng, found = np.random.default_rng(seed), []
    for row in range(n):
        chosen = [label for label in range(3) if rng.random() < 0.4] if multilabel else [int(rng.integers(3))]
        about = [int(rng.integers(3))] if rng.random() < 0.1 else chosen
        words = [str(rng.choice(WORDS[label])) for label in about for _ in range(3)]
        words += [str(rng.choice(WORDS[rng.integers(3)])), *map(str, rng.choice(FILLER, 4))]
        rng.shuffle(words)
        found.append(Example(f"d{row}", " ".join(words), tuple(chosen)))
    return found


def gold_of(examples: list[Example]) -> np.ndarray:
    return np.array([[label in example.labels for label in range(3)] for example in examples])


def fitted(ctx: RunContext, examples: list[Example], **options: object) -> Tfidf:
    method = Tfidf(TfidfOptions(**options), ctx)  # type: ignore[arg-type]
    method.fit(examples, [])
    return method


@pytest.mark.parametrize("multilabel", [False, True])
def test_it_learns_and_its_logits_are_better_log_odds_than_margins(
    tmp_path: Path, multilabel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = corpus(300, multilabel), corpus(300, multilabel, seed=1)
    texts, gold = [example.text for example in test], gold_of(test)
    scores = fitted(context(tmp_path, multilabel), train).predict(texts)
    assert scores.logits is not None
    assert scores.logits.dtype == np.float32
    assert score_metric("f1_macro", scores, gold, multilabel) > 0.8
    monkeypatch.setattr(tfidf, "fit_temperature", lambda *_: (1.0, None))
    margins = fitted(context(tmp_path, multilabel), train).predict(texts)
    for metric in ("nll", "brier", "ece"):
        assert score_metric(metric, scores, gold, multilabel) > score_metric(metric, margins, gold, multilabel)


@pytest.mark.parametrize("multilabel", [False, True])
def test_predictions_are_equal_after_reload_in_a_fresh_object(tmp_path: Path, multilabel: bool) -> None:
    ctx = context(tmp_path, multilabel)
    method = fitted(ctx, corpus(80, multilabel))
    method.save(tmp_path)
    texts = [example.text for example in corpus(40, multilabel, seed=2)] + ["", "unheard words", "日本語 テスト"]
    again = tfidf.load(tmp_path, TfidfOptions(), context(tmp_path, multilabel))
    np.testing.assert_array_equal(again.predict(texts).logits, method.predict(texts).logits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tfidf.npz", "vocabulary.json"]


def test_the_file_holds_numbers_only(tmp_path: Path) -> None:
    fitted(context(tmp_path), corpus(60)).save(tmp_path)
    with np.load(tmp_path / "tfidf.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype.kind for name in arrays} == {"weights": "f", "bias": "f", "idf": "f"}


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    texts = [example.text for example in corpus(20, seed=3)]
    first, second = (fitted(context(tmp_path, seed=5), corpus(60)).predict(texts).logits for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_labels_without_a_positive_or_a_negative_document(tmp_path: Path) -> None:
    """Multi-label: "plants" is never there and "pets" always."""
    train = [Example(e.id, e.text, (0, 1) if 1 in e.labels else (0,)) for e in corpus(60, True)]
    logits = fitted(context(tmp_path, multilabel=True), train).predict(["iron steel", "moss"]).logits
    assert logits is not None
    assert (logits[:, 0] > 0).all()
    assert (logits[:, 2] < 0).all()
    assert logits[0, 1] > logits[1, 1]


def test_a_label_absent_from_training_is_unlikely_but_not_impossible(tmp_path: Path) -> None:
    train = [example for example in corpus(150) if example.labels != (2,)]
    logits = fitted(context(tmp_path), train).predict(["cat dog fur", "iron ore zinc"]).logits
    assert logits is not None
    assert logits.argmax(axis=1).tolist() == [0, 1]
    assert (probabilities_of(logits, False)[:, 2] > 0).all()


def test_one_class_alone_and_very_few_documents(tmp_path: Path) -> None:
    train = [Example(str(row), "cat dog", (0,)) for row in range(4)]
    logits = fitted(context(tmp_path), train).predict(["cat", "iron"]).logits
    assert logits is not None
    assert logits.argmax(axis=1).tolist() == [0, 0]


@pytest.mark.parametrize("text", ["", "cat dog", "! ?"])
def test_training_text_without_usable_words_is_one_clear_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(TrainingError, match="no words to learn from in 1 documents") as raised:
        fitted(context(tmp_path), [Example("only", text, (0,))])
    assert "\n" not in str(raised.value)


def test_facts_and_progress_count_the_work(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    method = fitted(ctx, corpus(60), max_features=50)
    assert ctx.facts == {"features": 50, "trainable_parameters": 153, "total_parameters": 153}
    assert method.weights.shape == (50, 3)
    assert isinstance(ctx.progress, Counting)
    assert ctx.progress.done == ctx.progress.total == 12


def test_damaged_or_foreign_files_are_one_clear_line(tmp_path: Path) -> None:
    ctx, options = context(tmp_path), TfidfOptions()
    with pytest.raises(ModelError, match="holds no readable tfidf model"):
        tfidf.load(tmp_path, options, ctx)
    fitted(ctx, corpus(60)).save(tmp_path)
    whole = (tmp_path / "tfidf.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive"):
        (tmp_path / "tfidf.npz").write_bytes(damaged)
        with pytest.raises(ModelError, match="holds no readable tfidf model"):
            tfidf.load(tmp_path, options, ctx)
    (tmp_path / "tfidf.npz").write_bytes(whole)
    other = RunContext("toy", ("a", "b"), False, 0, "cpu", tmp_path, tmp_path, Counting())
    with pytest.raises(ModelError, match="by 2 labels"):
        tfidf.load(tmp_path, options, other)
    (tmp_path / "vocabulary.json").write_text('["cat"]')
    with pytest.raises(ModelError, match="readable tfidf model"):
        tfidf.load(tmp_path, options, ctx)


def test_importing_scores_and_floors_loads_nothing_heavy() -> None:
    code = (
        "import sys, evalsuite.decision, evalsuite.accounting, evalsuite.plugins.tfidf, evalsuite.plugins.majority;"
        "from evalsuite.metrics import evaluate; import numpy as np; g = np.eye(3, dtype=bool);"
        "evaluate(g, g, g.astype(float), ['ok'] * 3, multilabel=False);"
        "print([m for m in ('torch', 'scipy', 'sklearn', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
