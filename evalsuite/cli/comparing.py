"""``compare``: which systems differ, how sure that is, and what they cost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from evalsuite.cli import console
from evalsuite.errors import UsageError

if TYPE_CHECKING:
    from evalsuite.compare.comparison import Comparison, Settings
    from evalsuite.compare.tables import Part
    from evalsuite.report.grouping import Group
    from evalsuite.spec import RunResult

commands = typer.Typer()


@commands.command("compare")
def compare(
    runs: list[str] = typer.Argument(
        help="Run directories, folders of them, patterns, or conditions such as task=wipo method=embedding,bert."
    ),
    metric: str = typer.Option(None, "--metric", help="What is compared (default: the task's primary metric)."),
    per_label: bool = typer.Option(False, "--per-label", help="McNemar's test on every label, too."),
    mcnemar: bool = typer.Option(False, "--mcnemar", help="Print McNemar's test of every pair and seed."),
    ranks: bool = typer.Option(False, "--ranks", help="Mean ranks over six or more tasks, with a critical difference."),
    alpha: float = typer.Option(0.05, "--alpha", help="What Holm's p must not exceed to be called certified."),
    resamples: int = typer.Option(10_000, "--resamples", min=100, help="Resamples of the bootstrap."),
    seed: int = typer.Option(0, "--seed", min=0, help="Seed of the bootstrap."),
    output_path: str = typer.Option("runs", "--output-path", help="Folder of all runs: conditions ask those below it."),
    as_markdown: bool = typer.Option(False, "--markdown", help="Print Markdown."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compare finished runs: a leaderboard with costs, every pair tested, and what that means in a sentence each."""
    from evalsuite.compare.comparison import Settings
    from evalsuite.compare.ranks import rank_systems
    from evalsuite.compare.tables import markdown, parts_of, plain_comparison, rank_table
    from evalsuite.selection import select_runs

    if not 0 < alpha < 0.5:
        raise UsageError(f"--alpha {alpha:g} is no error rate; expected one between 0 and 0.5, such as 0.05")
    console.show_log()
    settings = Settings(metric, alpha, resamples, seed, per_label)
    comparisons = _comparisons(select_runs(runs, output_path), settings, output_path)
    ranking = rank_systems(comparisons) if ranks else None
    if as_json:
        data = {"comparisons": [*map(plain_comparison, comparisons)], "ranks": asdict(ranking) if ranking else None}
        console.out(json.dumps(data, ensure_ascii=False))
        return
    parts = [part for comparison in comparisons for part in parts_of(comparison, mcnemar=mcnemar)]
    parts += [rank_table(ranking)] if ranking else []
    if as_markdown:
        flags = {"--metric": metric, "--per_label": per_label, "--mcnemar": mcnemar, "--ranks": ranks, "--alpha": alpha}
        flags |= {"--resamples": resamples, "--seed": seed, "--output_path": output_path}
        console.out("\n\n".join([f"Printed by `{_command(runs, flags)}`.", *map(markdown, parts)]))
    else:
        _print(parts)


def _comparisons(runs: Sequence[RunResult], settings: Settings, output_path: str) -> list[Comparison]:
    """One comparison a task, in the order of the runs."""
    from evalsuite.compare.comparison import compare_groups
    from evalsuite.report.grouping import group_runs, of_one_split
    from evalsuite.selection import runs_below

    scored, trials = of_one_split(runs)
    if trials:
        console.note(f"trials scored on validation, left out: {trials}")
    groups, superseded = group_runs(scored)
    if superseded:
        console.note(f"older runs of the same options and seed, left out: {superseded}")
    by_task: dict[str, list[Group]] = {}
    for group in groups:
        by_task.setdefault(group.fields["task"], []).append(group)
    finished = runs_below(output_path)
    return [compare_groups(alike, settings, [*runs, *finished]) for alike in by_task.values()]


def _print(parts: Sequence[Part]) -> None:
    from evalsuite.compare.tables import Table

    for part in parts:
        if isinstance(part, Table):
            if part.title:
                console.out(part.title)
            console.table(part.columns, part.rows, right=part.numeric)
        else:
            for line in part:
                console.out(line)
        console.out("")


def _command(runs: Sequence[str], flags: Mapping[str, Any]) -> str:
    """What was typed, as far as it changes what is printed."""
    defaults = {"--alpha": 0.05, "--resamples": 10_000, "--seed": 0, "--output_path": "runs"}
    words = ["evalsuite", "compare", *runs]
    for flag, value in flags.items():
        if value is True:
            words.append(flag)
        elif value and value != defaults.get(flag):
            words += [flag, str(value)]
    return shlex.join([*words, "--markdown"])
