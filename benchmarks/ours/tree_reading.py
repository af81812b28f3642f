"""evalsuite's side of ``tree_reading``: the reader of the ``wipo`` task."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.worker import serve
from evalsuite.data.patent_tree import read_tree

FIELDS = ("title", "abstract", "claims")


def setup(job: Path, settings: dict[str, Any]) -> Any:
    """Reads the tree with the cache it has filled here, or with a new one each time."""
    kept = tempfile.TemporaryDirectory(dir=job)
    if settings["cached"]:
        read_tree(job / "tree", FIELDS, Path(kept.name))

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=job) as empty:
            corpus = read_tree(job / "tree", FIELDS, Path(kept.name if settings["cached"] else empty))
            return {
                "numbers": corpus.ids,
                "codes": [" ".join(codes) for codes in corpus.labels],
                "texts": list(corpus.texts),
            }

    return work


if __name__ == "__main__":
    serve(setup)
