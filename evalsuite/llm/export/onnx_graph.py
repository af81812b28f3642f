"""A classifier as one ONNX graph, from token ids to logits, of any number of texts of any length.

Shapes: b texts, t tokens, h hidden, k labels.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import ModelError
from evalsuite.llm.loading.source import first_line

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "logits"
# Largest difference from torch, as a share of the largest logit above 1; MiniLM's was measured at 7e-8.
TOLERANCE = 1e-4
CHECKED = ((1, 2), (3, 17), (2, 64), (1, 512))  # texts, tokens; no longer than the model reads


class PooledGraph(nn.Module):
    """Logits [b, k] = linear(pool(states of ``body`` [b, t, h], mask [b, t])); ``normalize``: vectors of length 1."""

    def __init__(
        self, body: nn.Module, pool: Callable[[Tensor, Tensor], Tensor], linear: nn.Linear, normalize: bool = False
    ) -> None:
        super().__init__()
        self.body, self.pool, self.linear, self.normalize = body, pool, linear, normalize

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        vectors = self.pool(states, attention_mask)
        if self.normalize:
            vectors = nn.functional.normalize(vectors)
        logits: Tensor = self.linear(vectors)
        return logits


class OwnGraph(nn.Module):
    """A model that makes logits [b, k] by itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def write_onnx(graph: nn.Module, path: Path, *, vocabulary: int, pad_id: int, max_length: int) -> None:
    """Write ``graph``, whose weights are float32, and compare it with torch on several lengths, padded and not.

    Raises:
        ModelError: as ``require_packages``; torch cannot export this architecture, or what it wrote differs.
    """
    require_packages()
    graph = graph.cpu().eval()
    batch = example(2, 16, vocabulary, pad_id)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with torch.no_grad(), _quiet():
            program: Any = torch.onnx.export(
                graph,
                batch,
                dynamo=True,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes=(dynamic, dynamic),
                verbose=False,
            )
            program.save(path)
    except Exception as error:  # torch's exporter raises many kinds; each means that this model cannot be written
        raise ModelError(f"torch cannot write this model as ONNX: {first_line(error)}") from error
    sizes = [(texts, min(tokens, max_length)) for texts, tokens in CHECKED]
    difference = largest_difference(graph, path, [example(*size, vocabulary, pad_id) for size in sizes])
    if difference > TOLERANCE:
        raise ModelError(f"the ONNX graph differs from torch by {difference:.2g} of the largest logit: it is not kept")


def require_packages() -> None:
    """Raises: ModelError where a package is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ModelError(f"ONNX needs {', '.join(missing)}, not installed: pip install 'evalsuite[onnx]'")


def largest_difference(graph: nn.Module, path: Path, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Largest difference between torch and the file, as a share of the largest logit where that is above 1."""
    import onnxruntime

    session, differences = onnxruntime.InferenceSession(str(path)), []
    for batch in batches:
        with torch.no_grad():
            expected = graph(*batch)
        inputs = {name: tensor.numpy() for name, tensor in zip(INPUTS, batch, strict=True)}
        (found,) = session.run([OUTPUT], inputs)
        scale = max(1.0, float(expected.abs().max()))
        differences.append(float((expected - torch.from_numpy(found)).abs().max()) / scale)
    return max(differences)


def example(texts: int, tokens: int, vocabulary: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """Random ids and mask [texts, tokens]; the last text of several is half padding."""
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(vocabulary, (texts, tokens), generator=generator)
    mask = torch.ones_like(ids)
    if texts > 1:
        mask[-1, tokens // 2 :] = 0
    return ids.masked_fill(mask == 0, pad_id), mask


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch's exporter says of itself: deprecations and traces inside torch, absent packages."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
