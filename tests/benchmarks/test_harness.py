"""Sides in turn: what is timed, what is chosen, what a result holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.commands import table, write
from benchmarks.harness import (
    Case,
    Check,
    Floor,
    Options,
    Outputs,
    Side,
    SideError,
    run_case,
    with_torchs_products,
)

SLEEPER = "tests.benchmarks.sleeping_side"


def prepare(job: Path, options: Options) -> None:
    (job / "input.txt").write_text("four" if options.small else "more than four", encoding="utf-8")


def check(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    values = [int(found["answer"][1]) for found in outputs.values()]
    return [Check("largest difference", float(max(values) - min(values)), 0.0, max(values) == min(values))]


def case(*sides: Side, **more: Any) -> Case:
    return Case("t", "sleeping", prepare, sides, {side.name: 2.0 for side in sides[1:]}, check, **more)


def test_ratio_is_the_peers_time_over_ours_and_both_did_the_same() -> None:
    quick = Side("quick", SLEEPER, {"seconds": 0.05})
    slow = Side("slow", SLEEPER, {"seconds": 0.2})
    found = run_case(case(quick, slow), Options(rounds=3, small=True))
    ratio = found["ratios"]["slow"]
    assert 2.5 < ratio["median"] < 5
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert ratio["target"] == 2.0
    assert [len(side["seconds"]) for side in found["sides"]] == [3, 3]
    assert found["checks"] == [{"what": "largest difference", "value": 0.0, "limit": 0.0, "ok": True}]


def test_sides_that_disagree_are_seen() -> None:
    found = run_case(
        case(Side("a", SLEEPER, {"seconds": 0.0}), Side("b", SLEEPER, {"seconds": 0.0, "off": 1})), Options(rounds=1)
    )
    assert not found["checks"][0]["ok"]


def test_the_peer_runs_with_the_fastest_of_its_tries() -> None:
    tries = [{"seconds": 0.2}, {"seconds": 0.02}, {"seconds": 0.1}]
    found = run_case(case(Side("a", SLEEPER, {"seconds": 0.0}), Side("b", SLEEPER, tries=tries)), Options(rounds=1))
    peer = found["sides"][1]
    assert peer["settings"] == {"seconds": 0.02}
    assert [one["settings"] for one in peer["tried"]] == tries


def test_a_try_that_no_memory_holds_is_left_out() -> None:
    full, wrong, held = {"broken": "torch.OutOfMemoryError: CUDA out of memory."}, {"broken": "wrong"}, {"seconds": 0.0}
    ours, peer = Side("a", SLEEPER, {"seconds": 0.0}), Side("b", SLEEPER)
    found = run_case(case(ours, replace(peer, tries=[full, held])), Options(rounds=1))
    assert [one["settings"] for one in found["sides"][1]["tried"]] == [held]
    with pytest.raises(SideError, match="out of memory"):
        run_case(case(ours, replace(peer, tries=[full])), Options(rounds=1))
    with pytest.raises(SideError, match="wrong"):
        run_case(case(ours, replace(peer, tries=[full, wrong, held])), Options(rounds=1))


def test_peak_memory_is_that_of_the_round() -> None:
    big, little = (Side(name, SLEEPER, {"seconds": 0.0, "megabytes": size}) for name, size in (("b", 300), ("a", 1)))
    found = run_case(case(little, big, memory={"b": 0.5}), Options(rounds=1))
    small_peak, big_peak = (side["peak_bytes"][0] for side in found["sides"])
    assert big_peak - small_peak > 250e6
    assert found["ratios"]["b"]["memory"] == pytest.approx(small_peak / big_peak)


def test_a_command_is_timed_from_start_to_exit() -> None:
    code = "import time, sys, numpy; time.sleep(0.3); numpy.savez(sys.argv[1] + '/whole.npz', answer=numpy.zeros(2))"
    whole = Side("whole", command=["{python}", "-c", code, "{job}"])
    found = run_case(case(whole, Side("b", SLEEPER, {"seconds": 0.0})), Options(rounds=1))
    assert 0.3 < found["sides"][0]["seconds"][0] < 10
    assert found["checks"][0]["ok"]


def test_our_side_without_onednn_keeps_to_torchs_own_products() -> None:
    code = (
        "import sys, numpy, benchmarks.ours; from evalsuite.llm.loading import matmul; "
        "numpy.savez(sys.argv[1] + '/' + sys.argv[2], answer=[0, matmul.mkl_holds_back.__name__ == '<lambda>'])"
    )
    ours = Side("a", command=["{python}", "-c", code, "{job}", "a.npz"])
    without = with_torchs_products(ours)
    found = run_case(case(ours, replace(without, name="b", command=[*ours.command[:-1], "b.npz"])), Options(rounds=1))
    assert found["checks"][0]["value"] == 1  # the one differs from the other


def test_a_side_that_ends_is_told_with_what_it_printed() -> None:
    with pytest.raises(SideError, match="broken on purpose"):
        run_case(case(Side("a", SLEEPER, {"seconds": 0.0, "broken": "broken on purpose"})), Options(rounds=1))
    with pytest.raises(SideError, match="ended with 3"):
        run_case(case(Side("a", command=[sys.executable, "-c", "raise SystemExit(3)"])), Options(rounds=1))


def test_without_the_peers_environment_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harness, "PEERS", tmp_path / "absent")
    with pytest.raises(SideError, match="make peers"):
        run_case(case(Side("a", SLEEPER, {"seconds": 0.0}, peer=True)), Options(rounds=1))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_are_those_that_a_side_may_use() -> None:
    code = "import os, sys, numpy; n = len(os.sched_getaffinity(0)); numpy.savez(sys.argv[1] + '/a.npz', answer=[0, n])"
    command = Side("a", command=["{python}", "-c", code, "{job}"])

    def one_core(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
        count = float(outputs["a"]["answer"][1])
        return [Check("cores", count, 1.0, count == 1)]

    one = Case("t", "cores", prepare, [command], {}, one_core, cores=1)
    assert run_case(one, Options(rounds=1))["checks"][0]["ok"]


def test_a_result_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    def floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
        return Floor(0.01, "sleep is not faster")

    sides = Side("quick", SLEEPER, {"seconds": 0.02}), Side("slow", SLEEPER, tries=[{"seconds": 0.1}])
    found = run_case(case(*sides, floor=floor), Options(rounds=1, small=True))
    assert write(found, tmp_path).name == "t_small.json"
    Console(width=160).print(table(found))
    printed = capsys.readouterr().out
    assert "slow (seconds=0.1)" in printed
    assert "2x met" in printed
    assert "sleep is not faster" in printed
    assert np.isclose(found["floor"]["share"], 0.01 / found["sides"][0]["seconds"][0])
