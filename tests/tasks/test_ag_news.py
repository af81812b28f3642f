from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from evalsuite.contracts import Splits
from evalsuite.errors import DataError
from evalsuite.tasks.ag_news import CLASSES, AgNewsOptions, evalsuite_register_tasks, load

ROWS = (
    '"3","Wall St. Bears","Reuters - Wall Street\'s dwindling\\band of ""ultra-cynics"" pay \\$1.26, again."\n'
    '"1","Talks","Two sides\\\\meet."\n'
)


def _load(cache: Path, **options: Any) -> Splits:
    return load(AgNewsOptions(**options), cache)


def test_the_original_csv(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(ROWS * 20, encoding="utf-8")
    (tmp_path / "test.csv").write_text(ROWS, encoding="utf-8")
    splits = _load(tmp_path / "cache", data=str(tmp_path))
    assert splits.labels == ("World", "Sports", "Business", "Sci/Tech")
    assert [example.labels for example in splits.test] == [(2,), (0,)]
    assert splits.test[0].text == (
        'Wall St. Bears Reuters - Wall Street\'s dwindling band of "ultra-cynics" pay $1.26, again.'
    )
    assert splits.test[1].text == "Talks Two sides meet."
    assert not splits.synthetic
    assert set(splits.descriptions) == set(CLASSES.values())


def test_the_text_as_it_stands_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(ROWS * 20, encoding="utf-8")
    (tmp_path / "test.csv").write_text(ROWS, encoding="utf-8")
    assert _load(tmp_path / "cache", data=str(tmp_path), clean=False).test[1].text == "Talks Two sides\\\\meet."


def test_parquet_files_of_the_hub(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [f"t{n}" for n in range(40)], "label": [n % 4 for n in range(40)]})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    splits = _load(tmp_path / "cache", data=str(tmp_path))
    assert splits.labels == ("World", "Sports", "Business", "Sci/Tech")
    assert splits.test[1].labels == (1,)


def test_the_hub_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(name: str, subset: str | None, revision: str | None = None) -> Any:
        asked.append((name, revision))
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["World", "Sports", "Business", "S"])}
        )
        rows = {"text": [f"t{n}" for n in range(8)], "label": [n % 4 for n in range(8)]}
        part = datasets.Dataset.from_dict(rows, features=features)
        return datasets.DatasetDict({"train": part, "test": part})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    splits = _load(tmp_path, data="hub")
    assert asked == [("fancyzhx/ag_news", "eb185aade064a813bc0b7f42de02595523103ca4")]
    assert [splits.labels[example.labels[0]] for example in splits.test[:4]] == list(CLASSES.values())


def test_a_class_that_does_not_exist_is_counted(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(ROWS * 20 + '"5","a","b"\n', encoding="utf-8")
    (tmp_path / "test.csv").write_text(ROWS, encoding="utf-8")
    assert _load(tmp_path / "cache", data=str(tmp_path)).findings == {"unknown label": ["train-41"]}


@pytest.mark.parametrize("data", ["none.csv", "./nowhere"])
def test_a_missing_file_is_one_clear_line(data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        _load(tmp_path, data=str(tmp_path / data))


def test_the_sample_is_marked_repeatable_and_quickly_there(tmp_path: Path) -> None:
    start = time.process_time()
    splits = _load(tmp_path / "a")
    assert time.process_time() - start < 1
    assert splits.synthetic
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (800, 200)
    assert "\\" in (tmp_path / "a" / "samples" / "ag_news-1" / "train.csv").read_text(encoding="utf-8")
    assert list(splits.test) == list(_load(tmp_path / "b").test)


def test_the_task_states_where_it_comes_from() -> None:
    (task,) = evalsuite_register_tasks()
    assert (task.name, task.revision) == ("ag_news", "eb185aade064a813bc0b7f42de02595523103ca4")
    assert task.split_sizes == {"train": 120_000, "test": 7_600}
    assert task.source
    assert task.licence
    assert task.citation
