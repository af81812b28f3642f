"""A synthetic tree of patent records in the on-disk format of WIPO-Alpha, quirks included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from random import Random

from evalsuite.data.synthetic import Difficulty, SyntheticDocument, generate

CLASSES = (
    "A01",
    "A47",
    "A61",
    "B01",
    "B29",
    "B65",
    "C07",
    "C08",
    "D04",
    "E04",
    "F16",
    "G01",
    "G02",
    "G06",
    "H01",
    "H04",
)
"""Sixteen, so that the default choice of 14 leaves some out."""

SIZES = {"train": 900, "test": 165}
YEARS = {"train": (1998, 1999, 2000), "test": (2001, 2002)}
DIFFICULTY = Difficulty(
    shortest=50, longest=90, signal=0.5, own_words=16, shared=6, noise=0.08, imbalance=0.25, second_label=0.25
)
QUIRKS = (
    "unclosed",
    "empty",
    "no description",
    "ampersand",
    "tag",
    "glued",
    "entity",
    "control",
    "unclosed description",
)


def write_patent_tree(
    folder: Path, sizes: Mapping[str, int] = SIZES, prose: Callable[[], str] = lambda: "", every: int = 8
) -> None:
    """train/ and test/alphatest/ below ``folder``; one record in ``every`` has a quirk of the real corpus.

    sizes: documents of each split; prose: gives the text that makes a description longer, without markup.
    """
    for seed, (split, size) in enumerate(sizes.items()):
        random = Random(seed)
        for number, document in enumerate(generate(len(CLASSES), size, DIFFICULTY, seed + 7)):
            codes = list(dict.fromkeys(_code(random, CLASSES[index]) for index in document.classes))
            year = random.choice(YEARS[split])
            month, day = random.randint(1, 12), random.randint(1, 28)
            name = f"US{year % 100:02d}{number:05d}"
            section = codes[0][0].lower() if split == "train" and codes[0][0] in "DE" else codes[0][0]
            place = folder / split / ("alphatest" if split == "test" else "")
            place = place / section / codes[0][1:3] / codes[0][3] / codes[0][4:7]
            place.mkdir(parents=True, exist_ok=True)
            quirk = QUIRKS[number // every % len(QUIRKS)] if number % every == 0 else ""
            head = f'cy="WO" an="{name}" pn="WO{name[2:]}{year}{month:02d}{day:02d}" dnum="{name[2:]}" kind="A1"'
            content = f"<record {head}>\n{_codes(codes)}{_texts(document, quirk, prose())}</record>\n"
            path = place / f"{name}_{day:02d}{month:02d}{year}.xml"
            path.write_text(_PROLOGUE + content, encoding="iso-8859-1")


_PROLOGUE = '<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE record SYSTEM "../../../../ipctraining.dtd">\n'


def _code(random: Random, name: str) -> str:
    """A full IPC code below a class: subclass, main group, subgroup."""
    return f"{name}{random.choice('BCF')}{random.choice((1, 5, 13)):03d}{random.choice((0, 2, 14)):02d}"


def _codes(codes: list[str]) -> str:
    secondary = "".join(f'<ipc ic="{code}"></ipc>\n' for code in codes[1:])
    return f'<ipcs ed="7" mc="{codes[0]}">\n{secondary}</ipcs>\n'


def _texts(document: SyntheticDocument, quirk: str, prose: str) -> str:
    """Title, abstract, claims and description: the first sentence is the title, the last one the claim."""
    title, *sentences = document.sentences
    body = escape(" ".join(f"{sentence.capitalize()}." for sentence in sentences), quote=False)
    claims = f"We claim:\n1. A device comprising\n{sentences[-1]}.2. The device of claim 1, in which it is fixed."
    abstract = {
        "empty": "",
        "ampersand": f"Research & development. {body}",
        "tag": f"As in <claim 1>. {body}",
        "entity": f"The caf&eacute; kind. {body}",
        "control": f"A form\x0cfeed. {body}",
        "glued": f"{body} It holds one wire\nandone wheel and the wire.",
    }.get(quirk, body.replace(". ", ".\n", 1))
    abstract = f'<ab xml:lang="EN">{abstract}' + ("" if quirk == "unclosed" else "</ab>")
    description = "" if quirk == "no description" else f" {title.upper()}\nField\n{body}{prose}"
    description = f'<txt xml:lang="EN">{description}' + ("" if quirk == "unclosed description" else "</txt>")
    return (
        f'<tis><ti xml:lang="EN">{title.upper()}\n</ti></tis>\n<abs>{abstract}</abs>\n'
        f'<cls><cl xml:lang="EN">{claims}</cl></cls>\n<txts>{description}</txts>\n'
    )
