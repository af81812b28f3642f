"""The results in a card's front matter, read back by the hub's own parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from evalsuite.report.card import card
from evalsuite.report.model_index import model_index

AG_NEWS = "https://huggingface.co/datasets/fancyzhx/ag_news"


def results(primary: str = "f1_macro", **data: Any) -> dict[str, Any]:
    values = {"accuracy": 0.75, "f1_micro": 0.75, "f1_macro": 0.5, "brier": 0.25, "ece": None, "nll": 0.9}
    summary = {name: {"value": value, "interval": None, "reason": None} for name, value in values.items()}
    facts = {"source": AG_NEWS, "revision": "eb185aade064", "synthetic": False, "private": False, **data}
    return {
        "task": "ag_news",
        "method": "embedding",
        "primary_metric": primary,
        "metrics": {"summary": summary},
        "data": facts,
    }


def test_the_hub_s_parser_reads_it_back() -> None:
    index = model_index(results())
    name, read = model_index_to_eval_results(index)
    assert name == "embedding on ag_news"
    assert [(result.metric_type, result.metric_args, result.metric_value, result.metric_name) for result in read] == [
        ("f1", {"average": "macro"}, 0.5, "f1_macro (primary)"),
        ("accuracy", None, 0.75, "accuracy"),
        ("f1", {"average": "micro"}, 0.75, "f1_micro"),
        ("brier_score", None, 0.25, "brier"),
    ]
    assert {
        (result.task_type, result.dataset_type, result.dataset_name, result.dataset_split, result.dataset_revision)
        for result in read
    } == {("text-classification", "fancyzhx/ag_news", "ag_news", "test", "eb185aade064")}
    assert eval_results_to_model_index(name, read) == index


def test_a_primary_metric_that_the_hub_does_not_know() -> None:
    first = model_index(results("nll"))[0]["results"][0]["metrics"][0]
    assert first == {"type": "nll", "value": 0.9, "name": "nll (primary)"}


def test_data_of_one_s_own() -> None:
    [dataset] = {
        tuple(entry["results"][0]["dataset"].items()) for entry in model_index(results(source="", revision=""))
    }
    assert dict(dataset) == {"type": "ag_news", "name": "ag_news", "split": "test"}


def test_a_run_scored_on_validation_says_so() -> None:
    assert model_index(results() | {"split": "validation"})[0]["results"][0]["dataset"]["split"] == "validation"


def test_a_synthetic_sample_is_no_result_of_the_corpus() -> None:
    assert model_index(results(synthetic=True)) == []


def test_nothing_was_measured() -> None:
    empty = results()
    for entry in empty["metrics"]["summary"].values():
        entry["value"] = None
    assert model_index(empty) == []


@pytest.mark.parametrize("synthetic", [False, True])
def test_the_card_has_it(tmp_path: Path, synthetic: bool) -> None:
    import evalsuite

    made = dict(evalsuite.run("ag_news", "majority", output_path=str(tmp_path), limit=20).results)
    assert made["data"]["synthetic"]
    path = tmp_path / "README.md"
    path.write_text(card(made | {"data": made["data"] | {"synthetic": synthetic}}, None), encoding="utf-8")
    data = ModelCard.load(path).data
    assert (data.eval_results is None) == synthetic
    if not synthetic:
        assert data.model_name == "majority on ag_news"
        assert data.eval_results[0].metric_value == made["metrics"]["summary"]["f1_macro"]["value"]
