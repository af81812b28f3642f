"""One run, top to bottom: from a prepared request to a complete directory, or to none."""

from __future__ import annotations

import gc
import logging
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite import preflight
from evalsuite.accounting import Accounting
from evalsuite.config import named_plugins, resolve
from evalsuite.contracts import Method, Progress, RunContext, Scores
from evalsuite.data.splits import text_hash
from evalsuite.decision import Decision, DecisionOptions, ValidationParts, fit_decision, split_validation
from evalsuite.environment import describe_environment, is_main_process
from evalsuite.errors import UsageError
from evalsuite.metrics import evaluate, one_hot
from evalsuite.opening import make_context, write_request
from evalsuite.preparation import Prepared, loads_model, prepare
from evalsuite.progress import Silent
from evalsuite.registry import build_registry
from evalsuite.reload import check_reload, choose_documents
from evalsuite.report.card import write_card
from evalsuite.results import Outcome, assemble, notices
from evalsuite.samples import Samples, write_samples
from evalsuite.spec import RunResult
from evalsuite.store import RESULTS, open_run, plain, write_json

log = logging.getLogger("evalsuite")
CHECKPOINTS = "checkpoints"


def run(
    task: str | None = None,
    method: str | None = None,
    *,
    config: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
    **options: Any,
) -> RunResult:
    """Train and score one method on one task; the result is there already where the same run is complete.

    ``options`` are those of ``evalsuite run``: run options such as ``seed`` or ``limit``, the method's own such as
    ``model`` or ``lora_r``, and the task's in a mapping, ``task_options={"data": "train.csv"}``.

    Raises:
        EvalsuiteError: see ``evalsuite.errors``; nothing half-written is left behind.
    """
    flags: dict[str, Any] = {"task": task, "method": method, "plugins": list(map(str, plugins)) or None}
    for key, value in options.items():
        nested = isinstance(value, Mapping) and key.endswith("_options")
        flags.update({f"{key.removesuffix('_options')}.{k}": v for k, v in value.items()} if nested else {key: value})
    flags = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items()}
    registry = build_registry(named_plugins(flags, config))
    return execute(prepare(registry, *resolve(registry, flags, config=config)), progress or Silent())


def execute(prepared: Prepared, progress: Progress) -> RunResult:
    """Do the run, or open it where it is complete.

    Raises:
        UsageError: the run is complete and ``overwrite`` is "never".
        Interrupted: a signal came; the state is saved and the same request goes on from it.
    """
    spec, directory = prepared.spec, prepared.directory
    if directory.complete and spec.overwrite != "always":
        if spec.overwrite == "never":
            raise UsageError(f"{directory.final} is complete; use --overwrite missing to read it, always to replace it")
        return open_run(directory.final)
    context = make_context(prepared.request, prepared.registry, directory.partial, progress, prepared.device)
    # Before the directory is claimed: a request that cannot work leaves nothing behind.
    needed = preflight.estimate(prepared, context)
    preflight.check(needed, prepared)
    if not is_main_process():  # under a launcher, the other processes only train
        _train(prepared, context, needed)
        return RunResult(directory.final, {"facts": dict(context.facts)})
    with directory.claim() as workdir:
        with _logged_to(workdir / "log.txt"):
            for line in notices(prepared):
                log.info("%s", line)
            trained = _train(prepared, context, needed)
            snippet = trained.method.card_snippet() if hasattr(trained.method, "card_snippet") else None
            results = _score(prepared, trained)
            write_json(workdir / RESULTS, results)
            write_card(workdir, results, snippet)
        shutil.rmtree(workdir / CHECKPOINTS, ignore_errors=True)
        directory.finish()
    result = RunResult(directory.final, results)
    for failed in prepared.registry.notify("evalsuite_run_finished", result=result):
        log.warning("plugin %s: %s failed, the run itself is complete: %s", failed.name, failed.origin, failed.problem)
    return result


@dataclass
class _Trained:
    method: Method
    context: RunContext
    accounting: Accounting
    validation: ValidationParts
    estimate: Mapping[str, Any]


