"""The fast pass beside the strict one, its plain reference: the same record, or no answer."""

from __future__ import annotations

from random import Random

import pytest

from evalsuite.data.patent_record import PatentRecord
from evalsuite.data.patent_scan import scan_record
from evalsuite.data.patent_xml import parse_strictly

HEAD = '<?xml version="1.0" encoding="iso-8859-1"?>\n<!DOCTYPE record SYSTEM "../../../../ipctraining.dtd">\n'
CODES = '<ipcs ed="7" mc="D01D00106">\n<ipc ic="D01F00110"></ipc>\n<ipc ic="D01F00604"/>\n</ipcs>\n'
TEXTS = (
    '<tis><ti xml:lang="EN">TITLE\n</ti>\n</tis>\n'
    '<abs><ab xml:lang="FR">R\xe9sum\xe9.</ab><ab xml:lang="EN">Fire &amp; water, 1 &lt; 2,\na\ttab.</ab></abs>\n'
    "<cls><cl>We claim: 1. A thing.</cl></cls>\n<txts><txt/>\n</txts>\n"
)
CLEAN = f'{HEAD}<record cy="WO" an="US0024942" pn="WO012006320010322" dnum="1" kind="A1">\n{CODES}{TEXTS}</record>\n'
TOKENS = [
    *"<>&\"'/ \n\t\r\x0c\x85\xa0;=x",
    "]]>",
    "</ab>",
    "<ab>",
    "<txt/>",
    "&amp;",
    "&eacute;",
    "&#65;",
    "<!-- a -->",
]
TOKENS += ["<!-- a -->", "<?b?>", "<![CDATA[c]]>", 'xmlns="d"', ' an="US1"']


def strictly(data: bytes) -> PatentRecord | None:
    """What the strict pass finds; None where it refuses the file."""
    try:
        return parse_strictly(data)
    except (SyntaxError, ValueError, LookupError):
        return None


def mutated(random: Random) -> str:
    """The clean record with a few cuts, copies and insertions."""
    text = CLEAN
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text))
        end = min(len(text), start + random.choice((0, 0, 1, 5, 30)))
        text = text[:start] + random.choice((*TOKENS, "", text[start:end] * 2)) + text[end:]
    return text


def test_a_file_as_it_should_be_is_answered() -> None:
    record = scan_record(CLEAN.encode("iso-8859-1"))
    assert record == strictly(CLEAN.encode("iso-8859-1"))
    assert record is not None
    assert record.texts["abstract"] == "Fire & water, 1 < 2,\na\ttab."
    assert record.secondary == ["D01F00110", "D01F00604"]


def test_it_never_answers_what_the_strict_pass_would_not() -> None:
    random, answered, refused = Random(0), 0, 0
    for _ in range(6000):
        data = mutated(random).encode("iso-8859-1")
        if record := scan_record(data):
            answered += 1
            assert record == strictly(data), data
        else:
            refused += strictly(data) is None
    assert answered > 200
    assert refused > 2000


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('an="US0024942"', 'an="US0024942" an="US1"'),  # the same attribute twice
        ('an="US0024942"', "an='US0024942'"),
        ('an="US0024942"', 'an="US00\n24942"'),
        ('cy="WO"', 'xmlns="WO"'),  # every tag would get another name
        ("</ti>", "</ti"),
        ("</ti>", "</ti><b>x</b>"),
        ("TITLE", "TITLE ]]> x"),
        ("TITLE", "TI<!-- T -->LE"),
        ("TITLE", "TITLE\r"),
        ("TITLE", "TITLE\x0c"),
        ("&amp;", "&eacute;"),
        ("&amp;", "&"),
        ("</record>", "</record> more"),
        ("</record>", ""),
        ("iso-8859-1", "utf-8"),
        ("<?xml", " <?xml"),
        ("SYSTEM", "SYSTEM 'a' [<!ENTITY b 'c'>]"),
    ],
)
def test_what_only_a_parser_can_say_gets_no_answer(old: str, new: str) -> None:
    assert old in CLEAN
    assert scan_record(CLEAN.replace(old, new, 1).encode("iso-8859-1")) is None
