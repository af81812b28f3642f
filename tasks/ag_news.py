"""AG News: the topic of a news item, four classes."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from evalsuite.contracts import Splits, Task
from evalsuite.data import TableOptions, load_table
from evalsuite.data.hub import is_hub_id
from evalsuite.data.readers import find_sources
from evalsuite.data.samples import sample_folder
from evalsuite.data.synthetic import Difficulty, generate
from evalsuite.hookspecs import hookimpl
from evalsuite.options import Options, option

HUB = "fancyzhx/ag_news"
REVISION = "eb185aade064a813bc0b7f42de02595523103ca4"
CLASSES = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
DESCRIPTIONS = {
    "World": "world politics, conflict and society",
    "Sports": "matches, athletes and leagues",
    "Business": "companies, markets and the economy",
    "Sci/Tech": "science, computing and technology",
}
SAMPLE = {"train": 800, "test": 200}


class AgNewsOptions(Options):
    """Where the corpus is, and how its text is read."""

    data: str = option(
        "",
        "train.csv, a folder with train.csv and test.csv, 'hub' or owner/name[@revision]; without it, a sample",
    )
    clean: bool = option(
        True, "turn backslashes, the corpus' mark of a line break, into spaces", source="the original CSV files"
    )


def load(options: AgNewsOptions, cache: Path) -> Splits:
    """The original CSV files (class 1..4, title, description, no header) or the hub's copy of them.

    The text is title and description, separated by a space, as the hub has it. train.csv by itself is split 80/10/10.
    """
    data = options.data or str(sample_folder(cache, "ag_news-1", write_sample))
    if data == "hub" or is_hub_id(data):
        files, data = "", f"{HUB}@{REVISION}" if data == "hub" else data
    else:
        files = find_sources(Path(data).expanduser())[0].path.suffix.lower()
    if files == ".csv":
        table = TableOptions(data=data, header=("class", "title", "description"), text="title,description", joiner=" ")
        table = table.model_copy(update={"label": "class", "labels": CLASSES})
    else:  # the hub's copy has one text, and counts its classes from 0
        table = TableOptions(data=data, labels={str(int(value) - 1): name for value, name in CLASSES.items()})
    table = table.model_copy(update={"descriptions": DESCRIPTIONS})
    splits = load_table(table, cache, clean=_clean if options.clean else None)
    return replace(splits, synthetic=not options.data)


def _clean(text: str) -> str:
    return " ".join(text.replace("\\$", "$").replace("\\", " ").split())


def write_sample(folder: Path) -> None:
    """train.csv and test.csv, every cell quoted and lines broken by backslashes, as in the original."""
    for seed, (split, documents) in enumerate(SAMPLE.items()):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as handle:
            rows = csv.writer(handle, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for document in generate(len(CLASSES), documents, Difficulty(), seed):
                title, *rest = document.sentences
                body = ".\\".join(sentence.capitalize() for sentence in rest)
                rows.writerow([document.classes[0] + 1, title.title(), f"{body}."])


@hookimpl
def evalsuite_register_tasks() -> Iterable[Task]:
    return [
        Task(
            name="ag_news",
            load=load,
            config=AgNewsOptions,
            description="topic of a news item: World, Sports, Business or Sci/Tech",
            source=f"https://huggingface.co/datasets/{HUB}",
            revision=REVISION,
            licence="research, non-commercial",
            citation="Zhang, Zhao and LeCun (2015). Character-level Convolutional Networks for Text Classification. "
            "NeurIPS. https://arxiv.org/abs/1509.01626",
            split_sizes={"train": 120_000, "test": 7_600},
        )
    ]
