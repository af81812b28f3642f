"""The fast pass over a patent record: cut at the tags, without an XML parser.

It answers only for a file that is well-formed for certain, with what the strict pass would say in a fraction of its
time: the corpus' elements in the corpus' order, attributes in double quotes, no reference but the five that XML
declares. About any other file it says nothing.
"""

from __future__ import annotations

import functools
import html
import re

import numpy as np

from evalsuite.data.patent_record import FIELDS, PatentRecord, pick_language

_PROLOGUE = re.compile(
    r'<\?xml version="1\.0" encoding="(?i:iso-8859-1)"\?>[ \n]*(?:<!DOCTYPE record SYSTEM "[^"<>&]*">[ \n]*)?'
)
_ATTRIBUTE = re.compile(r' ((?!xmlns)[a-z]+|xml:lang)="([^"<>&\t\n]*)"')
_DECLARED = re.compile("&(?:amp|lt|gt|quot|apos);")


def _element(name: str, content: str = "") -> str:
    """A pattern of an element's tags around those of its ``content``."""
    return f"<{name}(?:{_ATTRIBUTE.pattern})*(?:/>|>{content}</{name}>)"


_CODES = _element("ipcs", f"(?:{_element('ipc')})*")
_PARENTS = {"ti": "tis", "ab": "abs", "cl": "cls", "txt": "txts"}
_TEXTS = "".join(f"(?:{_element(parent, f'(?:{_element(name)})*')})?" for name, parent in _PARENTS.items())
_LAYOUT = re.compile(_element("record", _CODES + _TEXTS))


def scan_record(data: bytes) -> PatentRecord | None:
    """The record in the bytes of a file, None where it takes an XML parser to say what is in it."""
    text = data.decode("iso-8859-1")
    prologue = _PROLOGUE.match(text)
    if not prologue or has_control_characters(data) or _has_other_references(text):
        return None
    tags, contents = _cut_at_tags(text, prologue.end())
    if not _LAYOUT.fullmatch("".join(tags)) or any(">" in content for content in contents):
        return None
    return None if contents[-1].strip(" \t\n") else _collect(tags, contents)


def _cut_at_tags(text: str, start: int) -> tuple[list[str], list[str]]:
    """Everything from a "<" to the next ">", and what follows each up to the next "<"."""
    tags, contents = [], []
    while start >= 0:
        end = text.find(">", start) + 1 or len(text)
        following = text.find("<", end)
        tags.append(text[start:end])
        contents.append(text[end : following if following >= 0 else len(text)])
        start = following
    return tags, contents


def _collect(tags: list[str], contents: list[str]) -> PatentRecord | None:
    record, found = PatentRecord(), []
    for tag, content in zip(tags, contents, strict=True):
        name, value = _read_tag(tag)
        if value is None:
            return None
        if name == "record":
            record.number, record.publication = value.get("an", ""), value.get("pn", "")
        elif name == "ipcs":
            record.main = value.get("mc", "")
        elif name == "ipc":
            record.secondary.append(value.get("ic", ""))
        elif name in FIELDS:
            own = "" if tag.endswith("/>") else html.unescape(content)
            found.append((FIELDS[name], value.get("xml:lang", ""), own))
    record.texts = pick_language(found)
    return record


@functools.lru_cache(maxsize=256)  # most tags of a file are those of every file
def _read_tag(tag: str) -> tuple[str, dict[str, str] | None]:
    """Name and attributes; None where an attribute comes twice, which is not well-formed. An end tag's name has "/"."""
    attributes = _ATTRIBUTE.findall(tag)
    value = dict(attributes)
    return tag[1:-1].partition(" ")[0].removesuffix("/"), value if len(value) == len(attributes) else None


def has_control_characters(data: bytes) -> bool:
    """Whether any character is not XML's, or a carriage return, which XML would replace."""
    codes = np.frombuffer(data, np.uint8)
    white = np.count_nonzero(codes == ord("\n")) + np.count_nonzero(codes == ord("\t"))
    return bool(np.count_nonzero(codes < ord(" ")) > white)


def _has_other_references(text: str) -> bool:
    return "&" in text and text.count("&") > len(_DECLARED.findall(text))
