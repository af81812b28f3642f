"""Training, and training again with another seed where it was asked for and the trained method has collapsed."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from evalsuite.accounting import Accounting
from evalsuite.collapse import Collapse, detect_collapse, majority_decisions
from evalsuite.contracts import Method, RunContext
from evalsuite.decision import ValidationParts, split_validation
from evalsuite.errors import UsageError
from evalsuite.memory import release_memory
from evalsuite.metrics import one_hot
from evalsuite.preparation import Prepared, loads_model
from evalsuite.scoring import Calibrated, calibrate
from evalsuite.store import write_json

log = logging.getLogger("evalsuite")
CHECKPOINTS = "checkpoints"
ATTEMPTS = "attempts.json"


@dataclass(frozen=True)
class Attempt:
    """One training of a run. ``collapsed``, ``reasons`` and ``f1_macro`` are those of its ``Collapse``."""

    seed: int
    collapsed: bool | None
    reasons: tuple[str, ...]
    f1_macro: float | None
    train_seconds: float
    train_tokens: int
    calibrate_seconds: float


@dataclass
class Trained:
    """The method that is kept, the context it was built with, and how it came about; its attempt is the last one."""

    method: Method
    context: RunContext
    accounting: Accounting
    validation: ValidationParts
    calibrated: Calibrated
    collapse: Collapse
    attempts: tuple[Attempt, ...]


def check_retries(retries: int) -> None:
    """Refuse what cannot work.

    Raises:
        UsageError: retries under a launcher, where the processes that only train do not know of a collapse.
    """
    if retries and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"--retries {retries} works in one process, WORLD_SIZE is {os.environ['WORLD_SIZE']}; "
            "leave --retries away, or start without the launcher"
        )


def train(prepared: Prepared, context: RunContext) -> Trained:
    """Build, fit and calibrate; with ``--retries N`` up to N times again while the method has collapsed.

    An interrupted run goes on in the attempt it was in: the ones before are kept in ``attempts.json``.
    """
    validation = split_validation(prepared.splits.validation)
    kept = context.workdir / ATTEMPTS
    attempts = _read(kept)
    tries = prepared.spec.retries + 1
    while True:
        own = replace(context, seed=attempt_seed(prepared.spec.seed, len(attempts)), facts=dict(context.facts))
        accounting = Accounting()
        method = fit(prepared, own, validation, accounting)
        with accounting.phase("calibrate") as spent:
            calibrated = calibrate(prepared, validation, method)
            spent.documents += len(calibrated.gold)
        collapse = judge(prepared, calibrated)
        attempts.append(_attempt(own, collapse, accounting))
        if not collapse.collapsed or len(attempts) == tries:
            _count_earlier(accounting, attempts[:-1], len(prepared.splits.train), len(validation.calibration))
            return Trained(method, own, accounting, validation, calibrated, collapse, tuple(attempts))
        log.warning("attempt %d of %d has collapsed: %s", len(attempts), tries, "; ".join(collapse.reasons))
        del method, calibrated
        release_memory()
        # In this order: a kill in between repeats this attempt, and never feeds its checkpoint to the next one.
        clear_checkpoints(context.workdir)
        write_json(kept, [asdict(attempt) for attempt in attempts])


def fit(prepared: Prepared, context: RunContext, validation: ValidationParts, accounting: Accounting) -> Method:
    """One training, with the context's seed."""
    # Before the model is built: a head is random too.
    _seed(prepared, context.seed)
    method = prepared.method.build(prepared.options, context)
    with accounting.phase("train", documents=len(prepared.splits.train)):
        method.fit(prepared.splits.train, validation.stopping)
    # A training that went on from a checkpoint reports its seconds from the beginning.
    spent = accounting.phases["train"]
    spent.seconds = max(spent.seconds, float(context.facts.get("train_seconds") or 0))
    return method


def clear_checkpoints(workdir: Path) -> None:
    """Remove every checkpoint below ``workdir``: a method that trains twice keeps them in a folder for each."""
    for folder in list(workdir.rglob(CHECKPOINTS)):
        shutil.rmtree(folder, ignore_errors=True)


def attempt_seed(seed: int, number: int) -> int:
    """The seed of attempt ``number``, from 0. Not the next integer: in a study of seeds that one is another run's."""
    if number == 0:
        return seed
    return int.from_bytes(blake2b(f"{seed} attempt {number}".encode(), digest_size=4).digest())


def judge(prepared: Prepared, calibrated: Calibrated) -> Collapse:
    """Whether the method has collapsed, by the documents its decision was fitted on: they were predicted anyway."""
    if not prepared.method.trained:
        return Collapse(None, ("the method is not trained",))
    if calibrated.scores is None:
        return Collapse(None, ("there are no validation documents",))
    splits, gold, scores = prepared.splits, calibrated.gold, calibrated.scores
    majority = majority_decisions(one_hot(splits.train, len(splits.labels)), gold, splits.multilabel)
    return detect_collapse(gold, calibrated.decision.decide(scores), majority, scores.status)


def _seed(prepared: Prepared, seed: int) -> None:
    if loads_model(prepared.method, prepared.options):
        from evalsuite.llm.training.seeding import seed_everything

        seed_everything(seed)
    else:
        random.seed(seed)
        np.random.seed(seed)


def _attempt(context: RunContext, collapse: Collapse, accounting: Accounting) -> Attempt:
    return Attempt(
        context.seed,
        collapse.collapsed,
        collapse.reasons,
        collapse.f1_macro,
        accounting.phases["train"].seconds,
        int(context.facts.get("train_tokens") or 0),
        accounting.phases["calibrate"].seconds,
    )


def _count_earlier(accounting: Accounting, earlier: Iterable[Attempt], trained: int, calibrated: int) -> None:
    """What was trained in vain was paid for too."""
    for attempt in earlier:
        train, calibrate = accounting.phases["train"], accounting.phases["calibrate"]
        train.seconds += attempt.train_seconds
        train.documents += trained
        train.tokens += attempt.train_tokens
        calibrate.seconds += attempt.calibrate_seconds
        calibrate.documents += calibrated


def _read(path: Path) -> list[Attempt]:
    if not path.is_file():
        return []
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [Attempt(**{**entry, "reasons": tuple(entry["reasons"])}) for entry in entries]
