"""The model card: whole Markdown tables and YAML, whatever the labels are called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalsuite.metrics import BUILTIN
from evalsuite.report.card import card, write_card
from evalsuite.report.markup import escaped
from evalsuite.report.text import METRICS, cost_rows, metric_rows

HOSTILE = [
    "a | b",
    "<script>alert(1)</script>",
    "two\nlines",
    "`code`",
    "back\\slash",
    "![pixel](https://tracker.example/p.png)",
    "[link](javascript:alert(1))",
    "&lt;b&gt;",
    "*bold*",
    "# heading",
]


def results(labels: list[str], **changes: Any) -> dict[str, Any]:
    phase = {"seconds": 1.5, "documents": 10, "documents_per_second": 6.7, "tokens": 0, "tokens_per_second": None}
    entry = {"value": 0.5, "interval": [0.4, 0.6], "reason": None}
    rates = {"precision": 0.5, "recall": None, "f1": 0.25, "support": 1234, "predicted": 1}
    base = {
        "task": "words",
        "method": "spy",
        "model": None,
        "seed": 3,
        "run_id": "0f",
        "primary_metric": "f1_macro",
        "notices": [f"Data: {labels[0]}"],
        "metrics": {
            "summary": dict.fromkeys(BUILTIN, entry),
            "labels": [{"label": label, **rates} for label in labels],
        },
        "parameters": {"trainable": 12172288, "total": None},
        "cost": {"train": phase, "predict": phase, "peak_memory_bytes": {"cpu": 2**30, "gpu": None}},
        "data": {
            "source": labels[0],
            "revision": "",
            "licence": "CC0",
            "citation": "Somebody\n(2020)",
            "fingerprint": "ab",
            "private": False,
            "sizes": {"train": 1000, "validation": 1, "test": 2},
            "findings": {f"unknown label {label}": 3 for label in labels},
        },
        "facts": {},
        "options": {"method": {"option": labels[0]}},
        "identity": {"code": "0.1.0+ab"},
    }
    return base | changes


def tables(text: str) -> list[list[str]]:
    """Blocks of lines that start with a bar."""
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("label", HOSTILE)
def test_a_label_cannot_break_the_card(label: str) -> None:
    plain, hostile = card(results(["plain", "b"]), None), card(results([label, "b"]), None)
    assert len(hostile.splitlines()) == len(plain.splitlines())
    for table in tables(hostile):
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {table[0].count("|")}
    assert "<script" not in hostile
    assert not re.search(r"(?<!\\)\]\(", hostile)


def test_data_in_markdown_reads_as_it_was() -> None:
    assert escaped("a*b `c` [d] <e> & f\r\ng") == "a\\*b \\`c\\` \\[d\\] &lt;e> &amp; f g"
    assert escaped("ü → 標籤") == "ü → 標籤"


@pytest.mark.parametrize("model", [None, "meta-llama/Llama-3.2-3B", "a: b # c", "yes", "line\nbreak"])
def test_the_front_matter_is_yaml(model: str | None) -> None:
    _, front, body = card(results(["a", "b"], model=model), None, "peft" if model else None).split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["tags"] == ["text-classification", "evalsuite", "spy"]
    assert data.get("base_model") == model
    assert ("library_name" in data) == (model is not None)
    assert body.startswith("\n# spy on words\n")


@pytest.mark.parametrize(("folder", "library"), [("adapter", "peft"), ("model", "transformers"), ("other", None)])
def test_the_library_is_the_one_that_loads_what_was_saved(folder: str, library: str | None, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    write_card(tmp_path, results(["a", "b"], model="openai/remote"), None)
    data = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    assert data.get("library_name") == library
    assert ("base_model" in data) == (library is not None)


def test_the_snippet_stands_in_the_card_as_it_runs(tmp_path: Path) -> None:
    write_card(tmp_path, results(["a", "b"]), "import json\nprint(json.dumps([1, 2]))\n")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    [snippet] = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    assert snippet == "import json\nprint(json.dumps([1, 2]))"
    assert "Use it without evalsuite" not in card(results(["a", "b"]), None)


def test_private_data_are_named_as_such() -> None:
    assert "text is private" not in card(results(["a", "b"]), None)
    data = results(["a", "b"])["data"] | {"private": True}
    assert "the text is private: it is in no file of this folder" in card(results(["a", "b"], data=data), None)


def test_a_metric_row_says_value_interval_and_reason() -> None:
    made = results(["a", "b"])
    made["metrics"]["summary"]["ece"] = {"value": None, "interval": None, "reason": "no probabilities"}
    made["metrics"]["summary"]["brier"] = {"value": 0.25, "interval": None, "reason": None}
    rows = {name: (value, interval) for name, value, interval in metric_rows(made)}
    assert rows["f1_macro (primary)"] == ("0.5000", "0.4000 to 0.6000")
    assert rows["ece"] == ("-", "no probabilities")
    assert rows["brier"] == ("0.2500", "")


def test_every_metric_of_a_plugin_has_a_row_and_so_has_the_primary_one() -> None:
    """Also one whose name starts like a built-in one's."""
    made = results(["a", "b"], primary_metric="nll")
    entry = {"value": 0.1, "interval": None, "reason": None}
    made["metrics"]["summary"] |= {"f1_of_mine": entry, "recall_at_5": entry}
    names = [name for name, _, _ in metric_rows(made)]
    assert names == [*METRICS, "nll (primary)", "f1_of_mine", "recall_at_5"]


def test_cost_rows() -> None:
    made = results(["a", "b"], facts={"truncated_share": 0.125, "truncation_side": "left"})
    made["cost"]["peak_memory_bytes"]["gpu"] = 3 * 2**30
    rows = dict(cost_rows(made))
    assert rows["documents (train / validation / test)"] == "1,000 / 1 / 2"
    assert rows["trainable parameters"] == "12,172,288"
    assert rows["total parameters"] == "-"
    assert rows["train"] == "1.5 s (6.7 docs/s)"
    assert rows["peak GPU memory"] == "3,072 MiB"
    assert rows["documents cut to fit"] == "12.5% (left end)"
