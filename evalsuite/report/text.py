"""A result as rows of words and numbers: the same ones on the terminal and in the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsuite.metrics import BUILTIN

METRICS = (
    "accuracy",
    "f1_micro",
    "f1_macro",
    "f1_weighted",
    "precision_macro",
    "recall_macro",
    "ece",
    "brier",
    "invalid_rate",
    "failed_rate",
)


def metric_rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(metric, value, 95% interval) of the summary metrics, the task's primary one and every plugin's."""
    summary, primary = results["metrics"]["summary"], results["primary_metric"]
    extra = [name for name in summary if name not in METRICS and (name not in BUILTIN or name == primary)]
    return [_metric_row(name, summary[name], primary) for name in (*METRICS, *extra)]


def _metric_row(name: str, entry: Mapping[str, Any], primary: str) -> tuple[str, str, str]:
    title = f"{name} (primary)" if name == primary else name
    if entry["value"] is None:
        return title, "-", entry["reason"] or ""
    interval = entry["interval"]
    return title, f"{entry['value']:.4f}", f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""


RUN_COLUMNS = ("task", "method", "model", "seed", "split", "result", "95% interval", "trainable", "train", "predict")


def run_row(results: Mapping[str, Any]) -> tuple[str, ...]:
    """One run in one line, in the order of ``RUN_COLUMNS``: its primary metric and what it cost."""
    primary, cost = results["primary_metric"], results["cost"]
    title, value, interval = _metric_row(primary, results["metrics"]["summary"][primary], "")
    rate = cost["predict"]["documents_per_second"]
    return (
        results["task"],
        results["method"],
        results["model"] or "",
        str(results["seed"]),
        results.get("split", "test"),
        f"{title} {value}",
        interval,
        _count(results["parameters"]["trainable"]),
        "-" if cost["train"]["seconds"] is None else f"{cost['train']['seconds']:.0f} s",
        f"{rate:,.0f} docs/s" if rate else "-",
    )


def cost_rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, amount) of parameters, time, throughput and memory."""
    parameters, cost, data = results["parameters"], results["cost"], results["data"]
    rows = [
        ("documents (train / validation / test)", " / ".join(f"{count:,}" for count in data["sizes"].values())),
        ("trainable parameters", _count(parameters["trainable"])),
        ("total parameters", _count(parameters["total"])),
        ("train", _seconds(cost["train"]) if parameters["trainable"] else "-"),
        ("predict", _seconds(cost["predict"])),
        ("peak memory", _bytes(cost["peak_memory_bytes"]["cpu"])),
    ]
    if gpu := cost["peak_memory_bytes"]["gpu"]:
        rows.append(("peak GPU memory", _bytes(gpu)))
    if (usd := cost.get("usd")) is not None:
        rows.append(("spent on requests", f"{usd:,.4f} USD"))
    if (share := results["facts"].get("truncated_share")) is not None:
        rows.append(("documents cut to fit", f"{share:.1%} ({results['facts'].get('truncation_side', 'right')} end)"))
    return rows


REFERENCE_COLUMNS = ("system", "result", "95% interval", "total parameters", "docs/s", "this run / it")


def reference_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """This run and every system it was compared with, in the order of ``REFERENCE_COLUMNS``; empty without any."""
    references, primary = results.get("references") or {}, results["primary_metric"]
    if not references:
        return []
    own = {
        "metrics": results["metrics"]["summary"],
        "parameters": results["parameters"],
        "documents_per_second": results["cost"]["predict"]["documents_per_second"],
        "ratios": {},
    }
    return [_reference_row(name, entry, primary) for name, entry in {"this run": own, **references}.items()]


def _reference_row(name: str, entry: Mapping[str, Any], primary: str) -> tuple[str, ...]:
    title, value, interval = _metric_row(primary, entry["metrics"][primary], "")
    titles = {"primary": title, "speed": "speed", "total_parameters": "parameters"}
    ratios = [f"{titles[key]} {ratio:.3g}" for key, ratio in entry["ratios"].items() if ratio is not None]
    rate = entry["documents_per_second"]
    return (
        name,
        f"{title} {value}",
        interval,
        _count(entry["parameters"]["total"]),
        f"{rate:,.1f}" if rate else "-",
        ", ".join(ratios),
    )


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _seconds(phase: Mapping[str, Any]) -> str:
    if phase["seconds"] is None:  # of a system that ran elsewhere
        return "-"
    rate = phase["documents_per_second"]
    return f"{phase['seconds']:.1f} s" + (f" ({rate:,.1f} docs/s)" if rate else "")


def _bytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 2**20:,.0f} MiB"
