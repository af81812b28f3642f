"""Row 6 at a tiny size: our side does the work, and the check sees a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks import frozen_embeddings as row
from benchmarks.harness import Options
from benchmarks.ours import frozen_embeddings as ours

pytestmark = pytest.mark.usefixtures("minilm")  # skips where its package is not there


@pytest.fixture
def job(tmp_path: Path) -> Path:
    row.prepare(tmp_path, Options(small=True))
    return tmp_path


@pytest.fixture
def first(job: Path) -> dict[str, Any]:
    return ours.setup(job, {"cached": False, "max_length": row.LONGEST})()


def plain(job: Path) -> Any:
    """One text at a time, as the model's card has it: the mean over the tokens, brought to length 1."""
    tokenizer, model = AutoTokenizer.from_pretrained(job / "model"), AutoModel.from_pretrained(job / "model").eval()
    vectors = []
    for text in json.loads((job / "texts.json").read_text(encoding="utf-8")):
        with torch.no_grad():
            states = model(**tokenizer(text, truncation=True, max_length=256, return_tensors="pt")).last_hidden_state
        vectors.append(torch.nn.functional.normalize(states[0].mean(dim=0), dim=0).numpy())
    return np.stack(vectors)


def test_our_side_is_the_plain_way(job: Path, first: dict[str, Any]) -> None:
    checks = row.check(job, {row.OURS: first, row.PEER: {"vectors": plain(job)}})
    assert [check.ok for check in checks] == [True] * 3
    assert row.floor(job, {row.OURS: first}).seconds > 0


def test_the_cached_side_embeds_nothing(job: Path, first: dict[str, Any]) -> None:
    again = ours.setup(job, {"cached": True, "max_length": row.LONGEST})()
    checks = row.check(job, {row.OURS: again, row.PEER: first})
    assert [check.ok for check in checks] == [True] * 4
    assert int(again["cached"]) == 16


def test_other_vectors_are_seen(job: Path, first: dict[str, Any]) -> None:
    off = first["vectors"].copy()
    off[3] = off[2]
    assert not row.check(job, {row.OURS: first, row.PEER: {"vectors": off}})[0].ok
