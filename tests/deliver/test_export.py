"""The export of a run: all or nothing, checked in a process without evalsuite; what is refused, and how it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalsuite
from evalsuite.contracts import Scores
from evalsuite.decision import Decision
from evalsuite.deliver.export import Exported, export_run
from evalsuite.deliver.export_check import check_texts, compare, run_snippet
from evalsuite.errors import EvalsuiteError, ModelError, OptionError, StoreError, UsageError
from evalsuite.outside import Source, score
from evalsuite.registry import build_registry
from evalsuite.samples import read_samples

HERE = Path(__file__).parent
PLUGINS = [HERE.parent / "spy_plugin.py", HERE / "portable_plugin.py"]
LABELS = ("alpha", "beta", "gamma")
pytestmark = pytest.mark.usefixtures("few_resamples")


def run(folder: Path, task: str = "words", method: str = "portable", **options: Any) -> Path:
    return evalsuite.run(task, method, plugins=PLUGINS, output_path=folder, **options).directory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Path:
    return run(tmp_path_factory.mktemp("runs"))


def test_an_export_is_checked_where_evalsuite_cannot_be_imported(finished: Path, tmp_path: Path) -> None:
    made = export_run(finished, "merged", tmp_path / "model")
    assert isinstance(made, Exported)
    assert made.check["passed"]
    assert (made.check["documents"], made.check["labels_differ"]) == (20, 0)
    assert made.check["largest_logit_difference"] == 0
    names = {path.name for path in made.folder.iterdir()}
    assert names == {"README.md", "config.yaml", "decision.json", "export.json", "held.json", "shift.json"}
    assert made.size == sum(path.stat().st_size for path in made.folder.iterdir())
    decision = json.loads((made.folder / "decision.json").read_text())
    assert (decision["labels"], decision["rule"], decision["multilabel"]) == (list(LABELS), "argmax", False)
    told = json.loads((made.folder / "export.json").read_text())
    assert (told["kind"], told["check"]) == ("merged", made.check)
    assert "print(classify([" in (made.folder / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    answer = run_snippet(made.folder, ["beta", "gamma"])
    assert answer["labels"] == [["beta"], ["gamma"]]
    assert answer["printed"].startswith("[('")


def test_the_model_is_held_as_the_run_held_it(finished: Path, tmp_path: Path) -> None:
    """On a machine without a GPU, an adapter of a 4-bit base would be put on the original one."""
    made = export_run(finished, "merged", tmp_path / "model", dtype="float16")
    assert json.loads((made.folder / "held.json").read_text()) == ["float16", "float32", True]


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("shift", "does not repeat the run's answers and is not kept"),
        ("flip", "does not repeat the run's answers and is not kept"),
        ("raise", "the snippet of the exported model fails without evalsuite: broken snippet"),
        ("evalsuite", "fails without evalsuite: ModuleNotFoundError: import of evalsuite halted"),
    ],
)
def test_a_model_that_answers_otherwise_is_not_kept(flaw: str, words: str, tmp_path: Path) -> None:
    directory = run(tmp_path / "runs", flaw=flaw)
    with pytest.raises(ModelError, match=words) as caught:
        export_run(directory, "merged", tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_half_precision_may_round(tmp_path: Path) -> None:
    made = export_run(run(tmp_path / "runs", flaw="near"), "merged", tmp_path / "model")
    assert made.check["largest_logit_difference"] == pytest.approx(0.015)
    assert made.check["tolerance"] == 0.02


def test_what_fails_in_writing_leaves_nothing_and_keeps_the_export_before_it(tmp_path: Path) -> None:
    whole, broken = (run(tmp_path / "runs", flaw=flaw) for flaw in ("", "write"))
    export_run(whole, "merged", tmp_path / "model")
    with pytest.raises(RuntimeError, match="as asked"):
        export_run(broken, "merged", tmp_path / "model", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "runs"]
    assert (tmp_path / "model" / "export.json").is_file()


def test_an_export_is_replaced_only_where_that_is_asked_and_no_other_folder_ever(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    export_run(finished, "merged", folder)  # an empty folder is as good as none
    with pytest.raises(UsageError, match="holds an export already; --overwrite replaces it"):
        export_run(finished, "merged", folder)
    (folder / "old").touch()
    export_run(finished, "merged", folder, overwrite=True)
    assert not (folder / "old").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(UsageError, match="exists and is no export of evalsuite; name a new folder"):
        export_run(finished, "merged", tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


@pytest.mark.parametrize(
    ("kind", "options", "error", "words"),
    [
        ("adapter", {}, UsageError, "this run of 'portable' cannot be exported as adapter; it can as: merged"),
        ("pickle", {}, UsageError, "unknown kind of export 'pickle'; expected one of adapter, merged, onnx"),
        ("merged", {"dtype": "int8"}, OptionError, "dtype 'int8': expected one of auto, float32"),
        ("adapter", {"dtype": "float16"}, OptionError, "--dtype float16 goes with --merged alone: an adapter keeps"),
        ("onnx", {"dtype": "float16"}, OptionError, "ONNX is written in float32"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    kind: str, options: dict[str, Any], error: type[EvalsuiteError], words: str, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words) as caught:
        export_run(finished, kind, tmp_path / "model", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_model_says_what_can_be_done(tmp_path: Path) -> None:
    directory = run(tmp_path / "runs", method="tfidf")
    with pytest.raises(
        UsageError, match=r"a run of 'tfidf' has no model to export; evalsuite predict uses it as it is"
    ):
        export_run(directory, "merged", tmp_path / "model")


def test_an_outside_systems_predictions_are_no_model(finished: Path, tmp_path: Path) -> None:
    rows = [{"doc_id": f"test-{row}", "label": "alpha"} for row in range(20)]
    (tmp_path / "vendor.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {"task": "words", "output_path": str(tmp_path)}
    scored = score(build_registry(PLUGINS), Source(str(tmp_path / "vendor.jsonl")), "vendor", flags)
    with pytest.raises(UsageError, match="made of an outside system's predictions: there is no model to export"):
        export_run(scored.directory, "merged", tmp_path / "model")


def test_what_is_no_whole_run_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a run directory"):
        export_run(tmp_path, "merged", tmp_path / "model")
    changed = tmp_path / "changed"
    shutil.copytree(finished, changed)
    (changed / "task.json").write_text("{}")
    with pytest.raises(StoreError, match="was changed after the run"):
        export_run(changed, "merged", tmp_path / "model")


def test_a_private_run_is_checked_with_made_texts_and_its_own_go_nowhere(tmp_path: Path) -> None:
    directory = run(tmp_path / "runs", task="secret")
    made = export_run(directory, "merged", tmp_path / "model")
    assert made.check["documents"] == 64
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"zxqv" in path.read_bytes()]
    texts = check_texts(read_samples(directory, LABELS), {}, False)
    assert len(texts) == 64
    assert (min(map(len, texts)) > 0, len(texts[0].split()), len(texts[-1].split())) == (True, 1, 256)
    assert texts == check_texts(read_samples(directory, LABELS), {}, False)


def test_the_closest_calls_are_among_the_texts(finished: Path) -> None:
    samples = read_samples(finished, LABELS)
    count = 200
    random = np.random.default_rng(0)
    many = type(samples)(
        ids=tuple(map(str, range(count))),
        hashes=tuple(map(str, range(count))),
        gold=np.zeros((count, 3), bool),
        predicted=np.zeros((count, 3), bool),
        probabilities=random.dirichlet(np.ones(3), count),
        status=("ok",) * count,
        labels=LABELS,
    )
    texts = {str(row): f"text {row}" if row != 5 else "  " for row in range(count)}
    assert many.probabilities is not None
    ordered = np.sort(many.probabilities, axis=1)
    closest = [row for row in np.argsort(np.log(ordered[:, 2] / ordered[:, 1])) if row != 5][:32]
    chosen = check_texts(many, texts, False)
    assert len(chosen) == 64
    assert set(chosen) >= {f"text {row}" for row in closest}
    assert "  " not in chosen


def answer(logits: Any, decision: Decision) -> dict[str, Any]:
    decided = decision.decide(Scores(logits=np.array(logits, np.float32)))
    return {"labels": [[LABELS[i] for i in np.flatnonzero(row)] for row in decided], "logits": logits}


@pytest.mark.parametrize(
    ("decision", "close", "clear", "told"),
    [
        (Decision(False), [1.0, 0.99, 0], [1.0, 0.97, 0], [0.99, 1.0, 0]),
        (Decision(False, temperature=0.1), [1.0, 0.99, 0], [1.0, 0.97, 0], [0.99, 1.0, 0]),
        (Decision(False, scale=(10.0, 10.0, 1.0), bias=(0.0,) * 3), [1.0, 0.99, 0], [1.0, 0.97, 0], [0.99, 1.0, 0]),
        (Decision(True, thresholds=(0.5,)), [0.01, 2, -2], [0.03, 2, -2], [-0.01, 2, -2]),
        (Decision(True, thresholds=(0.9, 0.5, 0.1)), [2.2, 1, 1], [2.23, 1, 1], [2.19, 1, 1]),
        (Decision(True, top_k=2), [3, 1.0, 0.99], [3, 1.0, 0.97], [3, 0.99, 1.0]),
    ],
)
def test_a_label_may_differ_only_where_the_call_was_close(
    decision: Decision, close: list[float], clear: list[float], told: list[float]
) -> None:
    outcomes = [
        compare(Scores(logits=np.array([logits], np.float32)), answer([told], decision), decision, LABELS, ["float32"])
        for logits in (told, close, clear)
    ]
    assert [outcome["passed"] for outcome in outcomes] == [True, True, False]
    assert [outcome["labels_differ"] for outcome in outcomes] == [0, 1, 1]
    assert [outcome["labels_differ_outside_tolerance"] for outcome in outcomes] == [0, 0, 1]


def test_logits_far_off_are_another_models_though_the_labels_agree() -> None:
    """As those of an adapter on the wrong base, where all are small."""
    expected = Scores(logits=np.array([[0.003, 0.002, 0.001]], np.float32))
    for shift, passed in ((0.09, True), (0.13, False)):
        told = answer([[0.003 + shift, 0.002, 0.001]], Decision(False))
        assert compare(expected, told, Decision(False), LABELS, ["float32"])["passed"] == passed
    assert compare(expected, told, Decision(False), LABELS, ["float32", "bfloat16"])["tolerance"] == 0.02
    large = Scores(logits=np.array([[16.0, 2, 1]], np.float32))
    told = answer([[16.0, 2, 1]], Decision(False))
    assert compare(large, told, Decision(False), LABELS, ["bfloat16", "auto"])["tolerance"] == 0.125


def test_written_answers_have_no_margin_so_a_few_may_differ() -> None:
    decision = Decision(True, own_labels=True)
    predicted = np.zeros((64, 3), bool)
    for wrong, passed in ((0, True), (3, True), (4, False)):
        told = {"labels": [["beta"]] * wrong + [[]] * (64 - wrong), "logits": None}
        outcome = compare(Scores(predicted=predicted), told, decision, LABELS, ["float32"])
        assert (outcome["passed"], outcome["labels_differ"]) == (passed, wrong)
        assert outcome["largest_logit_difference"] is None


def test_logits_that_are_no_numbers_never_pass() -> None:
    expected = Scores(logits=np.array([[1, 0, 0]], np.float32))
    told = {"labels": [["alpha"]], "logits": [[float("nan"), 0, 0]]}
    assert not compare(expected, told, Decision(False), LABELS, ["bfloat16"])["passed"]
