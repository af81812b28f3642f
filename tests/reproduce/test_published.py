"""The paper's figures: complete, and nothing in them that was not published."""

from __future__ import annotations

import pytest

from evalsuite.reproduce.grid import Request, make_plan
from evalsuite.reproduce.published import Figure, read_paper
from evalsuite.reproduce.quantities import QUANTITIES
from evalsuite.reproduce.rendering import published_text

PAPER = read_paper()
OPEN = (None, None)
# Copied by hand: system, quantity, low, high; OPEN where only words are known.
KNOWN = [
    ("clv-embedding", "f1", 0.860, 0.860),
    ("clv-instruction", "f1", 0.853, 0.853),
    ("clv-bert", "f1", 0.854, 0.854),
    ("clv-zero-shot", "f1", 0.21, 0.21),
    ("clv-hosted", "f1", 0.823, 0.823),
    ("wipo-frozen", "f1", 0.833, 0.833),
    ("wipo-instruction", "f1", 0.819, 0.819),
    ("wipo-bert", "f1", 0.801, 0.801),
    ("wipo-embedding", "f1", 0.785, 0.785),
    ("wipo-zero-shot", "f1", 0.17, 0.17),
    *((f"ag_news-{name}", "f1", 0.92, 0.93) for name in ("embedding", "instruction", "bert")),
    *((f"{corpus}-embedding-mean", "f1_gain", -0.014, 0.014) for corpus in ("clv", "wipo")),
    *((f"{corpus}-embedding-{how}", "f1_gain", *OPEN) for corpus in ("clv", "wipo") for how in ("max", "cls")),
    *((f"ag_news-{name}-verbalizers", "f1_spread", *OPEN) for name in ("instruction", "zero-shot")),
    ("clv-embedding", "trainable", 12.2e6, 12.2e6),
    ("clv-instruction", "trainable", 167.8e6, 167.8e6),
    ("clv-bert", "trainable", 346e6, 346e6),
    ("wipo-bert", "trainable", 346e6, 346e6),
    ("wipo-instruction", "trainable", 100e6, None),
    ("wipo-frozen", "trainable", *OPEN),
    *((f"{system}-zero-shot", "trainable", 0, 0) for system in ("clv", "wipo")),
    ("clv-hosted", "trainable", 0, 0),
    ("clv-embedding", "ece", 0.094, 0.094),
    ("clv-embedding", "collapsed", *OPEN),
    ("clv-embedding", "documents_per_second", 1.88, 1.88),
    ("clv-instruction", "documents_per_second", 0.23, 0.23),
    ("clv-modernbert", "documents_per_second", 93.45, 93.45),
    ("clv-distill", "f1_kept", 0.97, None),
    ("clv-distill", "speedup", 45, 45),
    ("clv-pairs", "mcnemar_p", 0.24, 0.24),
    ("clv-pairs", "mcnemar_p", 0.51, 0.51),
    ("clv-pairs", "f1_difference_interval", *OPEN),
]


def test_the_figures_are_those_of_the_paper() -> None:
    found = [(figure.system.name, figure.quantity, figure.low, figure.high) for figure in PAPER.figures]
    assert sorted(found, key=str) == sorted(KNOWN, key=str)


def test_the_source_is_the_third_version_and_says_what_was_read() -> None:
    assert PAPER.source["id"] == "arXiv 2512.12677"
    assert PAPER.source["version"].startswith("v3")
    assert PAPER.source["url"].endswith("2512.12677v3")
    assert "tables were not at hand" in PAPER.source["read"]


def test_what_is_not_known_is_no_number() -> None:
    unknown = [figure for figure in PAPER.figures if (figure.low, figure.high) == OPEN]
    assert unknown
    assert all(not figure.known and figure.said and not figure.printed for figure in unknown)
    assert all(figure.known for figure in PAPER.figures if figure not in unknown)


def test_every_system_is_run_or_says_why_not() -> None:
    plan = make_plan(Request(scale="paper", models={"hosted": "openai/any"}))
    several = {name for name in PAPER.systems if name.endswith("-verbalizers")}
    for system in PAPER.systems.values():
        cells = plan.cells(system)
        assert len(cells) == (5 if system.name in several else 0 if system.why else 1), system.name
        assert (system.cell is None) == bool(system.why)
    asked = [cell for grid in plan.grids.values() for cell in grid.sweep.cells]
    used = [cell for system in PAPER.systems.values() for cell in plan.cells(system)]
    assert all(cell in used for cell in asked)
    assert {figure.system.name for figure in PAPER.figures} == set(PAPER.systems)


@pytest.mark.parametrize(
    ("system", "quantity", "text"),
    [
        ("clv-embedding", "f1", "0.860"),
        ("clv-zero-shot", "f1", "0.21"),
        ("ag_news-bert", "f1", "0.92 to 0.93"),
        ("clv-embedding-mean", "f1_gain", "-0.014 to 0.014"),
        ("wipo-embedding-max", "f1_gain", "fails, worst on multi-label"),
        ("clv-embedding", "trainable", "12.2M"),
        ("clv-bert", "trainable", "346M"),
        ("wipo-instruction", "trainable", "at least 100M"),
        ("clv-modernbert", "documents_per_second", "93.45"),
        ("clv-distill", "f1_kept", "at least 0.97"),
        ("clv-distill", "speedup", "about 45"),
    ],
)
def test_figures_read_as_they_were_printed(system: str, quantity: str, text: str) -> None:
    (figure,) = [f for f in PAPER.figures if (f.system.name, f.quantity) == (system, quantity)]
    assert published_text(figure, QUANTITIES[quantity]) == text


def test_how_far_a_value_is_off() -> None:
    system = PAPER.systems["clv-bert"]
    span, least = Figure(system, "f1", True, 0.92, 0.93), Figure(system, "f1", True, 0.97, None)
    assert [round(span.off(value), 3) for value in (0.90, 0.92, 0.925, 0.93, 0.95)] == [-0.02, 0, 0, 0, 0.02]
    assert [round(least.off(value), 3) for value in (0.95, 0.97, 1.5)] == [-0.02, 0, 0]
