"""The floor that ignores the text."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from evalsuite.calibration import probabilities_of
from evalsuite.contracts import Example, RunContext
from evalsuite.errors import ModelError
from evalsuite.plugins import majority
from evalsuite.plugins.majority import Majority, MajorityOptions


class Quiet:
    @contextmanager
    def bar(self, title: str, total: int, unit: str = "docs"):  # type: ignore[no-untyped-def]
        yield lambda count: None


def context(tmp_path: Path, multilabel: bool = False) -> RunContext:
    return RunContext("toy", ("a", "b", "c"), multilabel, 0, "cpu", tmp_path, tmp_path, Quiet())


def documents(*labels: tuple[int, ...]) -> list[Example]:
    return [Example(str(row), "text", given) for row, given in enumerate(labels)]


def test_probabilities_are_the_smoothed_label_shares(tmp_path: Path) -> None:
    method = Majority(MajorityOptions(), context(tmp_path))
    method.fit(documents((0,), (0,), (1,)), [])
    logits = method.predict(["any", ""]).logits
    assert logits is not None
    np.testing.assert_allclose(probabilities_of(logits, False), [[3 / 6, 2 / 6, 1 / 6]] * 2, rtol=1e-6)
    assert method.ctx.facts == {"trainable_parameters": 0, "total_parameters": 3}


def test_multilabel_probabilities_are_each_labels_smoothed_share(tmp_path: Path) -> None:
    method = Majority(MajorityOptions(), context(tmp_path, multilabel=True))
    method.fit(documents((0, 1), (0,), ()), [])
    logits = method.predict(["any"]).logits
    assert logits is not None
    np.testing.assert_allclose(probabilities_of(logits, True), [[3 / 5, 2 / 5, 1 / 5]], rtol=1e-6)


def test_predictions_are_equal_after_reload(tmp_path: Path) -> None:
    method = Majority(MajorityOptions(), context(tmp_path))
    method.fit(documents((2,), (2,), (1,)), [])
    method.save(tmp_path)
    again = majority.load(tmp_path, MajorityOptions(), context(tmp_path))
    np.testing.assert_array_equal(again.predict(["x"] * 3).logits, method.predict(["x"] * 3).logits)
    assert method.predict([]).logits.shape == (0, 3)


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"logits": [1, 2]}', '{"logits": "many"}'])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / majority.FILE).write_text(content)
    with pytest.raises(ModelError, match=r"majority\.json") as raised:
        majority.load(tmp_path, MajorityOptions(), context(tmp_path))
    assert "\n" not in str(raised.value)


def test_it_is_registered_as_untrained() -> None:
    (spec,) = majority.evalsuite_register_methods()
    assert (spec.name, spec.trained, spec.needs) == ("majority", False, frozenset())
