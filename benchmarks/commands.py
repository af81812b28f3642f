"""The command of a row: measure its cases, print the table, write ``results/CASE.json``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.harness import PEERS, Case, Options, SideError, run_case
from evalsuite.environment import describe_environment

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("lm_eval", "trl", "sentence-transformers", "transformers", "scikit-learn", "torch")


# options of every row's command
Chosen = Annotated[list[str] | None, typer.Option(help="a case of this row; may be repeated")]
Rounds = Annotated[int, typer.Option(min=1, help="rounds that count")]
Small = Annotated[bool, typer.Option(help="a try of a few seconds; its figures mean nothing")]
Data = Annotated[Path | None, typer.Option(help="folder with more data", envvar="EVALSUITE_TEST_DATA")]
Out = Annotated[Path, typer.Option(help="folder for the results")]


def main(cases: Sequence[Case]) -> None:
    """Run the cases of a row as the command line asks."""

    def command(
        case: Chosen = None, rounds: Rounds = 5, small: Small = False, data: Data = None, out: Out = RESULTS
    ) -> None:
        raise typer.Exit(run(cases, case or (), Options(rounds, small, data), out))

    typer.run(command)


def run(cases: Sequence[Case], chosen: Collection[str], options: Options, out: Path) -> int:
    """Measure the cases ``chosen`` by name (none: all): exit status 1 where a check failed, 2 where a side ended.

    Raises:
        typer.BadParameter: a name of no case.
    """
    names = [one.name for one in cases]
    if unknown := set(chosen) - set(names):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: this row has {', '.join(names)}")
    console, failed = Console(stderr=True), False
    for one in cases:
        if chosen and one.name not in chosen:
            continue
        try:
            found = measured(one, options, console)
        except SideError as error:
            console.print(str(error), style="red", markup=False)
            return 2
        write(found, out)
        Console().print(table(found))
        failed = failed or not all(check["ok"] for check in found["checks"])
    return int(failed)


def measured(case: Case, options: Options, console: Console) -> dict[str, Any]:
    """What a case's result file holds: its figures, the command, the date, the machine and the versions."""
    with console.status(case.work) as status:

        def say(line: str) -> None:
            status.update(f"{case.work}: {line.strip()}")
            console.print(line, style="dim", markup=False, highlight=False)

        found = run_case(case, options, say)
    # the data's folder is the user's own: a result names what the row was called with, not where things lie
    arguments = [argument for argument in sys.argv[1:] if "/" not in argument]
    module = Path(sys.argv[0]).stem
    return found | {
        "command": " ".join(["python", "-m", f"benchmarks.{module}", *arguments]),
        **provenance(),
    }


def provenance() -> dict[str, Any]:
    """When, where and with which versions something was measured."""
    environment = describe_environment()
    kept = ("evalsuite", "python", "processor", "cpu_count", "memory_bytes", "gpu", "packages")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {name: environment[name] for name in kept},
        "cores": len(os.sched_getaffinity(0)),
        "peers": peer_versions(),
    }


def peer_versions() -> dict[str, str]:
    """Versions in the peers' environment; of what this environment has, where that is not there."""
    if not PEERS.is_file():
        return {name: version(name) for name in PACKAGES[2:]}
    code = "import sys; from importlib.metadata import version; [print(n, version(n)) for n in sys.argv[1:]]"
    printed = subprocess.run([PEERS, "-c", code, *PACKAGES], check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in printed.splitlines())


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write ``CASE.json`` (``CASE_small.json`` of a try) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['case']}{'_small' if found['small'] else ''}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def table(found: dict[str, Any]) -> Table:
    """The case for a terminal: seconds of every side, ratios, checks and the floor."""
    shown = Table(title=f"{found['case']}: {found['work']}", title_justify="left")
    for name in ("side", "median s", "min", "max", "peak MB", "ratio (min to max)", "target"):
        shown.add_column(name, justify="left" if name == "side" else "right", overflow="fold")
    for side in found["sides"]:
        shown.add_row(*side_cells(found, side))
    checks = [
        f"{'ok' if c['ok'] else 'DIFFERS'}: {c['what']}: {c['value']:.3g} ({c['limit']:g})" for c in found["checks"]
    ]
    floor = found["floor"]
    if floor:
        checks.append(f"floor: {floor['seconds']:.3g} s, {floor['share']:.0%} of our time: {floor['how']}")
    shown.caption, shown.caption_justify = "\n".join(checks), "left"
    return shown


def side_cells(found: Mapping[str, Any], side: Mapping[str, Any]) -> list[str]:
    """One side's row: name with its chosen settings, seconds, peak memory, ratio and target."""
    seconds, ratio = side["seconds"], found["ratios"].get(side["name"])
    tried = {name for one in side["tried"] for name in one["settings"]}
    chosen = [f"{name}={value}" for name, value in side["settings"].items() if name in tried]
    cells = [
        f"{side['name']} ({', '.join(chosen)})" if chosen else side["name"],
        f"{median(seconds):.3f}",
        f"{min(seconds):.3f}",
        f"{max(seconds):.3f}",
        f"{median(side['peak_bytes']) / 1e6:.0f}",
    ]
    if ratio is None:
        return [*cells, "", ""]
    met = ""
    if ratio["target"] is not None:
        met = f"{ratio['target']:g}x {'met' if ratio['median'] >= ratio['target'] else 'not met'}"
    if "memory" in ratio:
        met += f"; memory {ratio['memory']:.2f} of {ratio['memory_target']:g}"
    return [*cells, f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})", met]