def _train(prepared: Prepared, context: RunContext, needed: Mapping[str, Any]) -> _Trained:
    validation = split_validation(prepared.splits.validation)
    # Before the model is built: a head is random too.
    _seed(prepared)
    method = prepared.method.build(prepared.options, context)
    accounting = Accounting()
    with accounting.phase("train", documents=len(prepared.splits.train)):
        method.fit(prepared.splits.train, validation.stopping)
    return _Trained(method, context, accounting, validation, needed)


def _seed(prepared: Prepared) -> None:
    if loads_model(prepared.method, prepared.options):
        from evalsuite.llm.seeding import seed_everything

        seed_everything(prepared.spec.seed)
    else:
        random.seed(prepared.spec.seed)
        np.random.seed(prepared.spec.seed)


def _score(prepared: Prepared, trained: _Trained) -> dict[str, Any]:
    splits, context = prepared.splits, trained.context
    decision = _fit_decision(prepared, trained)
    with trained.accounting.phase("predict", documents=len(splits.test)):
        scores = trained.method.predict([example.text for example in splits.test])
    samples = Samples(
        ids=tuple(example.id for example in splits.test),
        hashes=tuple(text_hash(example.text) for example in splits.test),
        gold=one_hot(splits.test, len(splits.labels)),
        predicted=decision.decide(scores),
        probabilities=decision.probabilities(scores),
        status=tuple(scores.status),
        labels=tuple(splits.labels),
    )
    report = evaluate(
        samples.gold,
        samples.predicted,
        samples.probabilities,
        samples.status,
        tuple(prepared.registry.metrics.values()),
        multilabel=splits.multilabel,
    )
    _save(prepared, trained, samples, scores.raw)
    facts = dict(context.facts)
    reload_check = _check_reload(prepared, trained, scores)
    environment = describe_environment()
    write_json(context.workdir / "environment.json", environment)
    outcome = Outcome(facts, trained.accounting, decision, report, reload_check, environment, trained.estimate)
    results: dict[str, Any] = plain(assemble(prepared, outcome))
    return results


def _fit_decision(prepared: Prepared, trained: _Trained) -> Decision:
    """Temperature and thresholds from the calibration part of validation; the test split is not looked at."""
    validation, multilabel = trained.validation, prepared.splits.multilabel
    if not validation.calibration:
        return Decision(multilabel, notes=("there are no validation documents: nothing was calibrated",))
    with trained.accounting.phase("calibrate", documents=len(validation.calibration)):
        scores = trained.method.predict([example.text for example in validation.calibration])
        return fit_decision(
            scores,
            one_hot(validation.calibration, len(prepared.splits.labels)),
            multilabel=multilabel,
            options=DecisionOptions.model_validate(prepared.spec.decision_options),
            metric=prepared.task.primary_metric,
            halves=validation.halves,
        )


def _save(prepared: Prepared, trained: _Trained, samples: Samples, raw: Sequence[str] | None) -> None:
    workdir, private = trained.context.workdir, prepared.task.private
    write_request(workdir, prepared.request)
    trained.method.save(workdir)
    texts = None if private else [example.text for example in prepared.splits.test]
    write_samples(workdir, prepared.task.name, samples, texts, None if private else raw)


def _check_reload(prepared: Prepared, trained: _Trained, scores: Scores) -> dict[str, Any]:
    """Compare with a fresh process. The model is freed first, so that two never share the memory."""
    multilabel, workdir = prepared.splits.multilabel, trained.context.workdir
    texts = [example.text for example in prepared.splits.test]
    chosen = [texts[row] for row in choose_documents(texts, scores, multilabel)]
    # Predicted again as these 64 alone: the same batches on both sides leave only what saving may have changed.
    expected = trained.method.predict(chosen)
    del trained.method
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    with trained.accounting.phase("reload_check"):
        outcome = check_reload(workdir, chosen, expected, multilabel, prepared.device)
    if prepared.task.private:
        outcome.pop("message", None)
    if not outcome["passed"]:
        log.warning("the saved model does not repeat the trained one's answers: %s", outcome)
    return outcome


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()
