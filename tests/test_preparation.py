"""A request with its data: which documents a limit keeps, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalsuite.config import resolve
from evalsuite.contracts import Example
from evalsuite.errors import DataError, OptionError, UnknownNameError, UsageError
from evalsuite.preparation import Prepared, prepare, smallest_hashes
from evalsuite.registry import build_registry

SPY = Path(__file__).parent / "spy_plugin.py"


def prepared(*sets: str, **flags: Any) -> Prepared:
    registry = build_registry([SPY])
    return prepare(registry, *resolve(registry, {"task": "words", "method": "spy", **flags}, sets))


def ids(split: Any) -> list[str]:
    return [example.id for example in split]


@pytest.mark.parametrize(
    ("limit", "count"), [(None, 20), (0.1, 2), (0.29, 6), (0.01, 1), (1, 1), (10, 10), (20, 20), (500, 20)]
)
def test_a_limit_counts_documents_or_takes_a_share(limit: float | None, count: int) -> None:
    found = prepared(limit=limit)
    assert len(found.splits.test) == count
    assert len(found.splits.train) == 30
    assert found.full_sizes == {"train": 30, "validation": 24, "test": 20}


def test_a_share_is_not_cut_by_floating_point() -> None:
    """0.29 * 100 is 28.999999999999996."""
    assert len(prepared("task.test=100", limit=0.29).splits.test) == 29


@pytest.mark.parametrize(("option", "split"), [("limit", "test"), ("train_limit", "train")])
def test_limited_documents_are_the_same_for_all_nested_and_in_order(option: str, split: str) -> None:
    def kept(count: int, **flags: Any) -> list[str]:
        return ids(getattr(prepared(**{option: count}, **flags).splits, split))

    ten, fifteen, whole = kept(10), kept(15), ids(getattr(prepared().splits, split))
    assert kept(10, seed=7) == kept(10, method="majority") == ten
    assert set(ten) < set(fifteen) < set(whole)
    assert fifteen == [name for name in whole if name in fifteen]
    assert ten != whole[:10]


def test_a_train_limit_leaves_validation_and_test_alone() -> None:
    limited, whole = prepared(train_limit=5).splits, prepared().splits
    assert (limited.validation, limited.test) == (whole.validation, whole.test)


def test_the_order_of_a_file_does_not_matter_to_a_limit() -> None:
    examples = [Example(str(number), "", (0,)) for number in range(50)]
    there, back = smallest_hashes(examples, 12), smallest_hashes(examples[::-1], 12)
    assert ids(there) == ids(back)[::-1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_to_train_on_or_to_score(split: str) -> None:
    with pytest.raises(
        DataError, match=f"task words: the {split} split is empty; see: evalsuite validate --task words"
    ):
        prepared(f"task.{split}=0")


def test_a_primary_metric_that_nobody_computes_is_refused_before_any_work() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown primary metric 'f1_marco'; did you mean f1_macro.*task lost"):
        prepared(task="lost")
    assert prepared(task="odd").task.primary_metric == "hit_any"


@pytest.mark.parametrize(("task", "count"), [("words", "auto"), ("tags", "4")])
def test_a_decision_that_does_not_fit_the_labels_is_refused_before_any_work(task: str, count: str) -> None:
    with pytest.raises(OptionError, match="top_k"):
        prepared("threshold=top_k", f"top_k={count}", task=task)
    prepared("threshold=top_k", "top_k=3", task="tags")


def test_a_task_whose_name_is_a_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "a,x\nb,y\n" * 20, encoding="utf-8")
    file = tmp_path / "task.yaml"
    file.write_text("name: ../../mine\ndata: data.csv\ntext: text\nlabel: label\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"\.\./\.\./mine"):
        prepared(task=str(file))


def test_nothing_is_written(tmp_path: Path) -> None:
    place = prepared(output_path=str(tmp_path / "runs")).directory
    assert place.final.is_relative_to(tmp_path / "runs" / "words__spy" / "none")
    assert list(tmp_path.iterdir()) == []


def test_validation_is_limited_like_the_other_splits() -> None:
    whole, few = prepared(), prepared(validation_limit=3)
    assert ids(few.splits.validation) == ids(smallest_hashes(whole.splits.validation, 3))
    assert (ids(few.splits.train), ids(few.splits.test)) == (ids(whole.splits.train), ids(whole.splits.test))
    assert few.directory != whole.directory
    with pytest.raises(OptionError, match="--validation-limit 0 must be at least 1 document"):
        prepared(validation_limit=0)


def test_a_trial_scores_half_of_validation_and_no_test_document() -> None:
    whole, trial = prepared(), prepared(split="validation")
    scored, kept = ids(trial.splits.test), ids(trial.splits.validation)
    assert sorted([*scored, *kept]) == sorted(ids(whole.splits.validation))
    assert 6 < len(scored) < 18
    assert ids(trial.splits.train) == ids(whole.splits.train)
    assert trial.identity["data"] != whole.identity["data"]
    # Another test split is the same trial.
    assert prepared("task.test=5", split="validation").directory.final.name == trial.directory.final.name
    # Limits come first, and the documents that are scored are the same for every seed.
    fewer = prepared(split="validation", validation_limit=12, seed=3)
    assert len(fewer.splits.test) + len(fewer.splits.validation) == 12
    assert set(ids(fewer.splits.test)) <= set(scored)
    assert len(prepared(split="validation", limit=3).splits.test) == 3


def test_halves_of_validation_are_cut_once_more_within_a_trial() -> None:
    """Were both cuts made by the same bit, one half of a trial's validation would be empty."""
    from evalsuite.decision import split_validation

    trial = prepared("task.validation=400", split="validation")
    first = split_validation(trial.splits.validation).halves
    assert first is not None
    assert 0.35 < first.mean() < 0.65
    assert 150 < len(trial.splits.test) < 250


def test_a_trial_without_validation_documents_is_refused() -> None:
    with pytest.raises(DataError, match="the validation split is empty"):
        prepared("task.validation=0", split="validation")
    with pytest.raises(OptionError, match="--split"):
        prepared(split="train")


def test_a_record_of_tuning_is_a_sweeps() -> None:
    with pytest.raises(OptionError, match="tuning holds trials; expected what a sweep writes there"):
        prepared(tuning={"trials": 3})
    record = {"trials": 1, "metric": "f1_macro", "tried": [{"bias": 1}], "scores": [0.5], "chosen": {"bias": 1}}
    tuned, plain = prepared(tuning=record), prepared()
    assert tuned.directory.final.name != plain.directory.final.name
    again = prepared(tuning={**record, "scores": [0.6]})  # a trial done again is no other run
    assert again.directory.final.name == tuned.directory.final.name
