"""A task described by a YAML file instead of Python.

::

    name: spam
    data: spam.csv            # or a folder, a hub id with @revision, or {train: a.csv, validation: b.csv, test: c.csv}
    text: message
    label: kind
    labels: [ham, spam]       # or {0: ham, 1: spam}; left out: all values found, sorted
    descriptions: {ham: wanted mail, spam: unwanted mail}
    licence: CC BY 4.0
    source: https://example.org/spam

Keys are the options of ``TableOptions`` and the facts of ``Task``. File names are relative to the YAML file.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from evalsuite.contracts import Task
from evalsuite.data.hub import is_hub_id
from evalsuite.data.table import TableOptions, load_table
from evalsuite.errors import DataError, OptionError, UnknownNameError

FACTS = (
    "name", "description", "source", "revision", "licence", "citation", "private", "primary_metric", "split_sizes"
)  # fmt: skip
"""Keys that describe the task; every other key is an option of ``TableOptions``."""

FILES = ("data", "validation", "test")


def task_from_yaml(path: Path) -> Task:
    """The task that a YAML file describes; its options may still be overridden like those of any task.

    Raises:
        DataError: no such file, not YAML, or not a mapping.
        UnknownNameError: a key that is neither an option nor a fact.
        OptionError: no name or data, or a value of the wrong type.
    """
    content = _read_mapping(path)
    for key in content:
        if key not in (*FACTS, *TableOptions.model_fields):
            raise UnknownNameError(f"key in {path}", str(key), (*FACTS, *TableOptions.model_fields))
    for key in ("name", "data"):
        if not content.get(key):
            raise OptionError(f"{path}: {key!r} is missing; a task needs a name, data, text and label")
    facts = {key: value for key, value in content.items() if key in FACTS}
    config = _options_class(path, {key: value for key, value in content.items() if key not in FACTS}, facts)
    facts.setdefault("source", str(content["data"]))
    _check_facts(path, facts)
    return Task(load=load_table, config=config, multilabel=config().multilabel, **facts)


def _read_mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the task file {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a mapping with name, data, text and label, got {type(content).__name__}")
    return content


def _options_class(path: Path, values: dict[str, Any], facts: Mapping[str, Any]) -> type[TableOptions]:
    """``TableOptions`` with the file's values as defaults."""
    if isinstance(values["data"], Mapping):
        files = dict(values.pop("data"))
        if unknown := set(files) - {"train", "validation", "test"}:
            raise UnknownNameError(f"split in {path}", str(min(unknown)), ("train", "validation", "test"))
        values = {"data": files.pop("train", ""), **files, **values}
    if is_hub_id(str(values["data"])) and not (path.parent / str(values["data"])).exists():
        pinned = facts.get("revision") and "@" not in values["data"]
        values["data"] += f"@{facts['revision']}" if pinned else ""
    else:
        values.update({key: str(path.parent / str(values[key])) for key in FILES if values.get(key)})
    for key in ("labels", "descriptions"):
        if isinstance(values.get(key), Mapping):  # YAML reads 0: ham as a number
            values[key] = {str(name): str(text) for name, text in values[key].items()}
        elif isinstance(values.get(key), list):
            values[key] = [str(name) for name in values[key]]
    try:
        checked = TableOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1]))
        raise OptionError(f"{path}: {where} = {first['input']!r} does not fit: {first['msg'].lower()}") from error
    fields: dict[str, Any] = {}
    for key in values:
        described = copy(TableOptions.model_fields[key])
        described.default = getattr(checked, key)
        fields[key] = (described.annotation, described)
    return create_model("DeclaredOptions", __base__=TableOptions, **fields)


def _check_facts(path: Path, facts: Mapping[str, Any]) -> None:
    for key, value in facts.items():
        kind = {"private": bool, "split_sizes": dict}.get(key, str)
        if not isinstance(value, kind):
            raise OptionError(f"{path}: {key} = {value!r} does not fit: expected {kind.__name__}")
