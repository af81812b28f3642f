"""Any labelled table as a dataset: a CSV, JSONL or Parquet file, a folder of splits, or a dataset on the hub.

A task in one file::

    import evalsuite
    from evalsuite.data import TableOptions, load_table

    class Options(TableOptions):
        data: str = "spam.csv"
        text: str = "message"
        label: str = "kind"

    @evalsuite.hookimpl
    def evalsuite_register_tasks():
        return [evalsuite.Task(name="spam", load=load_table, config=Options, source="our mail", licence="private")]
"""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import field_validator

from evalsuite.contracts import Splits
from evalsuite.data.documents import SPLIT_NAMES, Corpus, Document, Findings, UniqueIds, build_splits, note
from evalsuite.data.hub import is_hub_id, read_hub
from evalsuite.data.readers import Format, Source, find_sources, read_rows
from evalsuite.errors import DataError, OptionError
from evalsuite.options import Options, option


class TableOptions(Options):
    """Where the rows are, and which columns hold what."""

    data: str = option("", "file, folder with train.*, validation.* and test.*, or hub id with an optional @revision")
    validation: str = option("", "file of validation rows; without one, 10% of train by hash of the text")
    test: str = option("", "file of test rows; without one, 10% of the rows by hash of the text")
    text: str = option("text", "column that holds the text; several, separated by commas, are joined")
    joiner: str = option("\n", "what stands between the texts of several columns")
    label: str = option("label", "column that holds the label or labels")
    multilabel: bool = option(False, "a document may have any number of labels, none included")
    separator: str = option(";", "what separates the labels in a cell of a multi-label table that is not a list")
    labels: tuple[str, ...] | dict[str, str] | None = option(
        None, "label names in order, or a mapping from cell value to name; without it, all values found, sorted"
    )
    descriptions: dict[str, str] = option({}, "what each label stands for, in a few words; templates may print it")
    id: str = option("", "column that identifies a row; without it, the split and the row number")
    split: str = option("", "column that says train, validation or test")
    subset: str = option("", "configuration name of a hub dataset that has several")
    encoding: str = option("utf-8", "encoding of text files")
    delimiter: str = option("", "cell separator of CSV files; without it, a comma, or a tab in .tsv files")
    header: tuple[str, ...] = option((), "column names of a CSV file whose first row is data already")

    @field_validator("labels", "header", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("labels")
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        return value or None

    @property
    def text_columns(self) -> list[str]:
        """The columns that make the text, in order."""
        return [name.strip() for name in self.text.split(",")]


def load_table(options: TableOptions, cache: Path, *, clean: Callable[[str], str] | None = None) -> Splits:
    """The dataset that ``options`` describe. ``clean`` is applied to every text before it is hashed for its split.

    Tables are read anew each time and leave nothing in ``cache``: reading is fast, and the text may be private.

    Findings: "no text", "text is a number" (kept, as written), "text is not a string", "no label", "unknown label",
    "unknown split", "wrong number of cells", "broken surrogate" (repaired), "duplicate id" (renamed),
    "split not used". Rows are left out where it does not say otherwise.

    Raises:
        DataError: no data named, a file or column that is absent, a file that cannot be read, too few rows or labels.
    """
    findings: Findings = {}
    reader = _Reader(options, findings, clean or (lambda text: text))
    corpus = Corpus.collect(reader.documents(), findings)
    names = reader.label_names or _sorted_names({label for labels in corpus.labels for label in labels})
    index = {name: position for position, name in enumerate(names)}
    gold: list[tuple[int, ...] | None] = [tuple(sorted({index[name] for name in row})) for row in corpus.labels]
    return build_splits(corpus, names, gold, multilabel=options.multilabel, descriptions=options.descriptions)


def _sorted_names(names: set[str]) -> list[str]:
    """Sorted as numbers where all are whole numbers, otherwise as text."""
    return sorted(names, key=lambda name: (int(name), name) if all(map(_is_whole, names)) else (0, name))


def _is_whole(name: str) -> bool:
    return name.isascii() and name.isdigit()


class _Reader:
    """Turns rows into documents, noting each one that it leaves out."""

    def __init__(self, options: TableOptions, findings: Findings, clean: Callable[[str], str]) -> None:
        self.options, self.findings, self.clean = options, findings, clean
        self.unique_id = UniqueIds(findings)
        labels = options.labels
        self.names_by_value = dict(labels) if isinstance(labels, dict) else {name: name for name in labels or ()}
        self.label_names = list(dict.fromkeys(self.names_by_value.values()))

    @property
    def columns(self) -> list[str]:
        extra = [self.options.id, self.options.split]
        return [*self.options.text_columns, self.options.label, *filter(None, extra)]

    def documents(self) -> Iterator[Document]:
        if not self.options.data:
            raise DataError("no data: name a file, a folder or a hub id with --set task.data=...")
        rows = self._hub_rows() if is_hub_id(self.options.data) else self._file_rows()
        for split, number, row in rows:
            if document := self._document(split, number, row):
                yield document

    def _hub_rows(self) -> Iterator[tuple[str, int, Any]]:
        if self.options.validation or self.options.test:
            raise OptionError("validation and test name files; a hub dataset brings its own splits")
        dataset = read_hub(self.options.data, self.options.subset, self.columns, self.options.label, self.findings)
        if dataset.label_names and not self.options.labels:
            self.label_names = dataset.label_names
            self.names_by_value = {str(index): name for index, name in enumerate(dataset.label_names)}
        yield from dataset.rows

    def _file_rows(self) -> Iterator[tuple[str, int, Any]]:
        options = self.options
        sources = find_sources(Path(options.data).expanduser())
        for split, named in (("validation", options.validation), ("test", options.test)):
            if named:
                sources = [source for source in sources if source.split != split]
                sources += [Source(file.path, split) for file in find_sources(Path(named).expanduser())]
        form = Format(options.encoding, options.delimiter, options.header)
        counted: Counter[str] = Counter()  # rows are numbered through the parts of a split
        for source in sources:
            number = 0
            for number, row in read_rows(source.path, self.columns, form, self.findings):
                yield source.split, counted[source.split] + number, row
            counted[source.split] += number

    def _document(self, split: str, number: int, row: Any) -> Document | None:
        identifier = f"{split or 'row'}-{number}"
        if self.options.id and row.get(self.options.id) is not None:
            identifier = _cell_text(row[self.options.id])
        if self.options.split:
            value = str(row.get(self.options.split)).strip()
            split = SPLIT_NAMES.get(value.lower(), "")
            if not split:
                note(self.findings, "unknown split", identifier)
                return None
        text = self._text(identifier, row)
        labels = self._labels(identifier, row.get(self.options.label)) if text is not None else None
        if text is None or labels is None:
            return None
        return Document(self.unique_id(identifier, split), self.clean(text), labels, split)

    def _text(self, identifier: str, row: Any) -> str | None:
        parts = []
        for column in self.options.text_columns:
            value = row.get(column)
            if _is_missing(value):
                continue
            if not isinstance(value, str):
                if not isinstance(value, numbers.Number):
                    note(self.findings, "text is not a string", identifier)
                    return None
                note(self.findings, "text is a number", identifier)
                value = _cell_text(value)
            parts.append(value)
        if not parts:
            note(self.findings, "no text", identifier)
            return None
        text = self.options.joiner.join(parts)
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no tokenizer takes
            note(self.findings, "broken surrogate", identifier)
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _labels(self, identifier: str, value: Any) -> tuple[str, ...] | None:
        if _is_missing(value) or (value == "" and not self.options.multilabel):
            note(self.findings, "no label", identifier)
            return None
        if not self.options.multilabel:
            values = [value]
        elif isinstance(value, (list, tuple)):
            values = list(value)
        else:
            values = [part for part in _cell_text(value).split(self.options.separator) if part.strip()]
        if any(_is_missing(part) or isinstance(part, (list, dict)) for part in values):
            note(self.findings, "unknown label", identifier)
            return None
        named = [_cell_text(part).strip() for part in values]
        if not self.names_by_value:
            return tuple(named)
        if not all(name in self.names_by_value for name in named):
            note(self.findings, "unknown label", identifier)
            return None
        return tuple(self.names_by_value[name] for name in named)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell_text(value: Any) -> str:
    """A cell as text; 3.0, which is how tables with gaps store the label 3, is "3"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
