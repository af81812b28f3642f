"""Row 9 at a tiny size: both sides read the same records, first and second time, and the check sees a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import tree_reading as row
from benchmarks.harness import Options
from benchmarks.ours import tree_reading as ours
from benchmarks.peers import etree_reading


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    row.prepare(folder, Options(small=True))
    return folder


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("form", etree_reading.FORMS)
def test_both_sides_read_the_same(job: Path, cached: bool, form: str) -> None:
    theirs = etree_reading.setup(job, {"form": form})()
    outputs = {"evalsuite": ours.setup(job, {"cached": cached})(), row.PEER: theirs}
    checks = row.check(job, outputs)
    assert [check.ok for check in checks] == [True] * 4
    assert 0.02 < checks[-1].value < 0.2, "the tree has files that no XML parser takes"


@pytest.mark.parametrize("column", ["numbers", "codes", "texts"])
def test_a_difference_is_seen(job: Path, column: str) -> None:
    theirs: dict[str, Any] = etree_reading.setup(job, {"form": "string"})()
    theirs[column][3] += "x"
    checks = row.check(job, {"evalsuite": ours.setup(job, {"cached": False})(), row.PEER: theirs})
    assert not all(check.ok for check in checks)


def test_files_are_of_about_40_kb_and_the_floors_are_taken(job: Path) -> None:
    sizes = [path.stat().st_size for path in job.rglob("*.xml")]
    assert 30_000 < sorted(sizes)[len(sizes) // 2] < 50_000
    assert row.asking_floor(job, {}).seconds > 0
    assert row.reading_floor(job, {}).seconds > 0
