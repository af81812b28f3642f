"""Reading a tree of patents in the format of WIPO-Alpha, beside a plain loop of xml.etree over the same files.

The work: from 20,000 files of about 40 KB (codes, title, abstract, claims, a long description), a list of number,
codes, title, abstract and claims, on one core with the files in the page cache. One file in fifty has a quirk of the
real corpus; two thirds of these are not well-formed.

The peers: the standard library's parser on whole files, from a string or from the path, whichever is faster; and step
by step, left at the end of the claims, so that it never sees a description. They skip what they cannot parse. evalsuite
looks at every character of every file, repairs the quirks, names each one, hashes every text and writes its cache. The
second time (9b) it reads that cache, after it has asked for size and time of every file; the peers have none.

Compared: every record a peer has, in number, codes and texts, but for white space; and that evalsuite has read every
file.

The floor of the first reading is that of reading the files; of the second, of asking for size and time of each.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from random import Random

from benchmarks.commands import main
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side
from evalsuite.data.patent_sample import write_patent_tree
from evalsuite.data.synthetic import Difficulty, generate

SIZES = {"train": 16_000, "test": 4_000}
SMALL = {"train": 240, "test": 60}
DESCRIPTION = 38_500  # characters
QUIRKY = 50  # one file in so many
SMALL_QUIRKY = 8
OURS, WHOLE, LEFT = "evalsuite", "xml.etree, whole files", "xml.etree, left after the claims"


def prepare(job: Path, options: Options) -> None:
    """The tree, and what it takes to write it."""
    random = Random(0)
    wordy = Difficulty(shortest=80, longest=160)
    paragraphs = [_paragraph(document.sentences) for document in generate(14, 500, wordy, seed=1)]
    count = DESCRIPTION * len(paragraphs) // sum(map(len, paragraphs))
    sizes, every = (SMALL, SMALL_QUIRKY) if options.small else (SIZES, QUIRKY)
    write_patent_tree(job / "tree", sizes, lambda: "".join(random.choices(paragraphs, k=count)), every)


def _paragraph(sentences: tuple[str, ...]) -> str:
    """Lines as the corpus breaks them."""
    return "\n" + textwrap.fill(" ".join(f"{sentence.capitalize()}." for sentence in sentences), 70)


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """That all files were read, and that what both have read is the same."""
    files, ours = len(_files(job / "tree")), outputs[OURS]
    read = Check("files that evalsuite did not read", files - len(ours["numbers"]), 0, files == len(ours["numbers"]))
    return [read, *(found for peer in (WHOLE, LEFT) for found in _beside(peer, ours, outputs[peer], files))]


def _beside(peer: str, ours: Outputs, theirs: Outputs, files: int) -> list[Check]:
    mine = {number: row for row, number in enumerate(ours["numbers"])}
    lacking = [number for number in theirs["numbers"] if number not in mine]
    apart = [
        number
        for row, number in enumerate(theirs["numbers"])
        if number in mine
        and any(_bare(ours[name][mine[number]]) != _bare(theirs[name][row]) for name in ("codes", "texts"))
    ]
    skipped = 1 - len(theirs["numbers"]) / files
    return [
        Check(f"records that only this has: {peer}", len(lacking), 0, not lacking),
        Check(f"records that differ: {peer}", len(apart), 0, not apart),
        Check(f"share of the files that do not parse: {peer}", skipped, 1, True),
    ]


def _bare(text: str) -> str:
    """A text without its white space: what evalsuite repairs of well-formed files is spaces."""
    return "".join(text.split())


def _files(tree: Path) -> list[str]:
    return [f"{folder}/{name}" for folder, _, names in os.walk(tree) for name in names]


def reading_floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
    """Opening and reading every file."""
    files = _files(job / "tree")

    def read() -> None:
        for path in files:
            with FileIO(path) as file:
                file.readall()

    return Floor(_least_seconds(read), "each file opened and read into memory, nothing else")


def asking_floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
    """Size and time of every file, without which a change would not be seen."""
    folders = [folder for folder, _, _ in os.walk(job / "tree")]

    def ask() -> None:
        for folder in folders:
            with os.scandir(folder) as entries:
                for entry in entries:
                    entry.stat()

    return Floor(_least_seconds(ask), "each folder listed and each file asked for its size and time, nothing else")


def _least_seconds(work: Callable[[], None], rounds: int = 3) -> float:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _case(name: str, when: str, target: float, floor: Callable[[Path, Mapping[str, Outputs]], Floor]) -> Case:
    return Case(
        name=name,
        work=f"reading 20,000 patents of 40 KB, the {when} time, on one core",
        prepare=prepare,
        sides=[
            Side(OURS, "benchmarks.ours.tree_reading", {"cached": when == "second"}),
            Side(WHOLE, "benchmarks.peers.etree_reading", tries=[{"form": "string"}, {"form": "path"}]),
            Side(LEFT, "benchmarks.peers.etree_reading", {"form": "steps"}),
        ],
        targets={WHOLE: target, LEFT: target},
        check=check,
        floor=floor,
        cores=1,
    )


CASES = [_case("9a", "first", 1, reading_floor), _case("9b", "second", 30, asking_floor)]

if __name__ == "__main__":
    main(CASES)
