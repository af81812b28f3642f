from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.data.ipc import CLASSES, SECTIONS, describe
from evalsuite.data.label_map import read_label_map
from evalsuite.errors import DataError


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("map.yaml", "A61: health\na61k: drugs\nH04: signals\n"),
        ("map.json", '{"A61": "health", "A61K": "drugs", "H04": "signals"}'),
        ("map.csv", "A61,health\nA61K,drugs\n\nH04,signals\n"),
    ],
)
def test_a_map_in_every_form_keeps_its_order(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert list(read_label_map(tmp_path / name).items()) == [("A61", "health"), ("A61K", "drugs"), ("H04", "signals")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.yaml", "[A61, H04]", "expected a mapping"),
        ("map.csv", "A61,health,more\n", "expected a mapping"),
        ("map.yaml", "A61: [", "not YAML"),
        ("map.csv", "A61,health\na61,drugs\n", "occurs twice"),
        ("map.csv", "A61,health\nH04,health\n", "two or more categories, got 1"),
    ],
)
def test_a_bad_map_is_one_clear_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_label_map(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_map(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the label map"):
        read_label_map(tmp_path / "none.csv")


def test_titles_of_the_classification() -> None:
    assert set(SECTIONS) == set("ABCDEFGH")
    assert len(CLASSES) > 114
    assert all(code[0] in SECTIONS and code[1:].isdigit() and len(code) == 3 for code in CLASSES)
    assert describe("D") == "textiles, paper"
    assert describe("D01") == "threads and fibres, spinning"
    assert describe("D01D") == "threads and fibres, spinning (D01D)"
    assert describe("D98") == "textiles, paper (D98)"
    assert describe("") == ""
    assert len({describe(code) for code in CLASSES}) == len(CLASSES)
