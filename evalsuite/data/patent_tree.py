"""A folder tree of patent records: which files it has, what each says, and the repair of their text."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import FileIO
from operator import attrgetter
from pathlib import Path

from evalsuite.data.cache import SourceFiles, cached_corpus, source_key
from evalsuite.data.documents import Corpus, Document, Findings, UniqueIds, note
from evalsuite.data.patent_record import PatentRecord
from evalsuite.data.patent_xml import UnreadableRecordError, parse_record
from evalsuite.errors import DataError

VERSION = 1
"""Raise it whenever reading changes, so that no cache of the older reading is used."""

TEXT_FIELDS = ("title", "abstract", "claim", "claims", "description")
"""What a text can be made of; "claim" is the first claim."""


def list_files(root: Path) -> SourceFiles:
    """Every ``*.xml`` below ``root``, with paths below it, in the same order on every machine.

    Raises:
        DataError: no such folder, or no XML in it.
    """
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}; expected the root of an XML tree with train/ and test/")
    files = SourceFiles([], [], [])
    pending = [""]
    while pending:
        prefix = pending.pop()
        # Asked by descriptor, the system need not walk the whole path anew for every file.
        folder, below = os.open(f"{root}/{prefix}", os.O_RDONLY), []
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=attrgetter("name")):
                    name = entry.name
                    if entry.is_dir():
                        below.append(f"{prefix}{name}/")
                    elif name.endswith((".xml", ".XML")):
                        status = entry.stat()
                        files.paths.append(prefix + name)
                        files.sizes.append(status.st_size)
                        files.times.append(status.st_mtime_ns)
        finally:
            os.close(folder)
        pending += reversed(below)
    if not files.paths:
        raise DataError(f"no .xml file below {str(root)!r}; expected an XML tree with train/ and test/")
    return files


def split_of(path: str) -> str:
    """ "train" or "test", whichever folder of that name comes first in the path; "" below neither."""
    folders = (folder.lower() for folder in path.split("/")[:-1])
    return next((folder for folder in folders if folder in ("train", "test")), "")


def read_tree(root: Path, fields: Sequence[str], cache: Path) -> Corpus:
    """The patents below ``root``, from the cache where it has been read before with the same ``fields``.

    A document's labels are its IPC codes as they stand in the file, the main one first ("" where there is none); its
    text is ``fields`` (of ``TEXT_FIELDS``), one a line; its date, and so its place in time, is in the file's name.

    Findings: the quirks of ``parse_record`` and ``repair``; "unreadable file" and "outside train and test" (both left
    out, named by path), "malformed code" (the code is ignored), "no main code", "no date", "duplicate id" (renamed).

    Raises:
        DataError: no such folder, no XML in it, or no record in any file.
    """
    files = list_files(root)
    key = source_key(files, VERSION, tuple(fields))
    return cached_corpus(cache, key, lambda findings: _documents(root, files.paths, fields, findings))


def _documents(root: Path, paths: list[str], fields: Sequence[str], findings: Findings) -> Iterator[Document]:
    unique_id = UniqueIds(findings)
    divided = any(map(split_of, paths))
    read = 0
    for path in paths:
        if divided and not split_of(path):
            note(findings, "outside train and test", path)
            continue
        try:
            with FileIO(f"{root}/{path}") as file:
                record = parse_record(file.readall())
        except (UnreadableRecordError, OSError):
            note(findings, "unreadable file", path)
            continue
        read += 1
        document, quirks = to_document(record, path, fields)
        identifier = unique_id(document.id, document.split)
        for quirk in quirks:
            note(findings, quirk, identifier)
        yield document if identifier == document.id else replace(document, id=identifier)
    if not read:
        raise DataError(f"{root}: no patent record in any of {len(paths)} .xml files")


_NAME = re.compile(r"(?P<number>[^/_]+)(?:_(?P<day>\d\d)(?P<month>\d\d)(?P<year>\d{4}))?\.xml$", re.IGNORECASE)
_CODE = re.compile(r"[A-H]\d\d[A-Z](?:\d{3}\d*)?")


def to_document(record: PatentRecord, path: str, fields: Sequence[str]) -> tuple[Document, list[str]]:
    """A record as a document, and its quirks: the parser's own, and what was repaired in the text and the codes."""
    quirks = list(record.quirks)
    codes = [code.strip().upper() for code in (record.main, *record.secondary)]
    valid = [code if _CODE.fullmatch(code) else "" for code in codes]
    if any(code and not good for code, good in zip(codes, valid, strict=True)):
        quirks.append("malformed code")
    if not valid[0]:
        quirks.append("no main code")
    name = _NAME.search(path)
    date = f"{name['year']}-{name['month']}-{name['day']}" if name and name["year"] else ""
    if not date and (published := re.search(r"(\d{4})(\d\d)(\d\d)$", record.publication)):
        date = "-".join(published.groups())
    if not date:
        quirks.append("no date")
    parts = [repair(_field(record, field), record, quirks) for field in fields]
    number = record.number or (name["number"] if name else path)
    labels = (valid[0], *dict.fromkeys(code for code in valid[1:] if code))
    text = "\n".join(filter(None, parts))
    return Document(number, text, labels, split_of(path), date), list(dict.fromkeys(quirks))


