from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evalsuite.contracts import Splits, Task
from evalsuite.errors import DataError
from evalsuite.tasks import clv, table


def _only(module: ModuleType) -> Task:
    (task,) = module.evalsuite_register_tasks()
    assert isinstance(task, Task)
    return task


def _load(task: Task, cache: Path, **options: Any) -> Splits:
    assert task.config is not None
    return task.load(task.config(**options), cache)


def _csv(path: Path, classes: int, columns: str = "text,label") -> str:
    rows = "".join(f"text {n},class {n % classes}\n" for n in range(200))
    path.write_text(f"{columns}\n{rows}", encoding="utf-8")
    return str(path)


def test_clv_is_private_and_has_five_classes_of_one_label(tmp_path: Path) -> None:
    assert _only(clv).private
    splits = _load(_only(clv), tmp_path, data=_csv(tmp_path / "own.csv", 5, "body,kind"), text="body", label="kind")
    assert len(splits.labels) == 5
    assert not splits.findings
    assert not splits.synthetic


def test_clv_takes_another_number_of_classes_and_notes_it(tmp_path: Path) -> None:
    splits = _load(_only(clv), tmp_path, data=_csv(tmp_path / "own.csv", 3))
    assert splits.findings == {"not the paper's five classes": ("class 0", "class 1", "class 2")}


def test_clv_without_data_is_a_sample(tmp_path: Path) -> None:
    splits = _load(_only(clv), tmp_path)
    assert splits.synthetic
    assert len(splits.labels) == 5
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 500


def test_table_without_data_says_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name a file, a folder or a hub id with --set task.data="):
        _load(_only(table), tmp_path)


def test_table_names_the_nearest_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'label'; did you mean labels\?"):
        _load(_only(table), tmp_path, data=_csv(tmp_path / "own.csv", 3, "text,labels"))


PLUGIN = """\
import evalsuite
from evalsuite.data import TableOptions, load_table


class Options(TableOptions):
    data: str = "spam.csv"
    text: str = "message"
    label: str = "kind"


@evalsuite.hookimpl
def evalsuite_register_tasks():
    return [evalsuite.Task(name="spam", load=load_table, config=Options, source="our mail", licence="ours")]
"""


def test_a_new_task_takes_at_most_fifteen_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PLUGIN.splitlines()) <= 15
    (tmp_path / "spam.py").write_text(PLUGIN)
    _csv(tmp_path / "spam.csv", 2, "message,kind")
    spec = importlib.util.spec_from_file_location("spam_plugin", tmp_path / "spam.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    splits = _load(_only(module), tmp_path)
    assert splits.labels == ("class 0", "class 1")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 200
