"""The command: measure the curves, print their tables, write their figures and pictures."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.commands import RESULTS, provenance
from benchmarks.scale.fitting import fit
from benchmarks.scale.measuring import Curve, Inputs, measure
from benchmarks.scale.plots import draw
from benchmarks.scale.tables import markdown

CURVES = ("documents", "labels", "length", "ranks", "processes", "cells")


def run_curve(
    name: str, data: Path | None, rounds: int, small: bool, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure a curve: what ``scale_NAME.json`` holds, but for date and machine."""
    module = f"benchmarks.scale.{name}"
    curve: Curve = import_module(module).CURVE
    inputs = Inputs(Path(tempfile.mkdtemp(prefix="evalsuite-scale-")), data)
    sizes = curve.small if small else curve.sizes
    try:
        curve.before(sizes, inputs)
        stages = []
        for stage in curve.stages:
            points = []
            for size in sizes:
                if stage.largest is None or size <= stage.largest:
                    points.append(measure(module, stage.name, size, inputs, rounds))
                    say(f"{stage.name} at {size:,}: {points[-1]['seconds']:.3f} s")
            stages.append({"name": stage.name, "points": points, **exponents(points)})
    finally:
        shutil.rmtree(inputs.folder, ignore_errors=True)
    return {"curve": name, "unit": curve.unit, "fixed": curve.fixed, "small": small, "stages": stages}


def exponents(points: list[dict[str, Any]]) -> dict[str, Any]:
    """The fits of seconds and of peak memory, and the bytes that the largest point holds for each unit."""
    sizes = [point["size"] for point in points]
    fits = {name: fit(sizes, [point[name] for point in points]) for name in ("seconds", "peak_bytes")}
    grown = [(points[-1][name] - points[0][name]) / (sizes[-1] - sizes[0]) for name in ("peak_bytes", "held_bytes")]
    return {
        **{f"{name}_fit": line and asdict(line) for name, line in fits.items()},
        **dict(zip(("peak_bytes_each", "held_bytes_each"), grown, strict=True)),
    }


def main(
    curve: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(CURVES)}")] = None,
    small: Annotated[bool, typer.Option(help="a try of a few seconds; its figures mean nothing")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="rounds a point, fewer where one takes long")] = 3,
    data: Annotated[Path | None, typer.Option(help="folder with more data", envvar="EVALSUITE_TEST_DATA")] = None,
    out: Annotated[Path, typer.Option(help="folder for figures and pictures")] = RESULTS,
) -> None:
    """Measure cost against scale."""
    if unknown := set(curve or ()) - set(CURVES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the curves are {', '.join(CURVES)}")
    errors = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    for name in curve or CURVES:
        found = run_curve(name, data, rounds, small, lambda line: errors.print(line, style="dim", highlight=False))
        found |= {"command": f"python -m benchmarks.scale --curve {name}{' --small' * small}", **provenance()}
        path = out / f"scale_{name}{'_small' * small}.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        draw(found, path.with_suffix(".svg"))
        Console(soft_wrap=True).print(markdown(found), markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
