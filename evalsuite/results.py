"""Assembles ``results.json``: lm-eval's keys where they exist, and what goes beyond them under own names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from evalsuite.accounting import Accounting, peak_memory
from evalsuite.attempts import Attempt
from evalsuite.collapse import Collapse
from evalsuite.decision import Decision
from evalsuite.identity import run_id
from evalsuite.llm.loading.reuse import kept_bytes
from evalsuite.memory import peak_gpu_memory
from evalsuite.metrics import LOWER_IS_BETTER, Report, one_hot
from evalsuite.opening import DEFAULT_TEMPLATE, OTHER_DATA, other_data
from evalsuite.preparation import Prepared
from evalsuite.store import SCHEMA_VERSION

BUNDLED = "bundled"
LABELS_NAMED = 10
# What a method reports of its size and work; every result has all of them, null where a method has no such thing.
SIZE_FACTS = ("trainable_parameters", "total_parameters")


@dataclass(frozen=True)
class Outcome:
    """What a run found out, before it is put in order."""

    facts: Mapping[str, Any]
    accounting: Accounting
    decision: Decision
    calibration: Mapping[str, Any]
    report: Report
    collapse: Collapse
    attempts: Sequence[Attempt]
    references: Mapping[str, Any]
    reload_check: Mapping[str, Any]
    environment: Mapping[str, Any]
    estimate: Mapping[str, Any]


def assemble(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """The content of ``results.json`` as plain data. Keys are documented in the guide."""
    spec, task, splits, report = prepared.spec, prepared.task, prepared.splits, outcome.report
    facts = dict(outcome.facts)
    now = time.time()
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id(prepared.identity),
        "task": task.name,
        "method": prepared.method.name,
        "model": spec.method_options.get("model"),
        "seed": spec.seed,
        "split": spec.split,
        "tuning": spec.tuning,
        "primary_metric": task.primary_metric,
        "labels": list(splits.labels),
        "multilabel": splits.multilabel,
        **_lm_eval_keys(prepared, outcome, now),
        "metrics": _metrics(prepared, report),
        "incomplete": report.counts["failed"] > 0,
        "decision": outcome.decision.to_json(),
        "calibration": dict(outcome.calibration),
        "collapse": outcome.collapse.to_json(),
        "attempts": [asdict(attempt) for attempt in outcome.attempts],
        "references": dict(outcome.references),
        "parameters": {name.removesuffix("_parameters"): facts.pop(name, None) for name in SIZE_FACTS},
        "cost": _cost(outcome, facts),
        "data": _data(prepared),
        "prompt": _prompt(prepared),
        "facts": facts,
        "reload_check": dict(outcome.reload_check),
        "reload_failed": not outcome.reload_check["passed"],
        "notices": [*notices(prepared), *caveats(outcome)],
        "estimate": dict(outcome.estimate),
        "identity": dict(prepared.identity),
        "options": {"task": dict(spec.task_options), "method": dict(spec.method_options)},
        "origins": dict(spec.origins),
        "environment": {key: outcome.environment[key] for key in ("evalsuite", "python", "packages", "gpu")},
        "finished": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    }


def _lm_eval_keys(prepared: Prepared, outcome: Outcome, now: float) -> dict[str, Any]:
    """The keys that readers of lm-evaluation-harness results look for, with its spelling."""
    spec, task, values = prepared.spec, prepared.task, outcome.report.values
    seed = outcome.attempts[-1].seed  # of the training that is kept; the examples in the prompt are the run's
    names = {"accuracy": "acc"}
    metrics = prepared.registry.metrics
    lower = LOWER_IS_BETTER | {name for name, metric in metrics.items() if not metric.higher_is_better}
    table: dict[str, Any] = {"alias": task.name}
    for name, value in values.items():
        table[f"{names.get(name, name)},none"] = value
    sizes = {"original": prepared.full_sizes[spec.split], "effective": len(prepared.splits.test)}
    seconds = sum(phase.seconds for phase in outcome.accounting.phases.values())
    return {
        "results": {task.name: table},
        "higher_is_better": {
            task.name: {names.get(name, name): name not in lower for name in values},
        },
        "n-shot": {task.name: spec.num_fewshot},
        "n-samples": {task.name: sizes},
        "versions": {task.name: task.revision or None},
        "task_hashes": {task.name: prepared.identity["data"]},
        "config": {
            "model": prepared.method.name,
            "model_args": dict(spec.method_options),
            "batch_size": spec.method_options.get("batch_size"),
            "device": outcome.facts.get("device", prepared.device),
            "limit": spec.limit,
            "random_seed": seed,
            "numpy_seed": seed,
            "torch_seed": seed,
            "fewshot_seed": spec.seed,
        },
        "model_name": spec.method_options.get("model", prepared.method.name),
        "model_source": prepared.method.name,
        "chat_template": spec.apply_chat_template,
        "date": now,
        "transformers_version": outcome.environment["packages"].get("transformers"),
        "total_evaluation_time_seconds": seconds,
    }


def _metrics(prepared: Prepared, report: Report) -> dict[str, Any]:
    """``summary``: name -> value, 95% interval, reason where null; ``labels``: one entry a label, in label order."""
    labels = [
        {"label": name, **entry} for name, entry in zip(prepared.splits.labels, report.to_json()["labels"], strict=True)
    ]
    return {"summary": report.summary(), "labels": labels, "counts": dict(report.counts)}


def _cost(outcome: Outcome, facts: dict[str, Any]) -> dict[str, Any]:
    phases = outcome.accounting.phases
    for name in ("train", "predict"):
        phases[name].tokens += int(facts.pop(f"{name}_tokens", 0) or 0)
    return {
        **outcome.accounting.to_json(),
        "peak_memory_bytes": _peaks(),
        "usd": facts.pop("usd", None),
    }


def _peaks() -> dict[str, int | None]:
    """The run's own memory, without a base model that is kept for the next run."""
    gpu = peak_gpu_memory()
    return {
        "cpu": peak_memory() - kept_bytes("cpu"),
        "gpu": None if gpu is None else gpu - kept_bytes("gpu"),
    }


