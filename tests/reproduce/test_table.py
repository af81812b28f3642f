"""Published figures beside hand-made runs: values, differences, tolerance, and what stands where there is no run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import one_hot, results_of, samples_of, write_run

from evalsuite.reproduce.grid import Plan, Request, make_plan
from evalsuite.reproduce.rendering import LABEL, as_data, label, markdown, tables
from evalsuite.reproduce.table import Findings, Problem, Row, key, make_rows
from evalsuite.spec import RunResult
from evalsuite.store import open_run

PAPER = Request("paper", data={"clv": "patents.csv", "wipo": "tree"})
SAMPLES = samples_of(one_hot([0, 1, 2]), one_hot([0, 1, 1]))
WHOLE = {"train": 100, "validation": 10, "test": 20}


def results(f1: tuple[float, float, float], seed: int = 0, **parts: Any) -> dict[str, Any]:
    """Results with these F1, micro, macro and weighted; ``parts`` replace entries."""
    summary = {
        f"f1_{name}": {"value": value, "interval": [value - 0.1, value + 0.1]}
        for name, value in zip(("micro", "macro", "weighted"), f1, strict=True)
    }
    data = {"sizes": WHOLE, "full_sizes": WHOLE, "synthetic": False, "revision": "1"}
    parts = {"metrics": {"summary": summary}, "model": "some/model", "data": data, **parts}
    return results_of(SAMPLES, seed, "net", parts.pop("options", {}), **parts)


def findings_of(plan: Plan, runs: dict[str, Any], problems: dict[str, Problem] | None = None) -> Findings:
    """``runs``: a system -> the results of its cells, one after the other."""
    found = {}
    for name, own in runs.items():
        cells = plan.cells(plan.paper.systems[name])
        for place, (cell, entry) in enumerate(zip(cells, own if isinstance(own, list) else [own], strict=False)):
            run = entry if isinstance(entry, RunResult) else RunResult(Path(f"runs/{name}-{place}"), entry)
            found[key(cell)] = run
    named = {key(plan.cells(plan.paper.systems[name])[0]): problem for name, problem in (problems or {}).items()}
    return Findings(plan, found, named)


def row_of(rows: list[Row], system: str, quantity: str = "f1") -> Row:
    (row,) = [row for row in rows if (row.figure.system.name, row.figure.quantity) == (system, quantity)]
    return row


def texts_of(row: Row) -> dict[str, str]:
    ((columns, (texts,)),) = tables([row])
    return dict(zip(columns, texts, strict=True))


def test_three_averages_stand_beside_one_published_figure() -> None:
    findings = findings_of(make_plan(PAPER), {"clv-embedding": results((0.870, 0.855, 0.860))})
    row = row_of(make_rows(findings, tolerance=0.005), "clv-embedding")
    assert row.state == "run"
    texts = texts_of(row)
    assert [texts[name] for name in ("published", "micro", "macro", "weighted")] == ["0.860", "0.870", "0.855", "0.860"]
    assert texts["interval"] == "0.755 to 0.955"
    assert texts["difference"] == "+0.010 / -0.005 / inside"
    assert texts["within"] == "only macro, weighted"
    assert texts["state"] == "run with some/model"
    assert row.runs == [Path("runs/clv-embedding-0")]


@pytest.mark.parametrize(("tolerance", "said"), [(0.01, "yes"), (0.009, "no"), (None, None)])
def test_within_the_tolerance_that_was_named_and_without_one_nothing_is_judged(tolerance: Any, said: Any) -> None:
    findings = findings_of(make_plan(PAPER), {"clv-embedding": results((0.85, 0.85, 0.85))})
    assert texts_of(row_of(make_rows(findings, tolerance), "clv-embedding")).get("within") == said


def test_inside_a_published_range_there_is_no_difference() -> None:
    runs = {"ag_news-embedding": results((0.925, 0.92, 0.93)), "ag_news-bert": results((0.91, 0.91, 0.94))}
    rows = make_rows(findings_of(make_plan(PAPER), runs), tolerance=0.01)
    inside, outside = (texts_of(row_of(rows, name)) for name in runs)
    assert (inside["published"], inside["difference"], inside["within"]) == ("0.92 to 0.93", "inside", "yes")
    assert (outside["difference"], outside["within"]) == ("-0.010 / -0.010 / +0.010", "yes")


def test_gains_spreads_and_what_a_student_keeps() -> None:
    teacher = {"metrics": {"f1_micro": 0.8, "f1_macro": 0.5, "f1_weighted": 1.0}, "ratios": {"speed": 40.0}}
    templates = [results((0.1 * n, 0.5, 0.3), prompt={"template": str(n)}) for n in range(5)]
    runs = {
        "clv-embedding": results((0.8, 0.5, 1.0)),
        "clv-embedding-mean": results((0.81, 0.48, 1.0)),
        "clv-distill": results((0.76, 0.5, 0.97), references={"teacher": teacher}),
        "ag_news-zero-shot-verbalizers": templates,
    }
    rows = make_rows(findings_of(make_plan(PAPER), runs), tolerance=0.0)
    gain = row_of(rows, "clv-embedding-mean", "f1_gain")
    assert gain.ours == pytest.approx({"micro": 0.01, "macro": -0.02, "weighted": 0.0})
    assert gain.difference == pytest.approx({"micro": 0.0, "macro": -0.006, "weighted": 0.0})
    assert gain.within == ["micro", "weighted"]
    assert len(gain.runs) == 2
    spread = row_of(rows, "ag_news-zero-shot-verbalizers", "f1_spread")
    assert spread.ours == pytest.approx({"micro": 0.4, "macro": 0.0, "weighted": 0.0})
    assert texts_of(spread)["published"] == "the choice moves it"
    assert texts_of(spread)["difference"] == ""
    kept = row_of(rows, "clv-distill", "f1_kept")
    assert kept.ours == pytest.approx({"micro": 0.95, "macro": 1.0, "weighted": 0.97})
    assert texts_of(kept)["difference"] == "-0.020 / inside / inside"
    speed = texts_of(row_of(rows, "clv-distill", "speedup"))
    assert (speed["published"], speed["ours"], speed["difference"]) == ("about 45", "40", "0.889 times")


def test_what_is_no_share_of_one_is_told_as_a_ratio_and_never_within_a_tolerance() -> None:
    parts = {
        "parameters": {"trainable": 12_172_288, "total": 1},
        "calibration": {"before": {"ece": 0.1}, "after": {"ece": 0.02}},
        "collapse": {"collapsed": False},
        "cost": {"predict": {"documents_per_second": 3.76}},
    }
    rows = make_rows(findings_of(make_plan(PAPER), {"clv-embedding": results((1, 1, 1), **parts)}), tolerance=0.01)
    trainable = row_of(rows, "clv-embedding", "trainable")
    assert (texts_of(trainable)["ours"], texts_of(trainable)["difference"]) == ("12.17M", "0.998 times")
    assert trainable.within is None
    assert row_of(rows, "clv-embedding", "documents_per_second").ratio == pytest.approx(2.0)
    ece = texts_of(row_of(rows, "clv-embedding", "ece"))
    assert (ece["figure"], ece["ours"], ece["difference"]) == ("ECE, without temperature scaling", "0.100", "+0.006")
    assert texts_of(row_of(rows, "clv-embedding", "collapsed"))["ours"] == "0%"


def test_seeds_are_averaged_and_a_missing_one_is_named(tmp_path: Path) -> None:
    plan = make_plan(Request("paper", data={"clv": "p.csv"}, assignments=["seeds=3"]))
    parts = {"data": {"sizes": WHOLE, "full_sizes": WHOLE, "synthetic": False}, "model": "some/model"}
    dice = np.random.default_rng(0)
    gold = one_hot(dice.integers(0, 3, 50))
    runs = [
        open_run(write_run(tmp_path, samples_of(gold, one_hot(dice.integers(0, 3, 50))), seed, **parts))
        for seed in (0, 1)
    ]
    row = row_of(make_rows(findings_of(plan, {"clv-embedding": runs})), "clv-embedding")
    macro = [run.metrics["f1_macro"]["value"] for run in runs]
    assert row.ours is not None
    assert row.ours["macro"] == pytest.approx(np.mean(macro))
    assert row.interval is not None
    assert row.interval[0] < row.ours["macro"] < row.interval[1]
    assert row.notes == ["2 of 3 runs; not run: not yet"]


def test_every_reason_for_an_empty_row() -> None:
    plan = make_plan(Request("paper", data={"clv": "patents.csv"}))
    problems = {
        "clv-embedding": Problem(True, "error: out of memory", Path("cells/x.log")),
        "clv-instruction": Problem(False, "mistralai/Mistral-7B-v0.3 is gated: accept its terms"),
    }
    runs = {"clv-embedding": results((1, 1, 1))}  # of an earlier time; what failed now does not hide behind it
    rows = make_rows(findings_of(plan, runs, problems))
    states = {name: texts_of(row_of(rows, name))["state"] for name in ("clv-embedding", "clv-instruction", "clv-bert")}
    assert states["clv-embedding"] == "failed: error: out of memory (cells/x.log)"
    assert states["clv-instruction"] == "not run: mistralai/Mistral-7B-v0.3 is gated: accept its terms"
    assert states["clv-bert"] == "not run: not yet"
    assert "no endpoint" in row_of(rows, "clv-hosted").reason
    assert "on request" in row_of(rows, "wipo-bert").reason
    assert row_of(rows, "clv-embedding-max", "f1_gain").reason == "not yet"
    pairs = [row for row in rows if row.figure.quantity == "mcnemar_p"]
    assert [row.reason.partition(";")[0] for row in pairs] == ["which systems were paired is not known"] * 2


def test_a_gain_needs_what_it_is_reckoned_from() -> None:
    rows = make_rows(findings_of(make_plan(PAPER), {"clv-embedding-mean": results((1, 1, 1))}))
    assert row_of(rows, "clv-embedding-mean", "f1_gain").reason == "nothing to compare with: not yet"


def test_runs_on_a_part_of_the_data_say_so() -> None:
    data = {"sizes": {**WHOLE, "test": 5}, "full_sizes": WHOLE, "synthetic": False}
    rows = make_rows(findings_of(make_plan(PAPER), {"clv-bert": results((1, 1, 1), data=data)}))
    assert texts_of(row_of(rows, "clv-bert"))["state"] == "run with some/model; 5 of 20 test documents"


def test_a_rehearsal_is_called_one_everywhere_and_compared_with_nothing() -> None:
    plan = make_plan(Request(encoder="/models/minilm"))
    findings = findings_of(plan, {"clv-embedding": results((0.86, 0.86, 0.86), model="bundled")})
    rows = make_rows(findings, tolerance=0.01)
    row = row_of(rows, "clv-embedding")
    assert (row.state, row.difference, row.within, row.ratio) == ("rehearsal", None, None, None)
    assert all(row.difference is None and row.within is None for row in rows)
    assert "not a reproduction" in LABEL
    assert label(plan, rows) == LABEL == label(plan, [])
    printed = markdown(plan, rows, "evalsuite reproduce paper")
    assert printed.startswith(f"**{LABEL}**")
    assert "| rehearsal with bundled |" in printed
    assert texts_of(row)["difference"] == ""
    data = json.loads(json.dumps(as_data(plan, rows)))
    assert (data["rehearsal"], data["label"]) == (True, LABEL)
    assert {entry["state"] for entry in data["rows"]} == {"rehearsal", "not run"}
    assert all(entry["difference"] is None for entry in data["rows"])


@pytest.mark.parametrize(
    "parts", [{"model": "bundled"}, {"data": {"sizes": WHOLE, "full_sizes": WHOLE, "synthetic": True}}]
)
def test_a_toy_among_runs_at_the_papers_scale_is_a_rehearsal_too(parts: dict[str, Any]) -> None:
    plan = make_plan(PAPER)
    rows = make_rows(
        findings_of(plan, {"clv-bert": results((0.9, 0.9, 0.9), **parts), "clv-embedding": results((1, 1, 1))})
    )
    assert row_of(rows, "clv-bert").state == "rehearsal"
    assert row_of(rows, "clv-bert").difference is None
    assert row_of(rows, "clv-embedding").state == "run"
    assert label(plan, rows) == f"Rows marked rehearsal: {LABEL}"
    real = [row for row in rows if row.state != "rehearsal"]
    assert label(plan, real) == ""


def test_markdown_has_source_command_and_assumptions() -> None:
    plan = make_plan(PAPER)
    printed = markdown(plan, make_rows(findings_of(plan, {})), "evalsuite reproduce paper --scale paper")
    assert "`evalsuite reproduce paper --scale paper`" in printed
    assert "arXiv 2512.12677 (v3, May 2026)" in printed
    assert "- clv, instruction tuning: the release, v0.3" in printed
    assert LABEL not in printed
