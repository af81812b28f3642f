"""``ls``, ``show``, ``options``, ``plugins``, ``env``: what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN, TASK, registry_for
from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.registry import Registry

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]


commands = typer.Typer()


@commands.command("ls")
def ls(
    kind: str = typer.Argument(help="tasks, methods, templates, metrics, presets, sweeps or runs"),
    plugin: list[str] = PLUGIN,
    templates: list[str] = typer.Option(None, "--templates", help="A folder of template sets; may be repeated."),
    output_path: str = typer.Option("runs", "--output-path", help="Folder of the runs to list."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List what is there to choose from."""
    tables: dict[str, Callable[[Registry], Rows]] = {
        "tasks": _tasks,
        "methods": _methods,
        "templates": lambda registry: _templates(registry, templates or []),
        "metrics": _metrics,
        "presets": lambda registry: _presets(),
        "sweeps": lambda registry: _sweeps(),
        "runs": lambda registry: _runs(output_path),
    }
    if kind not in tables:
        raise UnknownNameError("kind", kind, tables)
    show_table(*tables[kind](registry_for(plugin)), as_json)


@commands.command("show")
def show(
    run: str = typer.Argument(help="A run directory."),
    as_json: bool = typer.Option(False, "--json", help="Print results.json."),
) -> None:
    """Show the result of a run."""
    from evalsuite.cli.summary import print_result
    from evalsuite.store import open_run

    result = open_run(run, verify=True)
    if as_json:
        console.out(json.dumps(dict(result.results), ensure_ascii=False))
    else:
        print_result(result)


@commands.command("options")
def options(
    task: str = TASK,
    method: str = typer.Option(None, "--method", help="A method's name."),
    plugin: list[str] = PLUGIN,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List every option of a task and a method: type, default, unit, meaning and where the default comes from."""
    if not task and not method:
        raise UsageError("options of what? name a task with --task, a method with --method, or both")
    show_table(*_options(registry_for(plugin), task, method), as_json)


@commands.command("plugins")
def plugins(plugin: list[str] = PLUGIN, as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the plugins that were found, and what is wrong with those that could not be loaded."""
    registry = registry_for(plugin)
    rows = [(entry.name, entry.origin, entry.problem or "loaded") for entry in registry.plugins]
    show_table(("plugin", "from", "state"), rows, as_json)


@commands.command("env")
def env(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Show versions and machine: what to paste into a bug report."""
    from evalsuite.environment import cache_folder, describe_environment

    facts = {**describe_environment(), "cache": str(cache_folder())}
    if as_json:
        console.out(json.dumps(facts, ensure_ascii=False))
        return
    packages = facts.pop("packages")
    rows = [(name, _text(value)) for name, value in [*facts.items(), *packages.items()]]
    console.table(("what", "value"), rows)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], as_json: bool) -> None:
    """Print rows as a table, or as a JSON list of objects."""
    if as_json:
        console.out(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], ensure_ascii=False))
    else:
        console.table(columns, rows)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _tasks(registry: Registry) -> Rows:
    rows = [
        (name, "multi" if task.multilabel else "single", task.description, registry.owner("task", name))
        for name, task in sorted(registry.tasks.items())
    ]
    return ("task", "labels", "description", "plugin"), rows


def _methods(registry: Registry) -> Rows:
    rows = [
        (name, "yes" if "model" in method.needs else "no", method.description, registry.owner("method", name))
        for name, method in sorted(registry.methods.items())
    ]
    return ("method", "model", "description", "plugin"), rows


def _metrics(registry: Registry) -> Rows:
    from evalsuite.metrics import BUILTIN

    rows = [(name, meaning, "built in") for name, meaning in BUILTIN.items()]
    rows += [(name, metric.description, registry.owner("metric", name)) for name, metric in registry.metrics.items()]
    return ("metric", "meaning", "plugin"), rows


def _templates(registry: Registry, folders: list[str]) -> Rows:
    from evalsuite.prompts import template_sets

    rows = list(template_sets([*map(Path, folders), *registry.template_folders]).items())
    return ("template", "folder"), rows


def _presets() -> Rows:
    from evalsuite.config import preset_names, preset_table

    rows = [(name, ", ".join(preset_table(name))) for name in preset_names()]
    return ("preset", "methods"), rows


def _sweeps() -> Rows:
    from evalsuite.sweep import read_sweep, sweep_names

    sweeps = [read_sweep(name) for name in sweep_names()]
    return ("sweep", "cells", "about"), [(sweep.name, str(len(sweep.cells)), sweep.about) for sweep in sweeps]


def _runs(output_path: str) -> Rows:
    from evalsuite.errors import StoreError
    from evalsuite.report.text import RUN_COLUMNS, run_row
    from evalsuite.store import find_runs, open_run

    rows: list[tuple[str, ...]] = []
    for directory in find_runs(output_path):
        try:
            rows.append((*run_row(open_run(directory).results), str(directory)))
        except StoreError as error:
            rows.append((*[""] * len(RUN_COLUMNS), str(error)))
    return (*RUN_COLUMNS, "run"), sorted(rows, key=lambda row: (not row[0], row))  # unreadable ones last


def _options(registry: Registry, task: str | None, method: str | None) -> Rows:
    from evalsuite.config import find_task
    from evalsuite.decision import DecisionOptions

    schemas: list[tuple[str, type[BaseModel] | None]] = []
    if method:
        schemas += [("", registry.method(method).config), ("", DecisionOptions)]
    if task:
        schemas.append(("task.", find_task(registry, task).config))
    rows = [row for prefix, schema in schemas if schema is not None for row in _option_rows(prefix, schema)]
    return ("option", "type", "default", "unit", "meaning", "source"), rows


def _option_rows(prefix: str, schema: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in schema.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
        unit, source = str(extra.get("unit", "")), str(extra.get("source", ""))
        yield prefix + name, _type_name(field.annotation), default, unit, field.description or "", source


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__.replace("NoneType", "None")
    if get_origin(annotation) is Annotated:  # its bounds are in no table
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(_type_name(kind) for kind in get_args(annotation))
    return str(annotation).replace("typing.", "").replace("pathlib.", "").replace("NoneType", "None")
