from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalsuite.data import TableOptions, load_table
from evalsuite.data.hub import is_hub_id, load_dataset_dict, read_hub
from evalsuite.errors import DataError, OptionError


def _dataset(multilabel: bool = False) -> Any:
    import datasets

    label = datasets.ClassLabel(names=["ham", "spam"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(label) if multilabel else label}
    )
    labels: list[Any] = [[0, 1], []] * 30 if multilabel else [1, 0] * 30
    rows = {"text": [f"text {n}" for n in range(60)], "label": labels}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the hub: what it holds, and what it was asked for."""
    import datasets

    state: dict[str, Any] = {"splits": {"train": _dataset(), "test": _dataset()}}

    def load_dataset(name: str, subset: str | None, revision: str | None = None) -> Any:
        state["asked"] = (name, subset, revision)
        if "error" in state:
            raise state["error"]
        return datasets.DatasetDict(state["splits"])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return state


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("owner/name", True),
        ("owner/name@0a1b", True),
        ("owner/name.csv", False),
        ("./owner/name", False),
        ("name", False),
        ("/owner/name", False),
        ("a/b/c", False),
    ],
)
def test_what_looks_like_a_hub_id(data: str, expected: bool) -> None:
    assert is_hub_id(data) is expected


def test_a_folder_of_that_name_is_not_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_hub_id("owner/name")


def test_class_names_revision_and_splits_come_from_the_hub(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["splits"]["unsupervised"] = _dataset()
    splits = load_table(TableOptions(data="owner/name@0a1b", subset="plain"), tmp_path)
    assert hub["asked"] == ("owner/name", "plain", "0a1b")
    assert splits.labels == ("ham", "spam")
    assert len(splits.test) == 60
    assert (splits.test[0].text, splits.test[0].labels) == ("text 0", (1,))
    assert splits.findings == {"split not used": ["unsupervised"]}


def test_one_split_is_divided_and_lists_of_classes_are_multilabel(hub: dict[str, Any], tmp_path: Path) -> None:
    hub["splits"] = {"train": _dataset(multilabel=True)}
    splits = load_table(TableOptions(data="owner/name", multilabel=True), tmp_path)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 60
    assert {example.labels for example in splits.train} == {(0, 1), ()}


def test_a_missing_column_and_a_missing_split(hub: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(train\) has no column 'txt'; did you mean text\?"):
        load_table(TableOptions(data="owner/name", text="txt"), tmp_path)
    hub["splits"] = {"test": _dataset()}
    with pytest.raises(DataError, match="no train split, only test"):
        load_table(TableOptions(data="owner/name"), tmp_path)
    with pytest.raises(OptionError, match="brings its own splits"):
        load_table(TableOptions(data="owner/name", test="test.csv"), tmp_path)


def test_a_gated_dataset_is_one_line_with_its_address(hub: dict[str, Any], tmp_path: Path) -> None:
    from datasets.exceptions import DatasetNotFoundError

    hub["error"] = DatasetNotFoundError("Dataset 'owner/name' is a gated dataset on the Hub.\nLog in.")
    with pytest.raises(DataError, match=r"gated.*https://huggingface.co/datasets/owner/name;.*hf auth login") as caught:
        load_table(TableOptions(data="owner/name"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from evalsuite.data import TableOptions, load_table\n"
        "from evalsuite.errors import DataError\n"
        "try: load_table(TableOptions(data='owner/name@0a1b'), Path('.'))\n"
        "except DataError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("cannot load the hub dataset 'owner/name' at 0a1b: ")
    assert "name a local copy" in line


def test_the_library_itself_on_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split in ("train", "test"):
        _dataset().to_parquet(folder / f"{split}.parquet")
    dataset = read_hub(str(folder), "", ["text", "label"], "label", {})
    rows = list(dataset.rows)
    assert dataset.label_names == ["ham", "spam"]
    assert rows[0] == ("train", 1, {"text": "text 0", "label": 1})
    assert len(rows) == 120
    with pytest.raises(DataError, match="cannot load the hub dataset"):
        load_dataset_dict(str(tmp_path / "nothing"), None, None)
