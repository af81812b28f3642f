"""Real corpora. EVALSUITE_TEST_DATA names the folder that has them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evalsuite.contracts import Splits
from evalsuite.data import TableOptions, load_table
from evalsuite.data.patent_xml import parse_record
from evalsuite.data.validate import validate
from evalsuite.tasks import ag_news, wipo

DATA = Path(os.environ.get("EVALSUITE_TEST_DATA", ""))
pytestmark = pytest.mark.skipif("EVALSUITE_TEST_DATA" not in os.environ, reason="EVALSUITE_TEST_DATA is not set")


def _documents(splits: Splits) -> int:
    return len(splits.train) + len(splits.validation) + len(splits.test)


def _tree(root: Path, *arguments: str) -> str:
    tool = DATA.parent / "tools" / "make_wipo_tree.py"
    if not tool.is_file():
        pytest.skip(f"no {tool}")
    subprocess.run([sys.executable, str(tool), str(root), *arguments], check=True, capture_output=True)
    return str(root)


def _quirks_written(root: Path) -> dict[str, int]:
    """What the tool put into the abstracts and descriptions, counted without any parser."""
    texts = [path.read_text(encoding="iso-8859-1") for path in root.rglob("*.xml")]
    return {
        "unclosed abstract": sum("</ab>" not in text for text in texts),
        "empty abstract": sum('<ab xml:lang="EN"></ab>' in text for text in texts),
        "empty description": sum('<txt xml:lang="EN"></txt>' in text for text in texts),
        "bare ampersand": sum("Research & development: " in text for text in texts),
        "tag-like text": sum("<claim 1>" in text for text in texts),
        "glued words": sum(re.search(r"<ab [^<]*\nand[A-Za-z]", text) is not None for text in texts),
    }


def _check_tree(root: Path, documents: int, cache: Path) -> None:
    everything = wipo.load(wipo.WipoOptions(data=str(root), fields="abstract", level="section", top=0), cache)
    assert _documents(everything) == documents
    found = {name: len(rows) for name, rows in everything.findings.items()}
    written = _quirks_written(root)
    assert {name: found.get(name, 0) for name in written} == written
    broken = sum(written[name] for name in ("unclosed abstract", "bare ampersand", "tag-like text"))
    assert found.get("not well-formed XML", 0) == broken
    assert not {"unreadable file", "outside train and test", "malformed code", "no date", "duplicate id"} & set(found)
    classes = wipo.load(wipo.WipoOptions(data=str(root), fields="abstract"), cache)
    dropped = sum(len(rows) for name, rows in classes.findings.items() if name.startswith("no class among"))
    assert _documents(classes) + dropped == documents


def test_a_real_document() -> None:
    (path,) = (DATA / "wipo_alpha").glob("*.xml")
    record = parse_record(path.read_bytes())
    assert (record.number, record.main) == ("US0024942", "D01D00106")
    assert record.secondary == ["D01F00110", "D01F00604", "D01F00606"]
    assert record.texts["abstract"].startswith("The present disclosure is directed to a method of forming")


def test_a_real_document_is_repaired(tmp_path: Path) -> None:
    (path,) = (DATA / "wipo_alpha").glob("*.xml")
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / path.name).write_bytes(path.read_bytes())
    splits = wipo.load(wipo.WipoOptions(data=str(tmp_path), level="subclass"), tmp_path / "cache")
    assert splits.labels == ("D01D", "D01F")
    assert splits.test[0].labels == (0, 1)
    title, _, claim = splits.test[0].text.split("\n")
    assert title == "METHOD OF FORMING A TREATED FIBER AND A TREATED FIBER FORMED THEREFROM"
    assert claim.startswith("A method of forming a treated fiber comprising: a) providing a molten polymer; b)")
    assert "polymer; and c) applying a treatment" in claim
    assert {"line breaks joined", "glued words"} <= set(splits.findings)


def test_ag_news_loses_no_row(tmp_path: Path) -> None:
    splits = ag_news.load(ag_news.AgNewsOptions(data=str(DATA / "ag_news" / "train.csv")), tmp_path)
    assert _documents(splits) == 19_956
    assert not splits.findings
    assert [len(splits.validation) / 19_956, len(splits.test) / 19_956] == pytest.approx([0.1, 0.1], abs=0.005)
    assert not [finding for finding in validate(splits, near_threshold=None) if finding.severity == "error"]


def test_banking77_is_a_table_of_77_labels(tmp_path: Path) -> None:
    options = TableOptions(data=str(DATA / "banking77"), label="category")
    splits = load_table(options, tmp_path)
    assert len(splits.labels) == 77
    assert [len(splits.train) + len(splits.validation), len(splits.test)] == [10_003, 3_080]
    names = json.loads((DATA / "banking77" / "categories.json").read_text(encoding="utf-8"))
    assert set(splits.labels) == set(names)


def test_patents_as_jsonl_are_multilabel(tmp_path: Path) -> None:
    options = TableOptions(
        data=str(DATA / "patents" / "us_patents_cpc.jsonl"), label="sections", multilabel=True, id="id"
    )
    splits = load_table(options, tmp_path)
    assert _documents(splits) == 7_107
    assert set("ABCDEFGH") <= set(splits.labels)


def test_a_small_tree_of_real_patents(tmp_path: Path) -> None:
    _check_tree(Path(_tree(tmp_path / "tree", "--limit", "300")), 300, tmp_path / "cache")


@pytest.mark.slow
def test_the_whole_tree_of_real_patents(tmp_path: Path) -> None:
    _check_tree(Path(_tree(tmp_path / "tree")), 7_107, tmp_path / "cache")
