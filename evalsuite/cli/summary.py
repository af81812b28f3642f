"""Prints a plan or a result for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evalsuite.cli import console
from evalsuite.preparation import Prepared
from evalsuite.report.text import REFERENCE_COLUMNS, cost_rows, metric_rows, reference_rows
from evalsuite.spec import RunResult


def print_result(result: RunResult) -> None:
    """The metrics with their intervals, what they cost, and where the run lies."""
    results = result.results
    console.out(f"{results['task']} / {results['method']}" + (f" / {results['model']}" if results["model"] else ""))
    console.table(("metric", "value", "95% interval"), metric_rows(results), right=("value", "95% interval"))
    console.table(("cost", "value"), cost_rows(results), right=("value",))
    if rows := reference_rows(results):
        console.table(REFERENCE_COLUMNS, rows, right=("total parameters", "docs/s"))
    if results["reload_failed"]:
        console.note(f"warning: the reload check failed: {results['reload_check']}; the adapter was kept")
    if not result.fresh:  # a fresh run has said them in its log, which the terminal shows
        for line in results["notices"]:
            console.note(line)
        console.note("This run was complete already; --overwrite always runs it again.")
    console.out(f"run: {result.directory}")


def print_plan(prepared: Prepared, as_json: bool) -> None:
    """The resolved request, where each value came from, and the preflight estimate."""
    from evalsuite.opening import make_context
    from evalsuite.preflight import estimate
    from evalsuite.progress import Silent

    spec = prepared.spec
    context = make_context(prepared.request, prepared.registry, prepared.directory.partial, Silent(), prepared.device)
    needed = estimate(prepared, context)
    sizes = {name: len(prepared.splits.split(name)) for name in ("train", "validation", "test")}
    if as_json:
        plan = {"spec": spec.to_dict(), "documents": sizes, "estimate": needed, "run": str(prepared.directory.final)}
        console.out(json.dumps(plan, ensure_ascii=False))
        return
    run_options = {name: value for name, value in spec.to_dict().items() if name != "origins"}
    rows = [row for name, value in run_options.items() for row in _spec_rows(name, value, spec.origins)]
    console.table(("option", "value", "from"), rows)
    console.table(("documents", "count"), [(name, str(count)) for name, count in sizes.items()], right=("count",))
    if needed:
        amounts = [(name.removesuffix("_bytes"), _amount(name, value)) for name, value in needed.items()]
        console.table(("estimate", "value"), amounts, right=("value",))
    state = " (complete)" if prepared.directory.complete else ""
    console.out(f"run: {prepared.directory.final}{state}")


def _spec_rows(name: str, value: Any, origins: Mapping[str, str]) -> list[tuple[str, str, str]]:
    if not name.endswith("_options"):
        return [(name, str(value), origins.get(name, "default"))]
    group = name.removesuffix("_options")
    return [(f"{group}.{key}", str(inner), origins.get(f"{group}.{key}", "default")) for key, inner in value.items()]


def _amount(name: str, value: Any) -> str:
    if name.endswith("_bytes") and value is not None:
        return f"{value / 2**20:,.1f} MiB"
    return f"{value:,.0f} s" if name == "seconds" else f"{value:,}"
