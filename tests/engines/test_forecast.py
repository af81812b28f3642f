"""How long a sweep may take: what is remembered for requests of one size is what each would have been told."""

from __future__ import annotations

from typing import Any

import pytest

from evalsuite.engines import forecast
from evalsuite.spec import RunSpec


def finished(seconds: float) -> dict[str, Any]:
    return {
        "task": "words",
        "method": "net",
        "model": None,
        "labels": ["a", "b"],
        "cost": {"train": {"seconds": seconds}, "predict": {"seconds": seconds / 2}},
        "data": {"full_sizes": {"train": 100, "validation": 20, "test": 50}, "sizes": {"train": 100}},
        "options": {"method": {"epochs": 2}},
        "attempts": [{}],
        "metrics": {"counts": {"documents": 50}},
    }


def test_a_remembered_forecast_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [finished(seconds) for seconds in (1.0, 3.0, 8.0)]
    specs = [
        RunSpec(task="words", method="net", seed=seed, method_options={"epochs": epochs}, train_limit=limit)
        for seed in (0, 1)
        for epochs in (1, 2)
        for limit in (None, 10)
    ]
    plain = [forecast.about_seconds(spec, runs) for spec in specs]
    asked: list[RunSpec] = []
    original = forecast.about_seconds
    monkeypatch.setattr(forecast, "about_seconds", lambda spec, known: asked.append(spec) or original(spec, known))
    remembered = forecast._remembered(runs)
    assert [remembered(spec) for spec in specs] == plain
    assert len(set(plain)) == 4
    assert len(asked) == 4  # not once a seed