def _field(record: PatentRecord, field: str) -> str:
    return first_claim(record.texts.get("claims", "")) if field == "claim" else record.texts.get(field, "")


_CLAIM_ONE = re.compile(r"(?:^|\s)1\s?[.)]\s")
_CLAIM_TWO = re.compile(r"(?<=[a-z)\]][.;])\s*2\s?[.)]\s*(?=[A-Z])|\s2\s?[.)]\s+(?=(?:An?|The)\s)")


def first_claim(claims: str) -> str:
    """Claim 1 of a text of numbered claims, without what introduces it; all of the text where nothing is numbered."""
    one = _CLAIM_ONE.search(claims[:400])
    begin = one.end() if one else 0
    two = _CLAIM_TWO.search(claims, begin)
    return claims[begin : two.start() if two else len(claims)]


_LETTERS = frozenset(string.ascii_letters)
_WINDOWS = re.compile(r"[\x80-\x9f]")
_GLUED = re.compile(
    r"(?P<claim>.*[a-z)\]]\.)(?P<next>\d{1,3}\.)"  # "region.2.": the end of a claim and the number of the next
    r"|(?P<conjunction>and|or)(?P<enumerator>[a-z]\))"  # "andc)"
    r"|(?P<about>about|least|than|between)(?P<figure>\d.*)"  # "about300"
    r"|(?P<before>and|said|wherein|comprising)(?P<word>[A-Za-z]+)(?P<mark>[.,;:]?)"  # "andwheel"
    r"|(?P<stem>[a-z]{4,})(?P<after>and|wherein|comprising)"  # "wheeland"
)
# Words that were seen not to be glued: a few thousand make up most texts, and need no second look.
_WHOLE_WORDS: set[str] = set()
_MOST_WHOLE_WORDS = 100_000


def repair(text: str, record: PatentRecord, quirks: list[str]) -> str:
    """``text`` on one line, with its repairs noted: "line breaks joined", "Windows-1252 characters", "glued words".

    A line break that was lost glues two words. That can be seen, and is undone, at the end of a claim, before an
    enumerator or a figure, and where one of the words is "and", "said", "wherein" or "comprising" and the other stands
    by itself elsewhere in the record, while the two together do not. Other words stay as they are.
    """
    if "\n" in text.strip():
        quirks.append("line breaks joined")
    if not text.isascii() and _WINDOWS.search(text):  # labelled ISO-8859-1, where these are unused control characters
        quirks.append("Windows-1252 characters")
        text = _WINDOWS.sub(lambda match: match[0].encode("latin-1").decode("cp1252", "replace"), text)
    tokens = text.split()
    repaired = {match[0]: fixed for match in _glued(tokens) if (fixed := _cut(match, record))}
    if repaired:
        quirks.append("glued words")
        tokens = [repaired.get(token, token) for token in tokens]
    return " ".join(tokens)


def _glued(tokens: Iterable[str]) -> list[re.Match[str]]:
    """The distinct tokens that look like two words."""
    unknown = set(tokens) - _WHOLE_WORDS
    matches = [match for match in map(_GLUED.fullmatch, unknown) if match]
    if len(_WHOLE_WORDS) < _MOST_WHOLE_WORDS:
        _WHOLE_WORDS.update(unknown.difference(match[0] for match in matches))
    return matches


def _cut(match: re.Match[str], record: PatentRecord) -> str:
    """Two glued words with a space between them; "" where they may well be one word."""
    first, second, *mark = (part for part in match.groups() if part is not None)
    if match["before"] or match["stem"]:
        text = " ".join(record.texts.values())
        other = second if match["before"] else first
        if not _count(other, text) or _count(first + second, text) > 1:
            return ""
    return " ".join((first, second)) + "".join(mark)


def _count(word: str, text: str) -> int:
    """How often ``word`` stands in ``text`` without an ASCII letter beside it."""
    count, start = 0, text.find(word)
    while start >= 0:
        end = start + len(word)
        count += not (text[start - 1 : start] in _LETTERS or text[end : end + 1] in _LETTERS)
        start = text.find(word, end)
    return count
