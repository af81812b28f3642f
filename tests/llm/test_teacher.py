"""A finished run is asked once for its logits, in the order of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle, finished

from evalsuite.contracts import Scores
from evalsuite.errors import ModelError, StoreError
from evalsuite.llm.teacher import teacher_logits

TEXTS = [f"text {number} of the team" for number in range(12)]


def test_logits_are_kept_by_run_and_texts(tmp_path: Path) -> None:
    oracle = Oracle()
    first = teacher_logits(finished(oracle), TEXTS, tmp_path)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, oracle.predict(TEXTS).logits)
    silent = Oracle()
    np.testing.assert_array_equal(teacher_logits(finished(silent), TEXTS, tmp_path), first)
    assert silent.asked == 0
    for run, texts in ((finished(silent, run_id="another"), TEXTS), (finished(silent), TEXTS[::-1])):
        before = silent.asked
        teacher_logits(run, texts, tmp_path)
        assert silent.asked > before
    for kept in (tmp_path / "teacher").iterdir():
        kept.write_bytes(b"cut")
    np.testing.assert_array_equal(teacher_logits(finished(silent), TEXTS, tmp_path), first)
    assert not [path for path in (tmp_path / "teacher").iterdir() if path.suffix != ".npy"]


def test_no_text_is_kept(tmp_path: Path) -> None:
    """The text of a private task goes nowhere."""
    teacher_logits(finished(Oracle()), TEXTS, tmp_path)
    assert not any(b"team" in path.read_bytes() for path in tmp_path.rglob("*.npy"))


def test_what_was_not_answered_is_nan(tmp_path: Path) -> None:
    class Failing(Oracle):
        def predict(self, texts: Sequence[str]) -> Scores:
            scores = super().predict(texts)
            return Scores(logits=scores.logits, status=["failed" if "number 3" in t else "ok" for t in texts])

    logits = teacher_logits(finished(Failing()), ["number 2", "number 3"], tmp_path)
    assert np.isnan(logits).all(axis=1).tolist() == [False, True]


def test_a_teacher_without_logits_is_found_out_on_a_few_documents(tmp_path: Path) -> None:
    class Mute(Oracle):
        def predict(self, texts: Sequence[str]) -> Scores:
            self.asked += len(texts)
            return Scores(predicted=np.zeros((len(texts), 3), bool))

    mute = Mute()
    with pytest.raises(ModelError, match="the teacher run gives no logits, so there is nothing to match; use one that"):
        teacher_logits(finished(mute), TEXTS, tmp_path)
    assert mute.asked == 8


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "teacher").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot keep the teacher's logits"):
        teacher_logits(finished(Oracle()), TEXTS, tmp_path)
