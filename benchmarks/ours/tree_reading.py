"""evalsuite's side of ``tree_reading``: the reader of the ``wipo`` task."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.worker import Work, serve
from evalsuite.data.patent_tree import read_tree

FIELDS = ("title", "abstract", "claims")


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Reads the tree with the cache it has filled here, or with a new one each time."""
    kept = Path(tempfile.mkdtemp(dir=job))
    if settings["cached"]:
        read_tree(job / "tree", FIELDS, kept)

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=job) as empty:
            corpus = read_tree(job / "tree", FIELDS, kept if settings["cached"] else Path(empty))
            return {
                "numbers": corpus.ids,
                "codes": [" ".join(codes) for codes in corpus.labels],
                "texts": list(corpus.texts),
            }

    return work


if __name__ == "__main__":
    serve(setup)
