"""A run's decision for those who have its exported model alone: a file of numbers, and the code that applies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalsuite.decision import Decision

SINGLE = '''

def classify(texts):
    """The label of each text, and the probability of every label."""
    logits = {calibrated}
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    labels = decision["labels"]
    return [(labels[best], dict(zip(labels, row.tolist()))) for best, row in zip(logits.argmax(axis=1), probabilities)]
'''
MULTI = '''

def classify(texts):
    """The labels of each text, and the probability of every label."""
    logits = {calibrated}
    probabilities = (1 + np.tanh(logits / 2)) / 2  # the sigmoid, without overflow
    chosen = {chosen}
    labels = decision["labels"]
    return [
        ([label for label, yes in zip(labels, given) if yes], dict(zip(labels, row.tolist())))
        for given, row in zip(chosen, probabilities)
    ]
'''
EXAMPLE = '\n\nprint(classify(["Text to classify."]))\n'
THRESHOLDS = 'probabilities >= np.array(decision["thresholds"])'
TOP_K = 'np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1) < decision["top_k"]'
CALIBRATED = {
    "none": "score(texts)",
    "temperature": 'score(texts) / decision["temperature"]',
    "vector": 'score(texts) * decision["scale"] + decision["bias"]',
}


def decision_json(decision: Decision, labels: Sequence[str]) -> dict[str, Any]:
    """The content of decision.json: the labels in the order of the logits, and what the decision uses of the rest."""
    data: dict[str, Any] = {"labels": list(labels), "multilabel": decision.multilabel, "rule": decision.rule}
    if decision.calibration == "temperature":
        data["temperature"] = decision.temperature
    elif decision.calibration == "vector":
        data |= {"scale": list(decision.scale), "bias": list(decision.bias)}
    if decision.rule == "top_k":
        data["top_k"] = decision.top_k
    elif decision.rule in ("threshold", "thresholds"):
        data["thresholds"] = list(decision.thresholds or (0.5,))
    return data


def classify_source(decision: Decision) -> str:
    """``classify(texts)`` on top of a method's ``score(texts)``, and an example of its use.

    Where the method gives no logits, its own snippet has ``classify`` already.
    """
    if decision.own_labels:
        return EXAMPLE
    calibrated = CALIBRATED[decision.calibration]
    if not decision.multilabel:
        return SINGLE.format(calibrated=calibrated) + EXAMPLE
    return MULTI.format(calibrated=calibrated, chosen=TOP_K if decision.rule == "top_k" else THRESHOLDS) + EXAMPLE
