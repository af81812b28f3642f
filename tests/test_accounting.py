"""Seconds, documents, tokens, memory, price."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evalsuite.accounting import Accounting, peak_memory, price


def ticking(*times: float) -> Accounting:
    return Accounting(clock=iter(times).__next__)


def test_a_phase_counts_seconds_documents_and_tokens() -> None:
    accounting = ticking(10.0, 14.0)
    with accounting.phase("predict", documents=100) as phase:
        phase.tokens += 2_000
    assert accounting.to_json() == {
        "predict": {
            "seconds": 4.0,
            "documents": 100,
            "documents_per_second": 25.0,
            "tokens": 2_000,
            "tokens_per_second": 500.0,
        }
    }


def test_a_phase_entered_again_goes_on() -> None:
    accounting = ticking(0.0, 1.0, 5.0, 8.0)
    for _ in range(2):
        with accounting.phase("train", documents=8):
            pass
    assert accounting.phases["train"].seconds == 4.0
    assert accounting.phases["train"].documents == 16


def test_a_phase_that_fails_is_timed_too() -> None:
    accounting = ticking(0.0, 3.0)
    with pytest.raises(RuntimeError, match="no memory"), accounting.phase("train"):
        raise RuntimeError("no memory")
    assert accounting.phases["train"].seconds == 3.0


def test_rates_are_null_where_nothing_was_counted() -> None:
    accounting = ticking(1.0, 1.0, 2.0, 3.0)
    with accounting.phase("instant", documents=5):
        pass
    with accounting.phase("calibrate"):
        pass
    assert accounting.to_json()["instant"]["documents_per_second"] is None
    assert accounting.to_json()["calibrate"]["tokens_per_second"] is None


def test_the_default_clock_runs() -> None:
    accounting = Accounting()
    with accounting.phase("train"):
        sum(range(10_000))
    assert accounting.phases["train"].seconds > 0


def test_peak_memory_grows_with_what_is_held_and_stays() -> None:
    before = peak_memory()
    held = bytearray(b"x") * (before + 50_000_000)
    size = len(held)
    del held
    assert peak_memory() >= size > before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count differently")
def test_a_child_does_not_report_the_peak_of_its_large_parent() -> None:
    held = bytearray(b"x") * 400_000_000
    command = [sys.executable, "-c", "from evalsuite.accounting import peak_memory; print(peak_memory())"]
    child = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 5_000_000 < child < 200_000_000 < len(held)


def test_price_is_null_without_a_rate() -> None:
    assert price(1_800, 2.0) == 1.0
    assert price(1_800, None) is None
