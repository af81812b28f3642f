"""One run, top to bottom: from a prepared request to a complete directory, or to none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite import preflight
from evalsuite.accounting import Accounting
from evalsuite.attempts import ATTEMPTS, Trained, check_retries, clear_checkpoints, fit, train
from evalsuite.config import named_plugins, resolve
from evalsuite.contracts import Progress, Scores
from evalsuite.decision import split_validation
from evalsuite.environment import describe_environment, is_main_process
from evalsuite.errors import UsageError
from evalsuite.memory import release_memory, reset_peak_gpu_memory
from evalsuite.opening import make_context, write_request
from evalsuite.preparation import Prepared, prepare
from evalsuite.progress import Silent
from evalsuite.references import Scored, score_references
from evalsuite.registry import build_registry
from evalsuite.reliability import calibration_report
from evalsuite.reload import check_reload, choose_documents
from evalsuite.report.card import write_card
from evalsuite.results import Outcome, assemble, caveats, notices
from evalsuite.samples import Samples, write_samples
from evalsuite.scoring import decide, measure
from evalsuite.spec import RunResult
from evalsuite.store import RESULTS, open_run, plain, write_json

log = logging.getLogger("evalsuite")


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
        UsageError: the run is complete and ``overwrite`` is "never"; retries under a launcher.
        Interrupted: a signal came; the state is saved and the same request goes on from it.
    """
    spec, directory = prepared.spec, prepared.directory
    if (found := finished(prepared)) is not None:
        return found
    check_retries(spec.retries)
    reset_peak_gpu_memory()
    context = make_context(prepared.request, prepared.registry, directory.partial, progress, prepared.device)
    # Before the directory is claimed: a request that cannot work leaves nothing behind.
    needed = preflight.estimate(prepared, context)
    preflight.check(needed, prepared)
    if not is_main_process():  # under a launcher, the other processes only train
        fit(prepared, context, split_validation(prepared.splits.validation), Accounting())
        return RunResult(directory.final, {"facts": dict(context.facts)})
    with directory.claim() as workdir:
        with _logged_to(workdir / "log.txt"):
            for line in notices(prepared):
                log.info("%s", line)
            trained = train(prepared, context)
            snippet = trained.method.card_snippet() if hasattr(trained.method, "card_snippet") else None
            results = _score(prepared, trained, needed)
            write_json(workdir / RESULTS, results)
            write_card(workdir, results, snippet)
        clear_checkpoints(workdir)
        (workdir / ATTEMPTS).unlink(missing_ok=True)
        directory.finish()
    return announced(prepared, results)


def finished(prepared: Prepared) -> RunResult | None:
    """The run where it is complete and may be read; None where it is to be made.

    Raises:
        UsageError: it is complete and ``overwrite`` is "never".
    """
    directory, overwrite = prepared.directory, prepared.spec.overwrite
    if not directory.complete or overwrite == "always":
        return None
    if overwrite == "never":
        raise UsageError(f"{directory.final} is complete; use --overwrite missing to read it, always to replace it")
    return open_run(directory.final)


def announced(prepared: Prepared, results: Mapping[str, Any]) -> RunResult:
    """The run that has just been completed, after every plugin that asked has been told of it."""
    result = RunResult(prepared.directory.final, results)
    for failed in prepared.registry.notify("evalsuite_run_finished", result=result):
        log.warning("plugin %s: %s failed, the run itself is complete: %s", failed.name, failed.origin, failed.problem)
    return result


def _score(prepared: Prepared, trained: Trained, needed: Mapping[str, Any]) -> dict[str, Any]:
    splits, context, accounting = prepared.splits, trained.context, trained.accounting
    decision = trained.calibrated.decision
    with accounting.phase("predict", documents=len(splits.test)):
        scores = trained.method.predict([example.text for example in splits.test])
    # What a method kept from an earlier run counts as long as it took then: a rate of work not done would flatter.
    spent = accounting.phases["predict"]
    spent.seconds = max(spent.seconds, float(context.facts.get("predict_seconds") or 0))
    samples = decide(prepared, decision, scores)
    report = measure(prepared, samples)
    _save(prepared, trained, samples, scores.raw)
    facts = dict(context.facts)
    compared, reload_check = _compare_and_reload(prepared, trained, scores, Scored.of(report, accounting, facts))
    environment = describe_environment()
    write_json(context.workdir / "environment.json", environment)
    outcome = Outcome(
        facts=facts,
        accounting=accounting,
        decision=decision,
        calibration=calibration_report(scores, samples.gold, decision, splits.multilabel),
        report=report,
        collapse=trained.collapse,
        attempts=trained.attempts,
        references=compared,
        reload_check=reload_check,
        environment=environment,
        estimate=needed,
    )
    for line in caveats(outcome):
        log.warning("%s", line)
    results: dict[str, Any] = plain(assemble(prepared, outcome))
    return results


def _save(prepared: Prepared, trained: Trained, samples: Samples, raw: Sequence[str] | None) -> None:
    workdir, private = trained.context.workdir, prepared.task.private
    write_request(workdir, prepared.request)
    trained.method.save(workdir)
    texts = None if private else [example.text for example in prepared.splits.test]
    write_samples(workdir, prepared.task.name, samples, texts, None if private else raw)


def _compare_and_reload(
    prepared: Prepared, trained: Trained, scores: Scores, own: Scored
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score what the method is compared with, then open the saved run in a fresh process.

    Two models never share the memory: the trained one has given its last answers and goes before the first reference
    is loaded, each reference before the next, and all of them before the fresh process.
    """
    method, accounting = trained.method, trained.accounting
    texts = [example.text for example in prepared.splits.test]
    chosen = [texts[row] for row in choose_documents(texts, scores, prepared.splits.multilabel)]
    # Predicted again as these 64 alone: the same batches on both sides leave only what saving may have changed.
    expected = method.predict(chosen)
    references = method.references() if hasattr(method, "references") else {}
    del trained.method, method
    release_memory()
    compared = {}
    if references:
        with accounting.phase("references", documents=len(references) * len(texts)):
            compared = score_references(prepared, references, trained.validation, own)
    del references
    release_memory()
    with accounting.phase("reload_check"):
        outcome = check_reload(trained.context.workdir, chosen, expected, prepared.splits.multilabel, prepared.device)
    if prepared.task.private:
        outcome.pop("message", None)
    if not outcome["passed"]:
        log.warning("the saved model does not repeat the trained one's answers: %s", outcome)
    return compared, outcome


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
