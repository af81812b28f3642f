"""``reproduce``: a paper's grid of runs, and its published figures beside ours."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from evalsuite.cli import console
from evalsuite.cli.running import registry_for
from evalsuite.errors import EvalsuiteError, UnknownNameError, UsageError
from evalsuite.reproduce.grid import Plan, Request, make_plan
from evalsuite.sweep import check

if TYPE_CHECKING:
    from evalsuite.engines.local import Finished
    from evalsuite.registry import Registry
    from evalsuite.reproduce.table import Findings

PAPERS = ("paper",)

commands = typer.Typer()


@commands.command("reproduce")
def reproduce(
    name: str = typer.Argument(help="What is reproduced: paper, which is arXiv 2512.12677."),
    scale: str = typer.Option("small", "--scale", help="small: a rehearsal on samples and small models; or paper."),
    only: list[str] = typer.Option(None, "--only", help="clv, wipo or ag_news; repeatable."),
    data: list[str] = typer.Option(None, "--data", help="corpus=PLACE, where a corpus is; repeatable."),
    models: list[str] = typer.Option(None, "--model", help="MODEL=PLACE, what is run for one of the grid; repeatable."),
    encoder: str = typer.Option(None, "--encoder", help="Scale small: folder or id of the encoder."),
    assignments: list[str] = typer.Option(None, "--set", help="key=value for every cell, or METHOD.key=value."),
    tolerance: float = typer.Option(None, "--tolerance", min=0, help="Tell which F1 is this near the published one."),
    output_path: str = typer.Option("runs/reproduce", "--output-path", help="Folder for run directories."),
    jobs: int = typer.Option(1, "--jobs", min=1, help="Cells that run at the same time."),
    table_only: bool = typer.Option(False, "--table-only", help="Print the table of what has run; run nothing."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check and print the cells; run nothing."),
    as_markdown: bool = typer.Option(False, "--markdown", help="Print Markdown."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a paper's grid and print its published figures beside ours; complete cells are skipped."""
    if name not in PAPERS:
        raise UnknownNameError("paper", name, PAPERS)
    request = Request(
        scale=scale,
        only=tuple(only or ()),
        data=_pairs(data, "--data"),
        models=_pairs(models, "--model"),
        encoder=encoder,
        assignments=tuple(assignments or ()),
        output_path=output_path,
    )
    if encoder and scale != "small":
        raise UsageError(f"--encoder is for --scale small; at --scale {scale} name stand-ins with --model MODEL=PLACE")
    plan, registry = make_plan(request), registry_for(None)
    if dry_run:
        _print_cells(registry, plan, as_json)
        return
    findings = _found(registry, plan) if table_only else _run(registry, plan, jobs)
    _print_rows(findings, tolerance, as_markdown, as_json, _command(request, tolerance))
    failed = [problem for problem in findings.problems.values() if problem.failed]
    for problem in failed:
        console.note(f"failed: {problem.reason}" + (f" ({problem.log})" if problem.log else ""))
    if failed:
        raise EvalsuiteError(f"{len(failed)} cells failed; the same command tries them again")


def _pairs(texts: Iterable[str] | None, flag: str) -> dict[str, str]:
    """``name=place`` texts. Raises: UsageError where one is none."""
    pairs = {}
    for text in texts or ():
        name, sign, place = text.partition("=")
        if not (name and sign and place):
            raise UsageError(f"{flag} {text!r}: expected a name, =, and what stands for it")
        pairs[name] = place
    return pairs


def _run(registry: Registry, plan: Plan, jobs: int) -> Findings:
    from evalsuite.reproduce.rendering import LABEL
    from evalsuite.reproduce.running import run_plan
    from evalsuite.reproduce.table import short_model

    if plan.rehearsal:
        console.note(LABEL)
    total, done = sum(len(grid.sweep.cells) for grid in plan.grids.values() if not grid.absent), 0
    with console.Bars().bar("reproduce", total, "cells") as advance:

        def report(outcome: Finished) -> None:
            nonlocal done
            done += 1
            ends = {"done": f"in {outcome.seconds:.0f} s", "there": "complete before"}
            told = ends.get(outcome.state, f"failed: {outcome.problem}")
            varied = [f"{name}={short_model(str(value))}" for name, value in outcome.cell.varied.items()]
            console.note(f"[{done}/{total}] {outcome.cell.values['task']} {' '.join(varied)}: {told}")
            advance(1)

        return run_plan(registry, plan, jobs, report)


def _found(registry: Registry, plan: Plan) -> Findings:
    from evalsuite.reproduce.running import find

    return find(registry, plan)


def _print_rows(
    findings: Findings, tolerance: float | None, as_markdown: bool, as_json: bool, command: Sequence[str]
) -> None:
    from evalsuite.reproduce.rendering import as_data, label, markdown, numeric, tables
    from evalsuite.reproduce.table import make_rows

    rows = make_rows(findings, tolerance)
    if as_json:
        console.out(json.dumps(as_data(findings.plan, rows), ensure_ascii=False))
        return
    if as_markdown:
        console.out(markdown(findings.plan, rows, shlex.join([*command, "--markdown"])))
        return
    if over := label(findings.plan, rows):
        console.out(over)
    for columns, texts in tables(rows):
        console.out("")
        console.table(columns, texts, right=numeric(columns))
    console.note("sources and assumptions: --table_only --markdown")


def _print_cells(registry: Registry, plan: Plan, as_json: bool) -> None:
    """Every cell, checked, with what it runs or why it does not."""
    from evalsuite.reproduce.rendering import LABEL
    from evalsuite.reproduce.table import short_model

    data, texts = [], []
    for grid in plan.grids.values():
        check(registry, grid.sweep)
        for entry in grid.entries:
            absent, cells = grid.absent or entry.absent, [dict(cell.values) for cell in entry.cells]
            data.append({"corpus": grid.corpus, "asked": dict(entry.asked), "absent": absent or None, "cells": cells})
            asked = " ".join(f"{name}={value}" for name, value in entry.asked.items() if name != "model")
            models = ", ".join(dict.fromkeys(short_model(str(values["model"])) for values in cells))
            state = f"not run: {absent}" if absent else f"{len(cells)} with {models}"
            texts.append((grid.corpus, asked, str(entry.asked["model"]), state))
    if as_json:
        console.out(json.dumps({"label": LABEL if plan.rehearsal else None, "entries": data}, ensure_ascii=False))
        return
    if plan.rehearsal:
        console.out(LABEL)
    console.table(("corpus", "options", "model", "cells"), texts)


def _command(request: Request, tolerance: float | None) -> list[str]:
    """The command that prints the table again."""
    words = ["evalsuite", "reproduce", "paper", "--scale", request.scale]
    for flag, values in (
        ("--only", request.only),
        ("--data", [f"{name}={place}" for name, place in request.data.items()]),
        ("--model", [f"{name}={place}" for name, place in request.models.items()]),
        ("--encoder", [request.encoder] if request.encoder else []),
        ("--set", request.assignments),
        ("--tolerance", [] if tolerance is None else [f"{tolerance:g}"]),
        ("--output_path", [] if request.output_path == Request.output_path else [request.output_path]),
    ):
        words += [word for value in values for word in (flag, value)]
    return [*words, "--table_only"]
