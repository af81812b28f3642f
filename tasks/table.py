"""Any CSV, JSONL, Parquet or hub dataset, by options alone."""

from __future__ import annotations

from collections.abc import Iterable

from evalsuite.contracts import Task
from evalsuite.data import TableOptions, load_table
from evalsuite.hookspecs import hookimpl


@hookimpl
def evalsuite_register_tasks() -> Iterable[Task]:
    return [
        Task(
            name="table",
            load=load_table,
            config=TableOptions,
            description="any CSV, JSONL, Parquet or hub dataset: name it with task.data, task.text and task.label",
            source="the user's own table",
            licence="the user's own",
        )
    ]
