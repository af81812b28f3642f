"""The README's tables are what the results say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.tables import README, fill, read_results


def result(name: str, ratio: float) -> dict[str, Any]:
    """A result file's content with one peer."""
    sides = [
        {"name": "evalsuite", "settings": {}, "tried": [], "seconds": [1.0, 1.0], "peak_bytes": [10**6, 10**6]},
        {
            "name": "peer",
            "settings": {"batch_size": 8},
            "tried": [{"settings": {"batch_size": 8}, "seconds": 2.0}],
            "seconds": [ratio, ratio],
            "peak_bytes": [2 * 10**6] * 2,
        },
    ]
    ratios = {"peer": {"median": ratio, "min": ratio, "max": ratio, "target": 2.0, "memory": 0.5, "memory_target": 0.8}}
    return {
        "case": name,
        "work": "work | with a bar",
        "sides": sides,
        "ratios": ratios,
        "checks": [{"what": "largest difference", "value": 1e-6, "limit": 1e-5, "ok": True}],
        "floor": {"seconds": 0.25, "how": "operations over rate", "share": 0.25},
        "command": "python -m benchmarks.row",
        "rounds": 2,
        "date": "2026-01-01",
        "machine": {"processor": "a processor", "gpu": [], "packages": {"torch": "2"}},
        "cores": 2,
        "peers": {"trl": "1"},
        "small": False,
    }


def test_what_lies_between_markers_is_written_anew() -> None:
    text = "before\n<!-- 2a -->\nold\n<!-- end -->\nbetween\n<!-- overview -->\nold\n<!-- end -->\nafter\n"
    results = {"10": result("10", 1.5), "2a": result("2a", 3.0)}
    filled = fill(text, results)
    assert "old" not in filled
    assert all(kept in filled for kept in ("before\n", "\nbetween\n", "\nafter\n"))
    assert "3.00x (3.00 to 3.00)" in filled
    assert "peer (batch_size=8)" in filled
    assert "2x met; memory 0.50 of 0.8" in filled
    assert "2x not met" in filled
    assert "Floor: 0.25 s, 25% of our time" in filled
    assert filled.index("| 2a |") < filled.index("| 10 |")
    assert fill(filled, results) == filled


def test_a_curve_is_a_table_with_its_picture() -> None:
    point = {"seconds": 1.0, "peak_bytes": 10**6, "held_bytes": 10**5}
    line = {"exponent": 0.5, "low": 0.4, "high": 0.6, "last": 0.7}
    stage = {
        "name": "scoring",
        "points": [{**point, "size": 4}, {**point, "size": 400, "seconds": 10.0}],
        "seconds_fit": line,
        "peak_bytes_each": 123.0,
        "held_bytes_each": 45.0,
    }
    curve = {"curve": "labels", "unit": "labels", "fixed": "100 documents", "stages": [stage]}
    found = {key: value for key, value in result("1", 1.0).items() if key not in ("case", "ratios", "sides")} | curve
    filled = fill("<!-- scale_labels -->\n<!-- end -->", {"scale_labels": found})
    assert "0.50 (0.40 to 0.60)" in filled
    assert "(results/scale_labels.svg)" in filled
    assert "a processor, 2 cores" in filled


def test_a_marker_without_a_result_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("<!-- 3 -->\n\n<!-- end -->", {})


def test_the_readme_says_what_was_measured() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill(text, read_results()) == text


def test_the_projects_readme_quotes_what_was_measured() -> None:
    """Two digits of the median beside every row's best peer, the last one that is told of."""
    quoted = {
        "label_scoring": ("1a", "1b", "1c"),
        "instruction_training": ("3a",),
        "embedding_training": ("2",),
        "instruction_prediction": ("4a", "4b", "4c"),
        "embedding_prediction": ("5", "5-long"),
        "frozen_embeddings": ("6a", "6b"),
        "bootstrap": ("8",),
    }
    results, text = read_results(), (README.parent.parent / "README.md").read_text(encoding="utf-8")
    for row, cases in quoted.items():
        found = re.search(rf"^\| `{row}`.*\| (.*) \|$", text, re.MULTILINE)
        peers = [[one for one in results[case]["ratios"].values() if one["target"]][-1]["median"] for case in cases]
        assert found, row
        assert found.group(1) == " / ".join(map(two_digits, peers))


def two_digits(ratio: float) -> str:
    """1.957 as 2.0, 1,297 as 1,300."""
    rounded = float(f"{ratio:.2g}")
    return f"{rounded:,.1f}" if rounded < 10 else f"{rounded:,.0f}"
