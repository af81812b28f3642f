"""WIPO-Alpha: the International Patent Classification of patent applications, many labels a document.

The paper (arXiv 2512.12677) speaks of 14 categories, but its list of them is unpublished. The default here is an
assumption: the 14 classes (``level=class``) most frequent in train, over main and secondary codes. State another scheme
with ``level`` and ``top``, or exactly with ``label_map``.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from evalsuite.contracts import Splits, Task
from evalsuite.data.documents import Corpus, build_splits, note
from evalsuite.data.ipc import LEVELS, describe
from evalsuite.data.label_map import read_label_map
from evalsuite.data.patent_sample import write_patent_tree
from evalsuite.data.patent_tree import TEXT_FIELDS, read_tree
from evalsuite.data.samples import sample_folder
from evalsuite.errors import DataError, nearest
from evalsuite.hookspecs import hookimpl
from evalsuite.options import Options, option


class WipoOptions(Options):
    """Where the corpus is, what counts as a class, and what counts as the text."""

    data: str = option(
        "", "root of the XML tree, the folder that holds train/ and test/; without it, a synthetic sample"
    )
    multilabel: bool = option(True, "the main and all secondary codes; false: the main code alone")
    level: Literal["section", "class", "subclass", "group"] = option(
        "class", "how much of an IPC code is the label: 1, 3, 4 or 7 characters"
    )
    top: int = option(
        14,
        "the most frequent classes of train, counting main and secondary codes, ties by code; 0 or all: every class",
        unit="classes",
        source="arXiv 2512.12677 has 14 categories and does not list them",
        ge=0,
    )
    label_map: str = option(
        "", "YAML, JSON or two-column CSV file from code prefix to category; replaces level and top"
    )
    unmatched: Literal["drop", "empty"] = option(
        "drop", "a document with no label among the classes is left out and counted, or kept with an empty label set"
    )
    fields: str = option(
        "title,abstract,claim", f"what makes the text, of {', '.join(TEXT_FIELDS)}; claim is the first claim"
    )
    validation: Literal["hash", "latest"] = option(
        "hash", "10% of train by hash of the text, or the latest 10%: the test split is later in time than train"
    )

    @field_validator("top", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return 0 if value == "all" else value

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, value: str) -> str:
        for name in value.split(","):
            if name.strip() not in TEXT_FIELDS:
                raise ValueError(f"unknown field {name.strip()!r}: {nearest(name.strip(), TEXT_FIELDS)}")
        return value

    @model_validator(mode="after")
    def _one_label_is_not_none(self) -> WipoOptions:
        if self.unmatched == "empty" and not self.multilabel:
            raise ValueError("unmatched=empty needs multilabel=true: a single-label document has exactly one label")
        return self


def load(options: WipoOptions, cache: Path) -> Splits:
    """The XML tree as documents labelled by IPC code, or a synthetic tree where no data is named.

    Findings are the quirks of ``evalsuite.data.patent_tree.read_tree``, and "no class among the chosen (train|test)"
    for the documents that ``unmatched`` is about.
    """
    root = Path(options.data).expanduser() if options.data else sample_folder(cache, "wipo-2", write_patent_tree)
    corpus = read_tree(root, [name.strip() for name in options.fields.split(",")], cache)
    if options.label_map:
        prefixes = read_label_map(Path(options.label_map).expanduser())
    else:
        prefixes = {code: code for code in frequent_classes(corpus, LEVELS[options.level], options.top)}
    labels = list(dict.fromkeys(prefixes.values()))
    gold = _gold(corpus, prefixes, labels, options)
    return build_splits(
        corpus,
        labels,
        gold,
        multilabel=options.multilabel,
        validation=options.validation,
        descriptions={label: describe(label) for label in labels if prefixes.get(label) == label},
        synthetic=not options.data,
    )


def frequent_classes(corpus: Corpus, length: int, top: int) -> list[str]:
    """The ``top`` most frequent classes (0: all), sorted by code, of the training documents.

    A class is a code cut to ``length`` characters, and counts once a document, main or secondary. Ties go to the code
    that sorts first. A corpus without folders for its splits is counted whole.
    """
    counts: Counter[str] = Counter()
    for codes, split in zip(corpus.labels, corpus.splits, strict=True):
        if split != "test":
            counts.update({code[:length] for code in codes if len(code) >= length})
    ranked = sorted(counts, key=lambda code: (-counts[code], code))
    return sorted(ranked[:top] if top else ranked)


def _gold(
    corpus: Corpus, prefixes: dict[str, str], labels: Sequence[str], options: WipoOptions
) -> list[tuple[int, ...] | None]:
    """Label indices of every document; None for the ones left out."""
    index = {label: position for position, label in enumerate(labels)}
    lengths = sorted({len(prefix) for prefix in prefixes}, reverse=True)

    @functools.cache
    def label_of(code: str) -> int | None:
        # The longest prefix that the scheme knows decides what a code stands for.
        return next((index[prefixes[code[:length]]] for length in lengths if code[:length] in prefixes), None)

    gold: list[tuple[int, ...] | None] = []
    for codes, split, identifier in zip(corpus.labels, corpus.splits, corpus.ids, strict=True):
        found = {label_of(code) for code in (codes if options.multilabel else codes[:1])}
        matched = tuple(sorted(label for label in found if label is not None))
        if not matched:
            note(corpus.findings, f"no class among the chosen ({split or 'all'})", identifier)
        gold.append(matched if matched or options.unmatched == "empty" else None)
    if not any(gold):
        raise DataError(f"no document has a code among {', '.join(list(prefixes)[:8])}; check label_map, level and top")
    return gold


@hookimpl
def evalsuite_register_tasks() -> Iterable[Task]:
    return [
        Task(
            name="wipo",
            load=load,
            config=WipoOptions,
            multilabel=True,
            description="International Patent Classification of patent applications, WIPO-Alpha",
            source="https://www.wipo.int/classifications/ipc/en/ITsupport/Categorization/dataset/, on request",
            revision="WIPO-alpha, 2002",
            licence="WIPO's terms, for research",
            citation="Fall, Torcsvari, Benzineb and Karetka (2003). Automated Categorization in the International "
            "Patent Classification. ACM SIGIR Forum 37(1). https://doi.org/10.1145/945546.945547",
            split_sizes={"train": 46_324, "test": 28_926},
        )
    ]
