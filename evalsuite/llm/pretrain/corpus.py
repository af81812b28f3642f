"""Clean English text for the bundled language model: which packages, under which licence, read how.

A corpus path is a file or a folder. Each child of a folder is one source; a Debian package unpacked to
``NAME_VERSION`` (``dpkg-deb -x NAME_VERSION_all.deb NAME_VERSION``) is recognised by its name and read by
the patterns of ``PACKAGES``; a WikiText ``.tokens`` file is recognised by its suffix.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from evalsuite.errors import DataError

UNKNOWN_LICENCE = "not in the table of licences"
_MIN_PARAGRAPH = 60
_MIN_ENTRY = 25
_MIN_LETTERS = 0.78


@dataclass(frozen=True)
class Package:
    """How one Debian package is read: its licence, the files that hold English prose, passes per epoch."""

    licence: str
    patterns: tuple[str, ...]
    passes: int = 2
    reader: str | None = None


@dataclass(frozen=True)
class Source:
    """One source of text, cleaned: ``documents`` in reading order, ``sha256`` over them joined by newlines."""

    name: str
    version: str
    licence: str
    passes: int
    documents: tuple[str, ...]
    sha256: str

    @property
    def characters(self) -> int:
        """Characters of cleaned text, one pass."""
        return sum(map(len, self.documents))


# Licences as debian/copyright and the files themselves state them. A package whose files carry further terms
# (non-commercial, no derivatives, long quotations of others) is not in the table.
PACKAGES: dict[str, Package] = {
    "debian-edu-doc-en": Package("GPL-2+", ("**/debian-edu-bookworm-manual.html",)),
    "debian-faq": Package("GPL-2+", ("**/debian-faq.en.txt.gz",)),
    "debian-handbook": Package("GPL-2+ or CC-BY-SA-3.0", ("**/html/en-US/*.html",)),
    "debian-history": Package("GPL-2+", ("**/docs/*.en.html",)),
    "debian-policy": Package("GPL-2+", ("**/policy.txt.gz",)),
    "debian-reference-en": Package("GPL-2+", ("**/debian-reference.en.txt.gz",)),
    "developers-reference": Package("GPL-2+", ("**/developers-reference.txt.gz",)),
    "dict-devil": Package("public domain", ("**/*.dict.dz",), passes=3, reader="text"),
    "dict-elements": Package("public domain", ("**/*.dict.dz",), passes=3, reader="text"),
    "dict-foldoc": Package("GFDL-1.1+", ("**/*.dict.dz",), passes=2),
    "dict-gcide": Package("GPL-2+", ("**/*.dict.dz",), passes=1),
    "dict-jargon": Package("public domain", ("**/*.dict.dz",), passes=2),
    "dict-wn": Package("WordNet 3.0", ("**/*.dict.dz",), passes=1),
    "endless-sky-data": Package("GPL-3+", ("**/data/*.txt",), reader="strings"),
    "freeciv-data": Package("GPL-2+", ("**/helpdata.txt", "**/civ2civ3/*.ruleset"), reader="strings"),
    "git-doc": Package("GPL-2", ("**/user-manual.txt", "**/howto/*.txt")),
    "gnome-user-docs": Package("CC-BY-SA-3.0", ("usr/share/help/C/**/*.page",)),
    "gnu-standards": Package("GFDL-1.3+", ("**/*.text.gz",)),
    "gnucash-docs": Package("GFDL-1.1+", ("usr/share/help/C/**/*.xml", "usr/share/help/C/**/*.docbook")),
    "harden-doc": Package("GPL-2", ("**/html/en-US/*.html",)),
    "libreoffice-help-en-us": Package("MPL-2.0", ("**/en-US/text/**/*.html",), passes=1),
    "maint-guide": Package("GPL-2+", ("**/maint-guide.en.txt.gz",)),
    "perl-doc": Package("Artistic or GPL-1+", ("**/pod/*.pod",), passes=1),
    "postgresql-doc-15": Package("PostgreSQL", ("**/html/*.html",), passes=1),
    "python3.11-doc": Package("PSF-2", ("**/html/*/*.html",), passes=1),
    "wesnoth-1.16-data": Package("GPL-2+", ("**/*.cfg",), reader="strings"),
}


_INLINE_TAGS = """
a abbr acronym app b cite code em emphasis gui guibutton guilabel guimenu guimenuitem i key link q quote span strong
sub sup tt ulink var xref
"""


class _VisibleText(HTMLParser):
    """Text of an HTML or DocBook page: blocks apart by blank lines, code and navigation left out."""

    HIDDEN = frozenset({"script", "style", "pre", "nav", "head", "screen", "programlisting", "table"})
    INLINE = frozenset(re.findall(r"\w+", _INLINE_TAGS))

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.HIDDEN:
            self._hidden += 1
        elif tag not in self.INLINE:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag not in self.INLINE:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            # A blank line inside running markup is layout; only block tags part paragraphs.
            self.parts.append(re.sub(r"\s+", " ", data))


def squeeze(text: str) -> str:
    """One line, single spaces, typographic quotes and dashes made plain."""
    text = text.translate(_PLAIN)
    return re.sub(r"\s+", " ", text).strip()


_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": " - ",
        "\u00a0": " ",
        "\u00ad": "",
    }
)


def is_prose(paragraph: str, minimum: int = _MIN_PARAGRAPH) -> bool:
    """True for running English text: long enough, mostly ASCII letters and spaces, words of a common length."""
    if len(paragraph) < minimum:
        return False
    letters = len(re.findall(r"[A-Za-z ]", paragraph)) / len(paragraph)
    return letters >= _MIN_LETTERS and 2.5 <= len(paragraph) / (paragraph.count(" ") + 1) <= 9.0


def read_wikitext(raw: str) -> Iterator[str]:
    """Articles of a WikiText ``.tokens`` file with its tokenisation undone."""
    article: list[str] = []
    for line in raw.splitlines():
        line = line.strip()
        if re.fullmatch(r"= [^=].*[^=] =", line) and article:
            yield "\n".join(article)
            article = []
        if line:
            article.append(undo_wikitext(line.strip("= ")))
    if article:
        yield "\n".join(article)


def undo_wikitext(line: str) -> str:
    """``1 @,@ 024 , the " red @-@ tipped " one`` becomes ``1,024, the "red-tipped" one``."""
    line = line.replace("<unk>", "").replace("\u2019", "'")
    line = re.sub(r" ?@([-,.])@ ?", r"\1", line)
    line = re.sub(r'" ([^"]*?) "', r'"\1"', line)
    line = re.sub(r" ([,.;:!?%)\]])", r"\1", line)
    line = re.sub(r"([(\[$\u00a3]) ", r"\1", line)
    line = re.sub(r" ' ?(s|t|re|ve|ll|d|m)\b", r"'\1", line)
    line = re.sub(r"(\d) \u2013 (\d)", r"\1-\2", line)
    return squeeze(line)


def read_dictd(raw: str) -> Iterator[str]:
    """Entries of a dictd database: an entry starts at an unindented line."""
    for entry in re.split(r"\n(?=\S)", raw):
        text = re.sub(r"\\[^\\\n]*\\", "", entry)
        text = re.sub(r"\[(1913 Webster|Webster 1913 Suppl\.|PJC|WordNet 1\.5|[^\]]*\+[^\]]*|Obs\.|R\.)\]", "", text)
        text = re.sub(r"\([^()]*\[[=~'^][^()]*\)", "", text)
        text = squeeze(re.sub(r"[{}]", "", text)).replace(" ,", ",")
        if is_prose(text, _MIN_ENTRY):
            yield text


def read_strings(raw: str) -> Iterator[str]:
    """Prose kept as string literals in game data: in backquotes, or marked ``_ "..."`` for translation."""
    strings = re.findall(r"`([^`]+)`|_ ?\(?\"([^\"]+)\"", raw)
    paragraphs = [squeeze(re.sub(r"<[^>]*>|\\n|\\", " ", first or second)) for first, second in strings]
    yield from _group(p for p in paragraphs if is_prose(p))


def read_html(raw: str) -> Iterator[str]:
    """Prose of an HTML, DocBook or Mallard page."""
    parser = _VisibleText()
    parser.feed(raw)
    parser.close()
    yield from read_text("".join(parser.parts))


def read_text(raw: str) -> Iterator[str]:
    """Prose paragraphs of plain text, man-style or POD pages, unwrapped; markup and code lines are left out."""
    paragraphs = (squeeze(re.sub(r"[A-Z]<([^<>]*)>", r"\1", block)) for block in re.split(r"\n\s*\n|\n%+\n", raw))
    yield from _group(p for p in paragraphs if is_prose(p))


def _group(paragraphs: Iterable[str], size: int = 4000) -> Iterator[str]:
    """Joins paragraphs to documents of about ``size`` characters."""
    held: list[str] = []
    for paragraph in paragraphs:
        held.append(paragraph)
        if sum(map(len, held)) >= size:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


READERS: dict[str, Callable[[str], Iterator[str]]] = {
    "wikitext": read_wikitext,
    "dictd": read_dictd,
    "strings": read_strings,
    "html": read_html,
    "text": read_text,
}
_SUFFIX_READER = {
    ".tokens": "wikitext",
    ".dict": "dictd",
    ".html": "html",
    ".page": "html",
    ".xml": "html",
    ".docbook": "html",
}


def read_file(path: Path, reader: str | None = None) -> Iterator[str]:
    """Documents of one file; gzip (``.gz``, ``.dz``) is undone, the reader follows from the suffix unless given."""
    data = path.read_bytes()
    name = path.name
    if name.endswith((".gz", ".dz")):
        data, name = gzip.decompress(data), name[:-3]
    chosen = reader or _SUFFIX_READER.get(Path(name).suffix, "text")
    return READERS[chosen](data.decode("utf-8", errors="replace"))


def read_source(path: Path) -> Source:
    """Reads one file, or one folder (a known package by its patterns, any other folder whole).

    Raises:
        DataError: nothing readable is there.
    """
    name, _, version = path.name.partition("_")
    package = PACKAGES.get(name)
    if package is None:
        wikitext = path.suffix == ".tokens"
        licence = "CC-BY-SA-3.0 (WikiText-103)" if wikitext else UNKNOWN_LICENCE
        package = Package(licence, ("**/*",), passes=6 if wikitext else 1)
        name, version = path.name, ""
    files = [path] if path.is_file() else sorted({f for p in package.patterns for f in path.glob(p) if f.is_file()})
    # dict.fromkeys drops repeats (page headers, licence notes) and keeps the reading order.
    documents = tuple(dict.fromkeys(d for f in files for d in read_file(f, package.reader)))
    if not documents:
        raise DataError(f"no English text found in corpus path {path}; expected {', '.join(package.patterns)} in it")
    digest = hashlib.sha256("\n".join(documents).encode()).hexdigest()
    return Source(name, version, package.licence, package.passes, documents, digest)


def read_corpus(paths: Iterable[Path]) -> list[Source]:
    """Reads every path; a folder that is no known package is read child by child, known packages alone if it has any.

    Raises:
        DataError: a path does not exist, or holds no text.
    """
    sources = []
    for path in paths:
        if not path.exists():
            raise DataError(f"corpus path {path} does not exist; give a file or a folder of unpacked packages")
        children = sorted(path.iterdir()) if path.is_dir() and path.name.partition("_")[0] not in PACKAGES else [path]
        known = [c for c in children if c.name.partition("_")[0] in PACKAGES]
        sources += [read_source(child) for child in known or children]
    return sources


def split_held_out(sources: Sequence[Source], every: int = 10) -> tuple[list[tuple[str, int]], list[str]]:
    """Training documents with their passes, and held-out documents: every tenth WikiText article, else every tenth.

    Raises:
        DataError: fewer documents than `every`, so that none would be held out.
    """
    wikitext = [s for s in sources if s.name.endswith(".tokens")]
    measured = {s.name for s in (wikitext or sources)}
    train: list[tuple[str, int]] = []
    held_out: list[str] = []
    for source in sources:
        for index, document in enumerate(source.documents):
            if source.name in measured and index % every == every - 1:
                held_out.append(document)
            else:
                train.append((document, source.passes))
    if not held_out:
        raise DataError(f"{len(train)} documents are too few to hold one out in {every}; give --corpus more text")
    return train, held_out
