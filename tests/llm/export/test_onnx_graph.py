"""ONNX graphs of encoders and decoders: any number of texts of any length, within 1e-4 of torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from evalsuite.errors import ModelError
from evalsuite.llm.export import onnx_graph
from evalsuite.llm.export.onnx_graph import OwnGraph, PooledGraph, example, largest_difference, write_onnx
from evalsuite.llm.loading.backbone import load_sequence_classifier
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.reading.pooling import pool_last

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_graph.PACKAGES), reason="needs the extra `onnx`"
)
LABELS = ("a", "b", "c")


@needs_onnx
@pytest.mark.parametrize("name", ["tiny_bert", "tiny_mistral"])
def test_any_number_of_texts_of_any_length(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Traced on two texts of 16 tokens; what sees a window of 8 reads on past it."""
    backbone = load_sequence_classifier(ModelOptions(model=str(request.getfixturevalue(name))), LABELS, False, "cpu")
    model = backbone.model
    decoder = name == "tiny_mistral"
    graph = PooledGraph(model.base_model, pool_last, model.score) if decoder else OwnGraph(model)
    pad = backbone.tokenizer.pad_token_id
    write_onnx(graph, tmp_path / "model.onnx", vocabulary=300, pad_id=pad, max_length=128)
    batches = [example(texts, tokens, 300, pad) for texts, tokens in ((1, 1), (1, 3), (5, 40), (2, 128))]
    assert largest_difference(graph, tmp_path / "model.onnx", batches) < 1e-5
    with torch.no_grad():
        answers = [graph(*batch).numpy() for batch in batches]
    assert all(np.isfinite(answer).all() and answer.std() > 0.01 for answer in answers)


@needs_onnx
def test_a_graph_that_differs_is_refused(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "TOLERANCE", -1.0)
    backbone = load_sequence_classifier(ModelOptions(model=str(tiny_bert)), LABELS, False, "cpu")
    with pytest.raises(ModelError, match=r"the ONNX graph differs from torch by .* it is not kept"):
        write_onnx(OwnGraph(backbone.model), tmp_path / "model.onnx", vocabulary=300, pad_id=0, max_length=16)


@needs_onnx
def test_what_torch_cannot_write_is_one_clear_line(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return input_ids.float() if int(input_ids.sum()) > 3 else attention_mask.float()

    with pytest.raises(ModelError, match="torch cannot write this model as ONNX: ") as caught:
        write_onnx(Branching(), tmp_path / "model.onnx", vocabulary=300, pad_id=0, max_length=16)
    assert "\n" not in str(caught.value)


def test_missing_packages_are_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ModelError, match=r"no_such_package, not installed: pip install 'evalsuite\[onnx\]'"):
        write_onnx(torch.nn.Identity(), tmp_path / "model.onnx", vocabulary=9, pad_id=0, max_length=16)
