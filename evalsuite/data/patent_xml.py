"""Patent records in the XML of WIPO's categorisation corpora, one record a file.

Parsing has three passes. The fast one (``patent_scan``) knows files that are as they should be. What it does not answer
goes to the strict one, defusedxml, which loads no DTD and stops at any entity declaration, so that nothing is fetched
or expanded. What that refuses goes to the recovering pass: a search for the few elements that matter, which takes
everything else in them for text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from evalsuite.data.patent_record import FIELDS, PatentRecord, pick_language
from evalsuite.data.patent_scan import scan_record

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


class UnreadableRecordError(ValueError):
    """A file in which no pass finds a patent record."""


def parse_record(data: bytes) -> PatentRecord:
    """The patent record in the bytes of one file.

    Quirks: "not well-formed XML" for every file that needed the recovering pass, with the reasons found in it:
    "unclosed title|abstract|claims|description", "tag-like text", "bare ampersand", "undeclared entity", "entity
    declaration", "control characters", "truncated file"; and "empty title|abstract|claims|description" for any file.

    Raises:
        UnreadableRecordError: no record, or one that has neither a code nor a text.
    """
    try:
        record = scan_record(data) or parse_strictly(data)
    except (SyntaxError, ValueError, LookupError):  # ParseError, DefusedXmlException, an encoding nobody knows
        record = _recover(data)
    if not (record.main or record.secondary or any(map(str.strip, record.texts.values()))):
        raise UnreadableRecordError("no patent record with a code or a text")
    record.quirks += [f"empty {name}" for name in FIELDS.values() if not record.texts.get(name, "").strip()]
    return record


def parse_strictly(data: bytes) -> PatentRecord:
    """The record as an XML parser reads it; what ``scan_record`` is held to."""
    from defusedxml.ElementTree import fromstring

    root = fromstring(data)
    if root.tag != "record":
        raise ValueError(f"the root element is {root.tag}")
    record = PatentRecord(root.get("an", ""), root.get("pn", ""))
    for element in root.iter("ipcs"):
        record.main = element.get("mc", "")
        record.secondary += [code.get("ic", "") for code in element.iter("ipc")]
    found = [
        (FIELDS[element.tag], element.get(_LANGUAGE, ""), "".join(element.itertext()))
        for element in root.iter()
        if element.tag in FIELDS
    ]
    record.texts = pick_language(found)
    return record


_DECLARED = re.compile(rb"""<\?xml[^>]*encoding=["']([\w-]+)""")
_RECORD = re.compile(r"<record\b([^<>]*)>")
_MAIN = re.compile(r"<ipcs\b([^<>]*)>")
_SECONDARY = re.compile(r"<ipc\b([^<>]*)>")
_OPENING = re.compile(r"<(ti|ab|cl|txt)\b([^<>]*?)(/?)>")
# An element ends at its own end tag, or, if that is missing, where the next part of the record begins.
_ENDING = {tag: re.compile(rf"<(?:(/{tag}\s*>)|/?(?:tis|abs|cls|txts)\s*>|/record\s*>|{tag}\b)") for tag in FIELDS}
_REFERENCE = re.compile(r"&(?:#\d+|#[xX][\da-fA-F]+|[A-Za-z][\w.-]*);")
_NAMED = re.compile(r"&([A-Za-z][\w.-]*);")
_DECLARED_ENTITIES = frozenset(("amp", "lt", "gt", "quot", "apos"))
_BARE_AMPERSAND = re.compile(rf"&(?!{_REFERENCE.pattern[1:]})")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def _recover(data: bytes) -> PatentRecord:
    text = _decode(data)
    head = _RECORD.search(text)
    main = _MAIN.search(text)
    record = PatentRecord(
        number=_attribute(head[1], "an") if head else "",
        publication=_attribute(head[1], "pn") if head else "",
        main=_attribute(main[1], "mc") if main else "",
        secondary=[_attribute(match[1], "ic") for match in _SECONDARY.finditer(text)],
        quirks=["not well-formed XML"],
    )
    found = []
    for tag, language, content, closed in _elements(text):
        if not closed:
            record.quirks.append(f"unclosed {FIELDS[tag]}")
        found.append((FIELDS[tag], language, _plain(content, record.quirks)))
    if "<!ENTITY" in text:
        record.quirks.append("entity declaration")
    if not re.search(r"</record\s*>", text):
        record.quirks.append("truncated file")
    record.texts = pick_language(found)
    record.quirks = list(dict.fromkeys(record.quirks))
    return record


def _decode(data: bytes) -> str:
    declared = _DECLARED.search(data[:200])
    try:
        return data.decode(declared[1].decode() if declared else "utf-8")
    except (UnicodeDecodeError, LookupError):
        return data.decode("iso-8859-1")  # the corpus' encoding, in which every byte is a character


def _attribute(attributes: str, name: str) -> str:
    match = re.search(rf"""\b{name}\s*=\s*["']([^"']*)""", attributes)
    return match[1] if match else ""


def _elements(text: str) -> Iterator[tuple[str, str, str, bool]]:
    """Tag, language, raw content, and whether it was closed, of every element that holds text."""
    position = 0
    while opening := _OPENING.search(text, position):
        tag, attributes, selfclosed = opening.groups()
        position = opening.end()
        if selfclosed:
            yield tag, _attribute(attributes, "xml:lang"), "", True
            continue
        ending = _ENDING[tag].search(text, position)
        end = ending.start() if ending else len(text)
        yield tag, _attribute(attributes, "xml:lang"), text[position:end], bool(ending and ending[1])
        position = ending.end() if ending and ending[1] else end


def _plain(content: str, quirks: list[str]) -> str:
    """Element content as text; tags inside it stay, because in this corpus they are text ("<claim 1>")."""
    if "<" in content:
        quirks.append("tag-like text")
    if _BARE_AMPERSAND.search(content):
        quirks.append("bare ampersand")
    if _CONTROL.search(content):
        quirks.append("control characters")
        content = _CONTROL.sub(" ", content)
    if any(name not in _DECLARED_ENTITIES for name in _NAMED.findall(content)):
        quirks.append("undeclared entity")
    return _REFERENCE.sub(lambda match: html.unescape(match[0]), content)