def _data(prepared: Prepared) -> dict[str, Any]:
    splits, task = prepared.splits, prepared.task
    return {
        "fingerprint": prepared.identity["data"],
        "source": task.source,
        "revision": task.revision,
        "licence": task.licence,
        "citation": task.citation,
        "private": task.private,
        "synthetic": splits.synthetic,
        "sizes": _sizes(prepared),
        "full_sizes": dict(prepared.full_sizes),
        "support_train": one_hot(splits.train, len(splits.labels)).sum(axis=0).tolist(),
        "findings": {name: len(ids) for name, ids in splits.findings.items()},
    }


def _sizes(prepared: Prepared) -> dict[str, int]:
    """Documents of each split that the run used; a trial on validation uses none of test."""
    splits = prepared.splits
    train, validation, scored = len(splits.train), len(splits.validation), len(splits.test)
    if prepared.spec.split == "validation":
        return {"train": train, "validation": validation + scored, "test": 0}
    return {"train": train, "validation": validation, "test": scored}


def _prompt(prepared: Prepared) -> dict[str, Any] | None:
    if prepared.identity["template_hash"] is None:
        return None
    return {
        "template": prepared.spec.template or DEFAULT_TEMPLATE,
        "hash": prepared.identity["template_hash"],
        "chat_template": prepared.spec.apply_chat_template,
        "num_fewshot": prepared.spec.num_fewshot,
    }


def notices(prepared: Prepared) -> list[str]:
    """What a reader must know before believing the numbers, in sentences for the terminal, the result and the card."""
    lines = []
    if prepared.spec.split == "validation":
        lines.append(
            "Split: scored on one half of the validation split, the other half stopped training and fitted the "
            "decision: good for choosing options, never a result to report."
        )
    if prepared.splits.synthetic:
        lines.append(
            f"Data: a synthetic sample in the format of {prepared.task.name}; its scores say nothing about the real "
            "corpus. Name yours with --set task.data=PATH."
        )
    if prepared.spec.method_options.get("model") == BUNDLED:
        lines.append(
            "Model: the small one that ships with evalsuite, for a first look; "
            "name another with --model ID or --model PATH."
        )
    if hasattr(prepared.method.config, "notices"):
        lines += prepared.options.notices
    if findings := prepared.splits.findings:
        counts = ", ".join(f"{name} {len(ids)}" for name, ids in findings.items())
        lines.append(f"Data: the reader noticed: {counts}. Row ids: evalsuite validate --task {prepared.spec.task}")
    if short := _short_of_documents(prepared):
        lines.append(f"Data: train has fewer than {prepared.spec.train_size} documents of {short}.")
    return lines


def _short_of_documents(prepared: Prepared) -> str:
    """Labels with fewer training documents than ``train_size`` asks for, and how many each has."""
    splits, wanted = prepared.splits, prepared.spec.train_size
    if wanted is None:
        return ""
    support = one_hot(splits.train, len(splits.labels)).sum(axis=0)
    for _, labels in prepared.request.facts.shots:  # they were taken out of the same documents
        support[list(labels)] += 1
    short = [f"{label} ({count})" for label, count in zip(splits.labels, support, strict=True) if count < wanted]
    more = f" and {len(short) - LABELS_NAMED} labels more" if len(short) > LABELS_NAMED else ""
    return ", ".join(short[:LABELS_NAMED]) + more


def caveats(outcome: Outcome) -> list[str]:
    """What the run itself has shown that a reader must know, in sentences like those of :func:`notices`."""
    lines = [other_data(run) for run in outcome.facts.get(OTHER_DATA, ())]
    *earlier, kept = outcome.attempts
    if earlier and not outcome.collapse.collapsed:
        seeds = ", ".join(str(attempt.seed) for attempt in earlier)
        lines.append(f"Retries: training has failed with seed {seeds}; this is what came of seed {kept.seed}.")
    if outcome.collapse.collapsed:
        tried = f" in all {len(outcome.attempts)} attempts" if earlier else ""
        lines.append(
            f"Collapse: training has failed{tried}: {'; '.join(outcome.collapse.reasons)}. "
            "Other options may help, such as a lower learning_rate, or other seeds: --retries N."
        )
    counts = outcome.report.counts
    if counts["failed"]:
        lines.append(
            f"Incomplete: {counts['failed']:,} of {counts['documents']:,} documents have no answer and count nowhere. "
            "The same command with --overwrite always asks for what is missing, and for that only."
        )
    return lines
