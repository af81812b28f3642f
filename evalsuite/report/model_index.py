"""The results of a run in the form that model hubs read: ``model-index`` of a model card's front matter.

Format: https://github.com/huggingface/hub-docs/blob/main/modelcard.md. It has no place for intervals; they are in the
card's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HUB_DATASETS = "https://huggingface.co/datasets/"
# Our name -> the metric's identifier on the hub, and the arguments that make it ours.
HUB_METRICS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "accuracy": ("accuracy", {}),
    "f1_micro": ("f1", {"average": "micro"}),
    "f1_macro": ("f1", {"average": "macro"}),
    "f1_weighted": ("f1", {"average": "weighted"}),
    "precision_macro": ("precision", {"average": "macro"}),
    "recall_macro": ("recall", {"average": "macro"}),
    "brier": ("brier_score", {}),
    "ece": ("ece", {}),
}


def model_index(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry with the metrics of the scored split; none for a synthetic sample, whose scores are of no corpus."""
    if results["data"].get("synthetic"):
        return []
    entry = {
        "task": {"type": "text-classification", "name": "Text Classification"},
        "dataset": _dataset(results),
        "metrics": _metrics(results),
    }
    return [{"name": f"{results['method']} on {results['task']}", "results": [entry]}] if entry["metrics"] else []


def _dataset(results: Mapping[str, Any]) -> dict[str, str]:
    """The hub's id and revision where the data have one, else the task's name."""
    data, task = results["data"], results["task"]
    named = {"type": data["source"].removeprefix(HUB_DATASETS)} if data["source"].startswith(HUB_DATASETS) else {}
    dataset = {"type": task, **named, "name": task, "split": results.get("split", "test")}
    return dataset | ({"revision": data["revision"]} if data["revision"] else {})


def _metrics(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    summary, primary = results["metrics"]["summary"], results["primary_metric"]
    found = []
    for name in dict.fromkeys((primary, *HUB_METRICS)):  # the primary one first: the hub shows the first
        if (value := summary.get(name, {}).get("value")) is None:
            continue
        kind, arguments = HUB_METRICS.get(name, (name, {}))
        title = f"{name} (primary)" if name == primary else name
        found.append({"type": kind, "value": value, "name": title} | ({"args": dict(arguments)} if arguments else {}))
    return found
