"""The GPU's benchmark at a tiny size on the CPU: everything runs, and nothing is passed off as a GPU's figure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.harness import Options
from evalsuite.llm.loading.shapes import SHAPES


@pytest.mark.timeout(120)
def test_every_figure_is_taken() -> None:
    said: list[str] = []
    figures = gpu.measured(Options(small=True), "cpu", said.append)
    kinds = [(one.work, one.precision) for one in figures]
    assert kinds == [
        (f"{what}, {method}", precision)
        for method in ("embedding", "instruction")
        for what, precision in (("training", "float32"), ("training", "NF4"), ("prediction", "float32"))
    ]
    assert all(one.shape == gpu.TINY and one.target is None and one.paper is None for one in figures)
    assert all(one.tokens_per_second > one.documents_per_second > 0 for one in figures)
    assert all(0 < one.share < 1 for one in figures if one.share is not None)
    assert gpu.table(figures, "tried").row_count == 6


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for rows in (False, True):
        gpu.run(rows=rows, out=tmp_path)
        assert gpu.NOT_TAKEN in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_its_shapes_are_there() -> None:
    assert set(gpu.SHAPES) <= set(SHAPES)
