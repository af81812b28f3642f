"""Takes this machine's folders out of what is published: ``/home/ann/customer/train.csv`` becomes ``train.csv``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalsuite.report.markup import escaped

# A path from the root, within a sentence too; URLs, "and/or" and "A61/00" are none.
ABSOLUTE = re.compile(r"(?<![\w:/.~<\\-])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"/\\,;)<>|]+[/\\])+[^\s'\"/\\,;)<>|]*")
ROOTED = re.compile(r"(~|\.{1,2})?[/\\]\S|[A-Za-z]:[/\\]")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@\S+)?")
FILES = {".csv", ".gz", ".json", ".jsonl", ".parquet", ".py", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zip"}
# What stands below these keys are labels, which may look like paths ("/m/02mk9").
LABELS = {"labels", "label", "id2label", "label2id", "descriptions", "results", "metrics", "findings", "support_train"}


def last_part(path: str) -> str:
    """The name of a file or folder without the folders it lies in."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def is_local(text: str) -> bool:
    """Whether the value of an option names a file or folder of this machine, rather than a hub id, a URL or a word."""
    if ROOTED.match(text):
        return True
    if "://" in text or not re.search(r"[/\\]", text):
        return False
    if HUB_ID.fullmatch(text) and Path(text.partition("@")[0]).suffix not in FILES:
        return Path(text).exists()
    return " " not in text


def local_paths(*options: Any) -> dict[str, str]:
    """Path -> its last part, of every value of some options that names a file or folder of this machine."""
    return {text: last_part(text) for group in options for text in _texts(group) if is_local(text)}


def paths_in_code(markdown: str) -> list[str]:
    """The absolute paths in the code of a card; a line that lists labels is none of them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("labels")]
    return [found[0] for line in lines for found in ABSOLUTE.finditer(line)]


def without_paths(data: Any, known: Mapping[str, str], *, sentences: bool = False) -> Any:
    """Plain data with the ``known`` paths replaced, and every other absolute one by its last part.

    ``sentences``: also those that stand within a text.
    """
    if isinstance(data, Mapping):
        return {
            key: value if key in LABELS else without_paths(value, known, sentences=sentences)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [without_paths(value, known, sentences=sentences) for value in data]
    if not isinstance(data, str):
        return data
    if data in known:
        return known[data]
    if re.match(r"(~?/|[A-Za-z]:[/\\])\S", data) and " " not in data:
        return last_part(data)
    text = replace_known(data, known)
    return ABSOLUTE.sub(lambda found: last_part(found[0]), text) if sentences else text


def replace_known(text: str, known: Mapping[str, str]) -> str:
    """The ``known`` paths replaced wherever they stand, as they are, as Markdown escapes them, and as Python quotes
    them."""
    spelt: dict[str, str] = {}
    for path, name in known.items():
        spelt |= {path: name, escaped(path): escaped(name), repr(path)[1:-1]: name}
    for path in sorted(spelt, key=len, reverse=True):  # a folder in another one goes after it
        text = re.sub(r"(?<![\w/.-])" + re.escape(path), lambda _, path=path: spelt[path], text)  # type: ignore[misc]
    return text


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key not in LABELS:
                yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)
    elif isinstance(data, str):
        yield data
