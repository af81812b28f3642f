"""Every quirk of the corpus: what the strict pass refuses, the recovering pass reads, and says so."""

from __future__ import annotations

import time

import pytest

from evalsuite.data.patent_record import PatentRecord
from evalsuite.data.patent_xml import UnreadableRecordError, parse_record

HEAD = '<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE record SYSTEM "../../../../ipctraining.dtd">\n'
CODES = '<ipcs ed="7" mc="D01D00106"><ipc ic="D01F00110"></ipc><ipc ic="D01F00604"></ipc></ipcs>'


def _xml(abstract: str = '<ab xml:lang="EN">An abstract.</ab>', description: str = "<txt>A description.</txt>") -> str:
    return (
        f'{HEAD}<record cy="WO" an="US0024942" pn="WO012006320010322">{CODES}<tis><ti xml:lang="EN">TITLE\n</ti></tis>'
        f"<abs>{abstract}</abs><cls><cl>We claim: 1. A thing.</cl></cls><txts>{description}</txts></record>"
    )


def _parse(xml: str) -> PatentRecord:
    return parse_record(xml.encode("iso-8859-1"))


def test_a_clean_record() -> None:
    record = _parse(_xml())
    assert (record.number, record.publication) == ("US0024942", "WO012006320010322")
    assert (record.main, record.secondary) == ("D01D00106", ["D01F00110", "D01F00604"])
    assert record.texts == {
        "title": "TITLE\n",
        "abstract": "An abstract.",
        "claims": "We claim: 1. A thing.",
        "description": "A description.",
    }
    assert record.quirks == []


@pytest.mark.parametrize(
    ("abstract", "expected", "quirks"),
    [
        ("<ab>Not closed.", "Not closed.", {"unclosed abstract"}),
        ("<ab>Fire & water.</ab>", "Fire & water.", {"bare ampersand"}),
        ("<ab>As in <claim 1>, so.</ab>", "As in <claim 1>, so.", {"tag-like text"}),
        ("<ab>a < b and c > d</ab>", "a < b and c > d", {"tag-like text"}),
        ("<ab>A &amp; caf&eacute;</ab>", "A & café", {"undeclared entity"}),
        ("<ab>A &unknown; B</ab>", "A &unknown; B", {"undeclared entity"}),
        ("<ab>form\x0cfeed &#233; &lt;</ab>", "form feed é <", {"control characters"}),
        ("<ab>One & <b 2>\n", "One & <b 2>\n", {"unclosed abstract", "tag-like text", "bare ampersand"}),
        ("<ab/>&", "", {"empty abstract"}),
    ],
)
def test_what_strict_parsing_refuses_is_recovered_and_named(abstract: str, expected: str, quirks: set[str]) -> None:
    record = _parse(_xml(abstract))
    assert record.texts["abstract"] == expected
    assert set(record.quirks) == {"not well-formed XML", *quirks}
    assert record.texts["claims"] == "We claim: 1. A thing."
    assert record.texts["description"] == "A description."
    assert (record.main, record.secondary) == ("D01D00106", ["D01F00110", "D01F00604"])


@pytest.mark.parametrize("tag", ["ti", "ab", "cl", "txt"])
def test_every_text_may_be_unclosed(tag: str) -> None:
    clean = _parse(_xml())
    record = _parse(_xml().replace(f"</{tag}>", ""))
    assert record.texts == clean.texts
    assert [quirk for quirk in record.quirks if quirk.startswith("unclosed")]


@pytest.mark.parametrize("empty", ["<ab></ab>", "<ab/>", "<ab> \n</ab>", ""])
def test_an_empty_abstract_and_description_are_named(empty: str) -> None:
    assert _parse(_xml(empty)).quirks == ["empty abstract"]
    assert _parse(_xml(description=empty.replace("ab", "txt"))).quirks == ["empty description"]


def test_a_file_that_ends_early() -> None:
    xml = _xml()
    record = _parse(xml[: xml.index(" description")])
    assert record.texts["description"] == "A"
    assert record.quirks == ["not well-formed XML", "unclosed description", "truncated file"]


def test_english_is_preferred_where_a_text_comes_in_several_languages() -> None:
    both = '<ab xml:lang="FR">Un abrégé.</ab><ab xml:lang="en">An abstract.</ab>'
    assert _parse(_xml(both)).texts["abstract"] == "An abstract."
    assert _parse(_xml(both + " & ")).texts["abstract"] == "An abstract."
    assert _parse(_xml(both.replace('"en"', '"DE"'))).texts["abstract"] == "Un abrégé.\nAn abstract."


def test_no_dtd_is_fetched_and_no_entity_expanded() -> None:
    lines = '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">'
    bomb = _xml("<ab>x &b; &c;</ab>").replace('SYSTEM "../../../../ipctraining.dtd"', f"[{lines}]")
    record = _parse(bomb)
    assert record.texts["abstract"] == "x &b; &c;"
    assert {"entity declaration", "undeclared entity"} <= set(record.quirks)
    remote = _xml().replace("../../../../ipctraining.dtd", "http://192.0.2.1/ipctraining.dtd")
    assert _parse(remote).quirks == []


def test_bytes_that_are_not_of_the_declared_encoding() -> None:
    declared = _xml("<ab>café</ab>").replace("iso-8859-1", "utf-8").encode("iso-8859-1")
    record = parse_record(declared)
    assert record.texts["abstract"] == "café"
    assert record.quirks == ["not well-formed XML"]


@pytest.mark.parametrize("data", [b"", b"\x00\x01", b"<other/>", b'<record an="US1"/>', b"no markup at all"])
def test_a_file_without_a_record_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableRecordError):
        parse_record(data)


def test_recovering_is_linear_in_the_size_of_the_file() -> None:
    start = time.process_time()
    parse_record(_xml("<ab>" + "<claim 1> & text < " * 100_000).encode())
    parse_record(("<record>" + "<ab " * 20_000 + "<ab>x").encode())
    assert time.process_time() - start < 5
