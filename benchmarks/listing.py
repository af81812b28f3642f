"""``evalsuite ls tasks`` beside ``lm-eval ls tasks``, from start to exit.

The work: a process that starts, finds the tasks there are, prints them and ends; files in the page cache, bytecode
cached, no hub asked.

The peer: lm-eval, which ships some 15,000 tasks, groups and tags as YAML files and opens them all; there is no faster
way to ask it. evalsuite ships a handful: 7a lists them. Listing less is no merit, so that 7b lists as many as lm-eval
does, from a plugin that is a Python file.

Compared: that each side has listed its tasks, in 7b as many.

The floor: starting Python and importing what options, arrays and a command line are made of.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.commands import main
from benchmarks.harness import Case, Check, Floor, Options, Outputs, Side, slug
from evalsuite.registry import build_registry

OURS, PEER = "evalsuite", "lm-eval 0.4.13"
TASKS = 15_000
# Bytecode is kept where a user has it: an environment that forbids it would have every start compile again.
KEEPING = ("env", "-u", "PYTHONDONTWRITEBYTECODE")
PLUGIN = """
from evalsuite.contracts import Task
from evalsuite.data.table import TableOptions, load_table
from evalsuite.hookspecs import hookimpl


@hookimpl
def evalsuite_register_tasks():
    names = [f"task_{number:05d}" for number in range(TASKS)]
    return [Task(name, load_table, TableOptions, description=f"a table in tasks/{name}.csv") for name in names]
"""


def prepare(job: Path, options: Options) -> None:
    """The plugin with as many tasks as lm-eval has groups, tags and tasks."""
    (job / "many.py").write_text(PLUGIN.replace("TASKS", str(TASKS)), encoding="utf-8")


def check_shipped(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """That every task that ships is listed."""
    mine, theirs = listed(job, OURS), listed(job, PEER)
    missing = [name for name in build_registry().tasks if name not in mine]
    return [
        Check("tasks that evalsuite did not list", len(missing), 0, not missing),
        Check("lines that lm-eval listed", len(theirs), 1, len(theirs) > 1),
    ]


def check_many(job: Path, outputs: Mapping[str, Outputs]) -> list[Check]:
    """That evalsuite lists as many as lm-eval."""
    mine, theirs = listed(job, OURS), listed(job, PEER)
    many = len(mine) >= len(theirs)
    return [Check("tasks that evalsuite listed, those of lm-eval as limit", len(mine), len(theirs), many)]


def listed(job: Path, side: str) -> set[str]:
    """First words of the lines that a side printed, without rules and heads."""
    lines = (job / f"{slug(side)}.log").read_text(encoding="utf-8").splitlines()
    words = (line.strip("| ").split() for line in lines)
    return {first[0].strip("|") for first in words if first and first[0].strip("|-")} - {"Group", "Tag", "Task", "task"}


def floor(job: Path, outputs: Mapping[str, Outputs]) -> Floor:
    """Python and three libraries."""
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        subprocess.run([*KEEPING, sys.executable, "-c", "import numpy, pydantic, typer"], check=True)
        taken.append(time.perf_counter() - started)
    return Floor(min(taken), "python -c 'import numpy, pydantic, typer'")


def _case(
    name: str, work: str, more: tuple[str, ...], check: Callable[[Path, Mapping[str, Outputs]], list[Check]]
) -> Case:
    return Case(
        name=name,
        work=work,
        prepare=prepare,
        sides=[
            Side(OURS, command=(*KEEPING, "{python}", "-m", "evalsuite", "ls", "tasks", *more)),
            Side(PEER, command=(*KEEPING, "{bin}/lm-eval", "ls", "tasks"), peer=True),
        ],
        targets={PEER: 1},
        check=check,
        floor=floor,
    )


CASES = [
    _case("7a", "listing the tasks that ship", (), check_shipped),
    _case("7b", "listing 15,000 tasks", ("--plugin", "{job}/many.py"), check_many),
]

if __name__ == "__main__":
    main(CASES)
