"""Row 7: our side lists what there is, and the check sees what is missing."""

from __future__ import annotations

from pathlib import Path

from benchmarks import listing as row
from benchmarks.harness import Options, slug, start

LM_EVAL = """
|    Group    |       Config Location       |
|-------------|-----------------------------|
|AraDiCE      |lm_eval/tasks/aradice.yaml   |
|     Tag     |
|-------------|
|arc_tag      |
"""


def test_our_side_lists_its_tasks(tmp_path: Path) -> None:
    row.prepare(tmp_path, Options(small=True))
    (tmp_path / f"{slug(row.PEER)}.log").write_text(LM_EVAL)
    assert row.listed(tmp_path, row.PEER) == {"AraDiCE", "arc_tag"}
    log = tmp_path / f"{slug(row.OURS)}.log"
    for case, least in zip(row.CASES, (4, row.TASKS), strict=True):
        log.unlink(missing_ok=True)
        start(case.sides[0], tmp_path, None).round()
        assert len(row.listed(tmp_path, row.OURS)) >= least
        assert all(check.ok for check in case.check(tmp_path, {}))
    log.write_text("task  labels")
    assert not any(case.check(tmp_path, {})[0].ok for case in row.CASES)
