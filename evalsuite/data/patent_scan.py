"""The fast pass over a patent record: cut at the tags, without an XML parser.

It answers only for a file that is well-formed for certain, with what the strict pass would say in a fraction of its
time: the corpus' elements in the corpus' order, attributes in double quotes, no reference but the five that XML
declares. About any other file it says nothing.
"""

from __future__ import annotations

import html
import re

import numpy as np

from evalsuite.data.patent_record import FIELDS, PatentRecord, pick_language

_PROLOGUE = re.compile(
    r'<\?xml version="1\.0" encoding="(?i:iso-8859-1)"\?>[ \n]*(?:<!DOCTYPE record SYSTEM "[^"<>&]*">[ \n]*)?'
)
_TAG = re.compile("<[^<>]*>")
_NAME = re.compile("<([a-z]+)")
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
    if not prologue or _has_control_characters(data) or _has_other_references(text):
        return None
    tags = list(_TAG.finditer(text, prologue.end()))
    if not _LAYOUT.fullmatch("".join([tag[0] for tag in tags])) or tags[0].start() > prologue.end():
        return None
    contents = _between(tags, text)
    if any("<" in content or ">" in content for content in contents) or contents[-1].strip(" \t\n"):
        return None
    return _collect([tag[0] for tag in tags], contents)


def _between(tags: list[re.Match[str]], text: str) -> list[str]:
    """What follows each tag."""
    starts = [tag.start() for tag in tags[1:]]
    return [text[tag.end() : start] for tag, start in zip(tags, [*starts, len(text)], strict=True)]


def _collect(tags: list[str], contents: list[str]) -> PatentRecord | None:
    record, found = PatentRecord(), []
    for tag, content in zip(tags, contents, strict=True):
        if not (start := _NAME.match(tag)):
            continue
        attributes = _ATTRIBUTE.findall(tag)
        value, name = dict(attributes), start[1]
        if len(value) < len(attributes):  # the same one twice is not well-formed
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


def _has_control_characters(data: bytes) -> bool:
    """Whether any character is not XML's, or a carriage return, which XML would replace."""
    codes = np.frombuffer(data, np.uint8)
    white = np.count_nonzero(codes == ord("\n")) + np.count_nonzero(codes == ord("\t"))
    return bool(np.count_nonzero(codes < ord(" ")) > white)


def _has_other_references(text: str) -> bool:
    return "&" in text and text.count("&") > len(_DECLARED.findall(text))
