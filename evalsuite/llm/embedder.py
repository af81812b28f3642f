"""Texts to embeddings by a frozen model: read within the prompt where there is one, pooled, kept on disk.

Shapes: n texts, h hidden.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import transformers

from evalsuite.contracts import Floats, RunContext
from evalsuite.errors import OptionError
from evalsuite.llm.classifier import Sizes, TextClassifier
from evalsuite.llm.loading.backbone import Backbone
from evalsuite.llm.reading.bidirectional import read_both_ways, reads_both_ways
from evalsuite.llm.reading.embedding_cache import EmbeddingCache, Records, make_records, record_type
from evalsuite.llm.reading.features import pooled_features

TEXTS_A_FILE = 4096  # what is lost where a run is killed, and held in memory beside the result


@dataclass(frozen=True)
class Embedded:
    """Embeddings of n texts: layer -> float32 [n, h], the tokens read, and the share of texts that was cut.

    ``cached`` texts had been embedded by an earlier process; ``cached_seconds`` is how long that took then.
    """

    vectors: Mapping[int, Floats]
    tokens: int
    truncated: float
    cached: int
    cached_seconds: float


class Embedder:
    """A frozen model with its way of reading. ``pooling`` and ``normalize`` (to length 1) make one vector of a text.

    Once ``identity`` (of the model's weights) is set, vectors are kept in the run's cache and found again.

    Raises:
        OptionError: ``bidirectional`` for an encoder, or a prompt for one.
        ModelError: a decoder that cannot be made to read both ways, or has no end mark for a prompt.
    """

    def __init__(self, backbone: Backbone, ctx: RunContext, options: Sizes, *, bidirectional: bool) -> None:
        self.encoder = reads_both_ways(backbone)
        if self.encoder and ctx.prompts is not None:
            raise OptionError(f"--template is for decoders: {backbone.name} is an encoder; leave it out")
        if bidirectional:
            read_both_ways(backbone)
        self.backbone, self.ctx, self.options, self.bidirectional = backbone, ctx, options, bidirectional
        self.reader = TextClassifier(backbone, ctx, options)
        self.pooling, self.normalize = "mean" if self.encoder or bidirectional else "last", False
        self.identity = ""  # of the weights; unset: nothing is kept
        self._caches: dict[int, EmbeddingCache] = {}
        self._read: set[str] = set()  # texts that were embedded here: their time is already counted

    @property
    def depth(self) -> int:
        """How many layers the model has now."""
        return int(self.backbone.model.config.get_text_config().num_hidden_layers)

    def embed(
        self, texts: Sequence[str], layers: Sequence[int] = (), count: Callable[[int], None] = lambda texts: None
    ) -> Embedded:
        """Embeddings of n texts by the layers named (none: the last). A text that occurs twice is read once."""
        wanted = sorted(set(layers)) or [self.depth]
        distinct = list(dict.fromkeys(texts))
        known = {layer: self._cache(layer).find(distinct) if self.identity else {} for layer in wanted}
        missing = [place for place in range(len(distinct)) if any(place not in found for found in known.values())]
        records = {layer: np.zeros(len(distinct), record_type(self.width)) for layer in wanted}
        for layer, found in known.items():
            for place, record in found.items():
                records[layer][place] = record
        count(len(texts) - len(missing))  # copies among the texts too
        for start in range(0, len(missing), TEXTS_A_FILE):
            places = missing[start : start + TEXTS_A_FILE]
            for layer, fresh in self._compute([distinct[place] for place in places], wanted, count).items():
                records[layer][places] = fresh
                if self.identity:
                    self._cache(layer).add(fresh)
        self._read.update(distinct[place] for place in missing)
        return self._gather(texts, distinct, records)

    def compute(self, texts: Sequence[str]) -> Floats:
        """Vectors [n, h] of the last layer as they come, without the cache: what is timed."""
        (records,) = self._compute(list(texts), [self.depth]).values()
        return np.asarray(records["vector"], np.float32)

    def _gather(self, texts: Sequence[str], distinct: Sequence[str], records: Mapping[int, Records]) -> Embedded:
        """One row a text of the distinct ones' records."""
        place = {text: at for at, text in enumerate(distinct)}
        rows = np.array([place[text] for text in texts], dtype=np.intp)
        first = next(iter(records.values()))
        earlier = [at for at, text in enumerate(distinct) if text not in self._read]
        return Embedded(
            vectors={layer: self._finish(found["vector"][rows]) for layer, found in records.items()},
            tokens=int(first["tokens"][rows].sum()),
            truncated=float(first["cut"][rows].mean()) if len(rows) else 0.0,
            cached=sum(text not in self._read for text in texts),
            cached_seconds=float(sum(found["seconds"][earlier].sum(dtype=np.float64) for found in records.values())),
        )

    def _finish(self, vectors: Floats) -> Floats:
        if not self.normalize:
            return np.ascontiguousarray(vectors)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)

    def _compute(
        self, texts: list[str], layers: Sequence[int], count: Callable[[int], None] = lambda texts: None
    ) -> dict[int, Records]:
        """Records of texts by every layer; the time is shared among layers and, by their tokens, among texts."""
        started = time.perf_counter()
        encoded = self.reader.encode(texts)
        vectors = pooled_features(
            self.backbone,
            encoded,
            self.pooling,
            None if list(layers) == [self.depth] else layers,
            token_budget=self.options.token_budget,
            count=count,
        )
        records = {layer: make_records(texts, found) for layer, found in vectors.items()}
        lengths = np.array(encoded.lengths, np.float64)
        each = (time.perf_counter() - started) * lengths / max(1.0, lengths.sum()) / len(records)
        for found in records.values():
            found["tokens"], found["seconds"], found["cut"] = lengths, each, encoded.truncated
        return records

    @property
    def width(self) -> int:
        return int(self.backbone.model.config.get_text_config().hidden_size)

    def _cache(self, layer: int) -> EmbeddingCache:
        if layer not in self._caches:
            prompts = self.reader.prompts
            described: dict[str, Any] = {
                "model": self.identity,
                "transformers": transformers.__version__,
                "dtype": str(self.backbone.dtype),
                "quantised": self.backbone.quantised,
                "attention": self.backbone.attn_implementation,
                "max_length": self.reader.max_length,
                "truncation_side": self.options.truncation_side,
                "pooling": self.pooling,
                "layer": layer,
                "bidirectional": self.bidirectional,
                # a marked text shows the whole prompt, its examples and the chat template included
                "prompt": prompts and [prompts.bos, prompts.prompt_text("<text>")],
            }
            self._caches[layer] = EmbeddingCache(self.ctx.cache / "embeddings", described, self.width)
        return self._caches[layer]
