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


def outputs(job: Path, cached: bool, whole: str) -> dict[str, dict[str, Any]]:
    return {
        row.OURS: ours.setup(job, {"cached": cached})(),
        row.WHOLE: etree_reading.setup(job, {"form": whole})(),
        row.LEFT: etree_reading.setup(job, {"form": "steps"})(),
    }


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("whole", ["string", "path"])
def test_all_sides_read_the_same(job: Path, cached: bool, whole: str) -> None:
    checks = row.check(job, outputs(job, cached, whole))
    assert [check.ok for check in checks] == [True] * 7
    assert all(0.02 < check.value < 0.2 for check in checks if check.limit), "files that no XML parser takes"


@pytest.mark.parametrize("side", [row.WHOLE, row.LEFT])
@pytest.mark.parametrize("column", ["numbers", "codes", "texts"])
def test_a_difference_is_seen(job: Path, side: str, column: str) -> None:
    found = outputs(job, cached=False, whole="string")
    found[side][column][3] += "x"
    assert not all(check.ok for check in row.check(job, found))


def test_files_are_of_about_40_kb_and_the_floors_are_taken(job: Path) -> None:
    sizes = [path.stat().st_size for path in job.rglob("*.xml")]
    assert 30_000 < sorted(sizes)[len(sizes) // 2] < 50_000
    assert row.asking_floor(job, {}).seconds > 0
    assert row.reading_floor(job, {}).seconds > 0
