"""The shape of a private patent corpus: five classes, one label a document, from the user's own table.

The corpus of the paper (arXiv 2512.12677) is proprietary, its text and class names unknown here: the user's table says
what the classes are. Another number of classes than five is allowed and noted in the findings.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from evalsuite.contracts import Splits, Task
from evalsuite.data import TableOptions, load_table
from evalsuite.data.samples import sample_folder
from evalsuite.data.synthetic import Difficulty, generate
from evalsuite.hookspecs import hookimpl
from evalsuite.options import option

CLASSES = 5
SAMPLE = 500


class ClvOptions(TableOptions):
    """As for any table; the defaults are a CSV file with the columns text and label."""

    data: str = option("", "CSV, JSONL or Parquet file, or folder of splits; without it, a synthetic sample")


def load(options: ClvOptions, cache: Path) -> Splits:
    """The user's table, or a synthetic sample in the same form."""
    if not options.data:
        sample = sample_folder(cache, "clv-1", write_sample) / "clv.csv"
        return replace(load_table(TableOptions(data=str(sample)), cache), synthetic=True)
    splits = load_table(options, cache)
    if len(splits.labels) == CLASSES:
        return splits
    return replace(splits, findings={**splits.findings, "not the paper's five classes": splits.labels})


def write_sample(folder: Path) -> None:
    """clv.csv: a header, then text and label."""
    difficulty = Difficulty(shortest=50, longest=100, signal=0.12, imbalance=0.5)
    with (folder / "clv.csv").open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["text", "label"])
        for document in generate(CLASSES, SAMPLE, difficulty, seed=0):
            text = " ".join(f"{sentence.capitalize()}." for sentence in document.sentences)
            rows.writerow([text, f"class {'ABCDE'[document.classes[0]]}"])


@hookimpl
def evalsuite_register_tasks() -> Iterable[Task]:
    return [
        Task(
            name="clv",
            load=load,
            config=ClvOptions,
            description="a private table of patents in five classes; its text stays out of results, logs and cards",
            source="the user's own file; the corpus of arXiv 2512.12677 is proprietary",
            licence="the user's own",
            private=True,
        )
    ]
