"""What a sentence-embedding model's files say of its pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import ModelError
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.reading.sentence import sentence_pooling

PREFIX = "sentence_transformers.models."


def write(folder: Path, pooling: dict[str, Any] | None, *more: str) -> ModelOptions:
    names = ["Transformer", *(["Pooling"] if pooling is not None else []), *more]
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_{name}" if at else "", "type": f"{PREFIX}{name}"}
        for at, name in enumerate(names)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return ModelOptions(model=str(folder))


def modes(name: str) -> dict[str, Any]:
    known = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    return {"word_embedding_dimension": 32, **{f"pooling_mode_{mode}": mode == name for mode in known}}


@pytest.mark.parametrize(
    ("name", "ours"), [("cls_token", "cls"), ("mean_tokens", "mean"), ("max_tokens", "max"), ("lasttoken", "last")]
)
def test_poolings(tmp_path: Path, name: str, ours: str) -> None:
    assert sentence_pooling(write(tmp_path, modes(name))) == (ours, False)
    assert sentence_pooling(write(tmp_path, modes(name), "Normalize")) == (ours, True)


def test_the_later_form_of_the_file(tmp_path: Path) -> None:
    assert sentence_pooling(write(tmp_path, {"embedding_dimension": 32, "pooling_mode": "cls"})) == ("cls", False)


def test_a_plain_model_says_nothing(tiny_bert: Path) -> None:
    assert sentence_pooling(ModelOptions(model=str(tiny_bert))) is None
    assert sentence_pooling(ModelOptions(model="bundled")) is None


@pytest.mark.parametrize(
    ("pooling", "more"),
    [
        (modes("mean_sqrt_len_tokens"), ()),
        ({**modes("cls_token"), "pooling_mode_mean_tokens": True}, ()),
        (modes("mean_tokens"), ("Dense",)),
        (None, ()),
    ],
)
def test_what_is_not_done_here_is_refused(tmp_path: Path, pooling: dict[str, Any] | None, more: tuple[str]) -> None:
    with pytest.raises(ModelError, match="name pooling to have the plain model"):
        sentence_pooling(write(tmp_path, pooling, *more))


def test_a_damaged_file(tmp_path: Path) -> None:
    options = write(tmp_path, modes("cls_token"))
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read how .* makes embeddings"):
        sentence_pooling(options)
