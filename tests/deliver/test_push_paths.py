"""Folders of this machine do not leave it; hub ids, URLs, labels and ordinary text do."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.deliver.push_paths import is_local, local_paths, paths_in_code, replace_known, without_paths
from evalsuite.report.markup import escaped

LOCAL = [
    "/home/ann/customer/train.csv",
    "~/customer/train.csv",
    "./runs/0f",
    "../models/encoder",
    "C:\\Users\\ann\\train.csv",
    "data/train.csv",
    "customers/acme/texts",
    "runs/ag_news__embedding/bundled/0f",
    "sub\\folder\\file",
]
ELSEWHERE = [
    "meta-llama/Llama-3.2-3B",
    "answerdotai/ModernBERT-base@8949b909",
    "org/name@refs/pr/1",
    "https://huggingface.co/datasets/fancyzhx/ag_news",
    "bundled",
    "all-linear",
    "and / or",
    "text",
    "",
    "Sci/Tech",
]


@pytest.mark.parametrize("text", LOCAL)
def test_a_path(text: str) -> None:
    assert is_local(text)
    [name] = local_paths({"data": [text]}).values()
    assert "/" not in name
    assert "\\" not in name
    assert name == text.replace("\\", "/").rpartition("/")[2]


@pytest.mark.parametrize("text", ELSEWHERE)
def test_no_path(text: str) -> None:
    assert not is_local(text)
    assert without_paths({"a": text}, {}, sentences=True) == {"a": text}


def test_a_folder_that_looks_like_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local("customers/encoder")
    (tmp_path / "customers" / "encoder").mkdir(parents=True)
    assert is_local("customers/encoder")


def test_labels_that_look_like_paths_stay() -> None:
    """Freebase's identifiers, as in several public corpora."""
    data = {"labels": ["/m/02mk9", "/m/0dgw9r"], "id2label": {"0": "/m/02mk9"}, "data": "/home/ann/x.csv"}
    assert local_paths(data) == {"/home/ann/x.csv": "x.csv"}
    assert without_paths(data, {}, sentences=True) == {**data, "data": "x.csv"}
    code = "```python\nlabels = ['/m/02mk9/x']\nopen('/home/ann/model')\n```\n/not/code\n"
    assert paths_in_code(code) == ["/home/ann/model"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot read '/home/ann/x/y.csv': denied", "cannot read 'y.csv': denied"),
        ("see https://a.org/b/c/d and and/or, A61/00", "see https://a.org/b/c/d and and/or, A61/00"),
        ("file /home/ann/sweep.yaml", "file sweep.yaml"),
        ("~/secret/customer/x", "x"),
    ],
)
def test_paths_within_a_sentence(text: str, expected: str) -> None:
    assert without_paths([text], {}, sentences=True) == [expected]


def test_known_paths_go_in_every_spelling() -> None:
    known = {"/home/ann/[new] data": "[new] data", "/home/ann": "~", "data/x.csv": "x.csv"}
    text = f"{escaped('/home/ann/[new] data')} and {'/home/ann/[new] data'!r} and /home/ann/b; https://h.org/data/x.csv"
    assert replace_known(text, known) == (f"{escaped('[new] data')} and '[new] data' and ~/b; https://h.org/data/x.csv")
