"""``results.json``: lm-evaluation-harness's keys in its shapes, ours beside them, null where nothing can be said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import evalsuite
from evalsuite import runner
from evalsuite.config import resolve
from evalsuite.opening import other_data
from evalsuite.preparation import prepare
from evalsuite.registry import build_registry
from evalsuite.results import caveats, notices

SPY = Path(__file__).parent / "spy_plugin.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Iterator[Any]:
    def start(task: str = "words", **options: Any) -> Any:
        return evalsuite.run(task, "spy", plugins=[SPY], output_path=folder, **options).results

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
        yield start


@pytest.fixture(scope="module")
def results(run: Any) -> Any:
    return run(seed=5, limit=10, states=["ok", "invalid"])


def test_the_keys_of_lm_eval_have_its_shapes(results: Any) -> None:
    summary = results["metrics"]["summary"]
    assert results["results"]["words"]["alias"] == "words"
    assert results["results"]["words"]["acc,none"] == summary["accuracy"]["value"]
    assert results["results"]["words"]["f1_macro,none"] == summary["f1_macro"]["value"]
    assert results["n-samples"] == {"words": {"original": 20, "effective": 10}}
    assert results["n-shot"] == {"words": 0}
    assert results["higher_is_better"]["words"]["acc"] is True
    assert results["higher_is_better"]["words"]["brier"] is False
    assert results["config"]["limit"] == 10
    assert {results["config"][f"{kind}_seed"] for kind in ("random", "numpy", "torch", "fewshot")} == {5}
    assert results["total_evaluation_time_seconds"] > 0
    told = "versions task_hashes model_name model_source chat_template date transformers_version"
    assert set(told.split()) <= set(results)


def test_labels_are_reported_in_label_order_with_their_support(results: Any) -> None:
    entries = results["metrics"]["labels"]
    assert [entry["label"] for entry in entries] == results["labels"] == ["alpha", "beta", "gamma"]
    assert sum(entry["support"] for entry in entries) == 10
    assert results["data"]["support_train"] == [10, 10, 10]
    assert results["metrics"]["counts"]["labels_with_support"] == 3


def test_summary_metrics_have_intervals_and_no_validation_score_is_among_them(results: Any) -> None:
    accuracy = results["metrics"]["summary"]["accuracy"]
    assert accuracy["interval"][0] <= accuracy["value"] <= accuracy["interval"][1]
    assert "valid" not in " ".join([*results["metrics"]["summary"], *results["results"]["words"]]).replace(
        "invalid", ""
    )


def test_what_a_method_reports_of_itself_finds_its_place(results: Any) -> None:
    assert results["parameters"] == {"trainable": 1, "total": None}
    assert "trainable_parameters" not in results["facts"]
    assert results["cost"]["train"]["documents_per_second"] > 0
    assert results["cost"]["train"]["tokens"] == 0
    assert results["cost"]["peak_memory_bytes"]["cpu"] > 2**20
    assert results["cost"]["peak_memory_bytes"]["gpu"] is None
    assert results["prompt"] is None


def test_the_data_are_described(results: Any) -> None:
    data = results["data"]
    assert data["sizes"] == {"train": 30, "validation": 24, "test": 10}
    assert data["full_sizes"]["test"] == 20
    assert data["findings"] == {"odd rows": 1}
    assert (data["private"], data["synthetic"]) == (False, False)
    assert results["task_hashes"]["words"] == data["fingerprint"]


def test_where_a_value_came_from_is_kept(results: Any) -> None:
    assert results["origins"]["limit"] == "flag"
    assert results["options"]["method"]["states"] == ["ok", "invalid"]
    assert results["identity"]["seed"] == 5


def test_calibration_before_and_after_is_that_of_the_metrics(results: Any) -> None:
    before, after = results["calibration"]["before"], results["calibration"]["after"]
    for name in ("ece", "brier", "nll"):
        assert after[name] == results["metrics"]["summary"][name]["value"]
        assert 0 < before[name] < 3
    assert sum(entry["count"] for entry in after["bins"]) == 5  # of 10 documents, half are invalid
    assert results["calibration"]["reason"] is None


def test_calibration_without_logits_is_null_with_a_reason(run: Any) -> None:
    found = run(logits=False, limit=10)
    assert found["calibration"]["before"]["ece"] is found["calibration"]["after"]["ece"] is None
    assert found["calibration"]["reason"] == found["metrics"]["summary"]["ece"]["reason"]
    assert found["decision"]["rule"] == "own"


@pytest.mark.parametrize("threshold", ["tuned", "per_label", "top_k"])
def test_no_test_document_changes_the_decision(run: Any, threshold: str) -> None:
    options = {"task": "tags", "calibration": "vector", "threshold": threshold}
    few, many = (run(**options, task_options={"validation": 600, "test": size}) for size in (5, 50))
    assert few["decision"] == many["decision"]
    assert (few["decision"]["calibration"], len(few["decision"]["scale"])) == ("vector", 3)
    assert few["metrics"]["summary"]["nll"]["value"] != many["metrics"]["summary"]["nll"]["value"]


def test_a_sample_and_the_bundled_model_are_announced() -> None:
    registry = build_registry([SPY])
    prepared = prepare(registry, *resolve(registry, {"task": "secret", "method": "spy"}))
    assert notices(prepared) == ["Data: the reader noticed: odd rows 1. Row ids: evalsuite validate --task secret"]
    spec = replace(prepared.spec, method_options={"model": "bundled"})
    announced = replace(
        prepared,
        splits=replace(prepared.splits, synthetic=True, findings={}),
        request=replace(prepared.request, spec=spec),
    )
    synthetic, model = notices(announced)
    assert "synthetic sample" in synthetic
    assert "--set task.data=PATH" in synthetic
    assert "--model ID" in model


def test_a_run_that_builds_on_one_of_other_data_says_so() -> None:
    collapse, report = SimpleNamespace(collapsed=False), SimpleNamespace(counts={"failed": 0})
    facts = {"builds_on_other_data": ["abc"]}
    outcome: Any = SimpleNamespace(facts=facts, attempts=[None], collapse=collapse, report=report)
    assert caveats(outcome) == [other_data("abc")]
