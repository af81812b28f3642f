from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalsuite.contracts import Splits, Task
from evalsuite.data import task_from_yaml
from evalsuite.errors import DataError, EvalsuiteError, OptionError, UnknownNameError


def _task(folder: Path, text: str) -> Task:
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    return task_from_yaml(folder / "task.yaml")


def _load(task: Task, folder: Path, **options: Any) -> Splits:
    assert task.config is not None
    return task.load(task.config(**options), folder / "cache")


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    rows = "".join(f"mail number {n},{n % 2}\n" for n in range(100))
    (tmp_path / "mail.csv").write_text("message,kind\n" + rows, encoding="utf-8")
    return tmp_path


def test_a_task_in_yaml(mail: Path) -> None:
    task = _task(
        mail,
        """
        name: spam
        description: wanted or not
        data: mail.csv
        text: message
        label: kind
        labels: {0: ham, 1: spam}
        descriptions: {ham: wanted mail, spam: unwanted mail}
        licence: CC BY 4.0
        citation: Someone (2020)
        source: https://example.org
        private: true
        split_sizes: {train: 100}
        """,
    )
    assert (task.name, task.licence, task.private, task.multilabel) == ("spam", "CC BY 4.0", True, False)
    splits = _load(task, mail)
    assert splits.labels == ("ham", "spam")
    assert splits.descriptions == {"ham": "wanted mail", "spam": "unwanted mail"}
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 100


def test_its_options_may_still_be_overridden(mail: Path) -> None:
    task = _task(mail, "{name: spam, data: mail.csv, text: message, label: kind}")
    rows = "".join(f"text {n},{'xy'[n % 2]}\n" for n in range(60))
    (mail / "other.csv").write_text("message,kind\n" + rows, encoding="utf-8")
    assert _load(task, mail, data=str(mail / "other.csv")).labels == ("x", "y")
    with pytest.raises(EvalsuiteError, match="did you mean message"):
        _load(task, mail, text="mesage")


def test_paths_are_relative_to_the_file_not_to_the_shell(mail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task(mail, "{name: spam, data: {train: mail.csv, test: ./mail.csv}, text: message, label: kind}")
    monkeypatch.chdir("/")
    splits = _load(task, mail)
    assert len(splits.test) == 100


def test_a_hub_dataset_is_pinned_to_its_revision(mail: Path) -> None:
    task = _task(mail, "{name: news, data: owner/news, revision: 0a1b, multilabel: true}")
    assert task.config is not None
    assert task.config().data == "owner/news@0a1b"
    assert (task.revision, task.source, task.multilabel) == ("0a1b", "owner/news", True)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{name: x, data: a.csv, lable: kind}", UnknownNameError, r"unknown key in .*'lable'. did you mean label"),
        ("{name: x, data: {train: a.csv, tset: b.csv}}", UnknownNameError, r"'tset'. did you mean test"),
        ("{data: a.csv}", OptionError, "'name' is missing"),
        ("{name: x}", OptionError, "'data' is missing"),
        ("{name: x, data: a.csv, multilabel: perhaps}", OptionError, "multilabel = 'perhaps' does not fit"),
        ("{name: x, data: a.csv, private: perhaps}", OptionError, "private = 'perhaps' does not fit: expected bool"),
        ("{name: [x], data: a.csv}", OptionError, r"name = \['x'\] does not fit: expected str"),
        ("- name: x", DataError, "expected a mapping .* got list"),
        ("name: [", DataError, "not YAML"),
    ],
)
def test_a_mistake_is_one_clear_line(text: str, kind: type[EvalsuiteError], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message) as caught:
        _task(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the task file .*none.yaml: No such file"):
        task_from_yaml(tmp_path / "none.yaml")
