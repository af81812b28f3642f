from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest

from evalsuite.data import patent_tree
from evalsuite.data.patent_record import PatentRecord
from evalsuite.data.patent_tree import first_claim, list_files, read_tree, repair
from evalsuite.errors import DataError


def _record(codes: str = 'mc="A01B00100"', abstract: str = "Text.", number: str = "US0100001") -> str:
    return (
        f'<record an="{number}" pn="WO010000120010322"><ipcs {codes}></ipcs><tis><ti>T</ti></tis>'
        f"<abs><ab>{abstract}</ab></abs><cls><cl>1. C. 2. The C.</cl></cls><txts><txt>D</txt></txts></record>"
    )


def _write(root: Path, name: str, content: str | None = None) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(_record() if content is None else content, encoding="iso-8859-1")


def test_folders_of_any_depth_and_case_and_only_xml(tmp_path: Path) -> None:
    names = ("train/d/01/D/001/US1_08011999.xml", "test/alphatest/A/01/B/001/US2_09022001.xml", "train/A/US3.XML")
    for number, name in enumerate(names):
        _write(tmp_path, name, _record(number=f"US{number}"))
    _write(tmp_path, "train/ipctraining.dtd", "not a record")
    corpus = read_tree(tmp_path, ["abstract"], tmp_path / "cache")
    found = dict(zip(corpus.ids, zip(corpus.splits, corpus.dates, strict=True), strict=True))
    assert found == {"US0": ("train", "1999-01-08"), "US1": ("test", "2001-02-09"), "US2": ("train", "2001-03-22")}


def test_labels_come_from_the_record_the_main_code_first(tmp_path: Path) -> None:
    codes = 'mc="d01d00106"><ipc ic="B01B00100"/><ipc ic="B01B00100"/><ipc ic="Y99"/><ipc ic=" C07C "/'
    _write(tmp_path, "train/A/99/1.xml", _record(codes, number="US1"))
    _write(tmp_path, "train/A/99/2.xml", _record('mc=""><ipc ic="C07C00100"/', number="US2"))
    corpus = read_tree(tmp_path, ["abstract"], tmp_path / "cache")
    assert corpus.labels == [("D01D00106", "B01B00100", "C07C"), ("", "C07C00100")]
    assert corpus.findings["malformed code"] == ["US1"]
    assert corpus.findings["no main code"] == ["US2"]


def test_fields_make_the_text(tmp_path: Path) -> None:
    _write(tmp_path, "train/1.xml")
    for fields, text in (
        (["title", "abstract", "claim"], "T\nText.\nC."),
        (["claims"], "1. C. 2. The C."),
        (["description", "title"], "D\nT"),
    ):
        assert read_tree(tmp_path, fields, tmp_path / "cache").texts[0] == text


def test_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    _write(tmp_path, "train/1.xml")
    _write(tmp_path, "train/2.xml", "no record")
    _write(tmp_path, "train/3.xml", "")
    _write(tmp_path, "elsewhere/4.xml")
    _write(tmp_path, "train/5.xml", _record(abstract="", number="US5"))
    _write(tmp_path, "train/6.xml")
    findings = read_tree(tmp_path, ["abstract"], tmp_path / "cache").findings
    assert findings["unreadable file"] == ["train/2.xml", "train/3.xml"]
    assert findings["outside train and test"] == ["elsewhere/4.xml"]
    assert findings["empty abstract"] == ["US5"]
    assert findings["duplicate id"] == ["US0100001#2"]


def test_a_document_without_a_date_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "train/1.xml", _record().replace("20010322", "X"))
    corpus = read_tree(tmp_path, ["abstract"], tmp_path / "cache")
    assert (corpus.dates, corpus.findings["no date"]) == ([""], ["US0100001"])


def test_a_tree_without_train_and_test_is_one_undivided_corpus(tmp_path: Path) -> None:
    _write(tmp_path, "A/1.xml")
    corpus = read_tree(tmp_path, ["abstract"], tmp_path / "cache")
    assert corpus.splits == [""]


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        list_files(tmp_path / "none")
    with pytest.raises(DataError, match=r"no \.xml file below"):
        list_files(tmp_path)
    _write(tmp_path, "train/1.xml", "no record")
    with pytest.raises(DataError, match="no patent record in any of 1"):
        read_tree(tmp_path, ["abstract"], tmp_path / "cache")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    _write(tmp_path, "train/1.xml")
    assert read_tree(tmp_path, ["abstract"], tmp_path / "cache").texts[0] == "Text."
    _write(tmp_path, "train/1.xml", _record(abstract="Else."))  # as many bytes as before
    os.utime(tmp_path / "train" / "1.xml", ns=(1, 1))
    assert read_tree(tmp_path, ["abstract"], tmp_path / "cache").texts[0] == "Else."


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ("We claim:\n1. A method of\nspinning. 2. The method of claim 1.", "A method of\nspinning."),
        ("1. A thing with 2 wheels, of 1.2 m;2. The thing of claim 1", "A thing with 2 wheels, of 1.2 m;"),
        ("What is claimed is: 1) A thing 2) A thing as in 1", "A thing"),
        ("A thing that nobody numbered.", "A thing that nobody numbered."),
        ("", ""),
    ],
)
def test_the_first_claim(claims: str, expected: str) -> None:
    assert first_claim(claims) == expected


@pytest.mark.parametrize(
    ("text", "expected", "quirk"),
    [
        ("hard\nline\n breaks ", "hard line breaks", "line breaks joined"),
        ("in the treated region.2. The method", "in the treated region. 2. The method", "glued words"),
        ("polymer; andc) applying", "polymer; and c) applying", "glued words"),
        ("of at least about300 F", "of at least about 300 F", "glued words"),
        ("a fiber\nandwheel, a wheel", "a fiber and wheel, a wheel", "glued words"),
        ("a fiberand one fiber", "a fiber and one fiber", "glued words"),
        ("a device whereinsaid wheel is said", "a device wherein said wheel is said", "glued words"),
        ("said \x93wheel\x94 \x80", "said “wheel” €", "Windows-1252 characters"),
    ],
)
def test_repairs_are_made_and_named(text: str, expected: str, quirk: str) -> None:
    quirks: list[str] = []
    assert repair(text, PatentRecord(texts={"abstract": text}), quirks) == expected
    assert quirk in quirks


def test_words_that_were_seen_before_are_judged_as_the_first_time() -> None:
    parts = ["and", "or", "wherein", "comprising", "said", "about", "than", "wheel", "b)", "12", "3.", ".", "]", "-"]
    tokens = ["".join(part) for part in itertools.product(parts, repeat=3)]
    glued = {token for token in tokens if patent_tree._GLUED.fullmatch(token)}
    for _ in range(2):
        assert {match[0] for match in patent_tree._glued(tokens)} == glued


@pytest.mark.parametrize("text", ["a", "x wheel, wheels wheel", "wheelwheel wheel1", "\xe9wheel wheel", "", "Wheel"])
def test_words_are_counted_as_one_regular_expression_would(text: str) -> None:
    assert patent_tree._count("wheel", text) == re.findall("[A-Za-z]+", text).count("wheel")


@pytest.mark.parametrize(
    "text",
    [
        "an android, a demand, one thousand",
        "andes andes es",
        "hereinafter",
        "island islands isl island",
        "and a) or b)",
    ],
)
def test_words_that_only_look_glued_stay(text: str) -> None:
    quirks: list[str] = []
    assert repair(text, PatentRecord(texts={"abstract": text}), quirks) == text
    assert quirks == []
