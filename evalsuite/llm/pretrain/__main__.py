"""The command that trains the bundled model.

::

    python -m evalsuite.llm.pretrain --corpus UNPACKED_PACKAGES --corpus WIKITEXT --out DIR --minutes 40 --compile
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evalsuite.llm.pretrain.corpus import read_corpus
from evalsuite.llm.pretrain.training import Settings, pretrain


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="python -m evalsuite.llm.pretrain", description="train the bundled model")
    parser.add_argument("--corpus", type=Path, action="append", required=True, help="file or folder; may be repeated")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--minutes", type=float, default=40.0, help="wall clock of the training loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    given = parser.parse_args(arguments)
    settings = Settings(minutes=given.minutes, seed=given.seed, threads=given.threads, compile=given.compile)
    command = "python -m evalsuite.llm.pretrain --corpus CORPUS --out DIR " + " ".join(
        [f"--minutes {given.minutes:g}", f"--seed {given.seed}", f"--threads {given.threads}"]
        + (["--compile"] if given.compile else [])
    )
    pretrain(read_corpus(given.corpus), given.out, settings, command)


if __name__ == "__main__":
    main()
