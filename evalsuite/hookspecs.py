"""The hooks a plugin may implement. Built-in tasks, methods and templates enter by these and by nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from evalsuite.contracts import MethodSpec, Metric, Task

if TYPE_CHECKING:
    import typer

NAMESPACE = "evalsuite"
hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


@hookspec
def evalsuite_register_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """Return the tasks this plugin adds."""


@hookspec
def evalsuite_register_methods() -> Iterable[MethodSpec]:  # type: ignore[empty-body]
    """Return the methods this plugin adds."""


@hookspec
def evalsuite_register_metrics() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Return metrics to report beside the built-in ones."""


@hookspec
def evalsuite_register_templates() -> Iterable[Path]:  # type: ignore[empty-body]
    """Return folders that hold template sets (``<set>/prompt.j2``, ``<set>/answer.j2``)."""


@hookspec
def evalsuite_register_commands(app: typer.Typer) -> None:
    """Add commands to the command line."""


@hookspec
def evalsuite_run_finished(result: Any) -> None:
    """Called with the RunResult once a run is complete on disk."""
