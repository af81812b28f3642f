"""Whether an exported model says what the run's says: its README's snippet, executed in a fresh process.

Shapes: n documents, k labels.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.contracts import Bools, Scores
from evalsuite.decision import Decision
from evalsuite.environment import without_launcher
from evalsuite.errors import ModelError
from evalsuite.reload import DOCUMENTS, TIMEOUT_SECONDS, TOLERANCE, choose_documents
from evalsuite.samples import Samples

CHILD = Path(__file__).with_name("export_child.py")
# Half precision rounds by up to this share of a number (machine epsilon): logits may differ by so much of the largest.
EPSILON = {"bfloat16": 2**-7, "float16": 2**-10}
# Logits that differ by more than so many tolerances come from another model, whatever the labels.
FAR = 5
# Without logits nobody can tell which answers were close: of 64, so many written ones may differ.
WRITTEN_MAY_DIFFER = 3
WORDS = (  # noqa: SIM905 - forty quoted words read worse
    "the a of and to in is was for on with by at from new old first last high low good water market team game law"
    " study people city year day method system price house world music science company report number result plan"
).split()


def check_texts(samples: Samples, texts: Mapping[str, str], multilabel: bool) -> list[str]:
    """At most 64 texts to check with: the run's scored documents, half of them its closest calls.

    ``texts`` are by document hash. Where the run keeps none, 64 made ones of 1 to 256 common words.
    """
    kept = [row for row, code in enumerate(samples.hashes) if texts.get(code, "").strip()]
    if not kept:
        random = np.random.default_rng(0)
        lengths = np.geomspace(1, 256, DOCUMENTS).astype(int)
        return [" ".join(random.choice(WORDS, size)) for size in lengths]
    known, status = [texts[samples.hashes[row]] for row in kept], [samples.status[row] for row in kept]
    if samples.probabilities is None:
        scores = Scores(predicted=samples.predicted[kept], status=status)
    else:
        # rows without an answer are NaN, and are never chosen
        p = np.nan_to_num(samples.probabilities[kept], nan=0.5).clip(1e-6, 1 - 1e-6)
        logits = np.log(p) - np.log1p(-p) if multilabel else np.log(p)
        scores = Scores(logits=logits.astype(np.float32), status=status)
    return [known[row] for row in choose_documents(known, scores, multilabel)]


def run_snippet(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """What the snippet in ``folder``'s README says of ``texts``; see ``export_child``.

    Raises:
        ModelError: the snippet fails, or does not end in time.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(CHILD)],
            input=json.dumps(list(texts)),
            cwd=folder,
            env=without_launcher(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"the exported model did not answer within {TIMEOUT_SECONDS} s; it is not kept") from None
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"the snippet of the exported model fails without evalsuite: {last}")
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer


def compare(
    expected: Scores, answer: Mapping[str, Any], decision: Decision, labels: Sequence[str], dtypes: Sequence[str]
) -> dict[str, Any]:
    """Agreement of the run's scores with a snippet's answer, as plain numbers; ``passed`` is the verdict.

    ``dtypes`` are the precisions of the run and of the export; the coarser one makes the tolerance.
    """
    told = np.array([[label in given for label in labels] for given in answer["labels"]], np.bool_)
    wanted = decision.decide(expected)
    differs = told != wanted
    tolerance, allowed, largest = 0.0, WRITTEN_MAY_DIFFER, None
    if expected.logits is not None:
        coarse = max(EPSILON.get(dtype, 0.0) for dtype in dtypes)
        tolerance, allowed = max(TOLERANCE, coarse * float(np.abs(expected.logits).max())), 0
        largest = float(np.abs(np.array(answer["logits"]) - expected.logits).max())
        differs &= ~_close_calls(expected, decision, tolerance)
    wrong = int(differs.any(axis=1).sum())
    return {
        "passed": wrong <= allowed and (largest is None or largest <= FAR * tolerance),
        "documents": len(expected),
        "labels_differ": int((told != wanted).any(axis=1).sum()),
        "labels_differ_outside_tolerance": wrong,
        "largest_logit_difference": largest,
        "tolerance": tolerance,
    }


def _close_calls(scores: Scores, decision: Decision, tolerance: float) -> Bools:
    """bool [n, k]: labels whose logit is within ``tolerance`` of where the decision would change."""
    calibrated = decision.calibrated(scores)
    assert calibrated is not None
    # the tolerance is in the model's logits, the border in calibrated ones
    scale = np.array(decision.scale) if decision.scale else 1 / decision.temperature
    if decision.rule == "argmax":
        border: npt.NDArray[np.float64] = calibrated.max(axis=1, keepdims=True)
        return np.asarray(np.abs(calibrated - border) <= tolerance * scale)
    if decision.top_k is not None:
        ordered = -np.sort(-calibrated, axis=1)
        last_in, first_out = ordered[:, [decision.top_k - 1]], ordered[:, [min(decision.top_k, len(ordered[0]) - 1)]]
        near = np.where(decision.decide(scores), calibrated - first_out, last_in - calibrated)
        return np.asarray(near <= tolerance * scale)
    thresholds = np.array(decision.thresholds or (0.5,))
    border = np.log(thresholds) - np.log1p(-thresholds)
    return np.asarray(np.abs(calibrated - border) <= tolerance * scale)
