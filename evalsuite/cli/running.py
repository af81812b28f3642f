"""``evalsuite run``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

import typer

from evalsuite.cli import console
from evalsuite.config import named_plugins, parse_assignment, parse_value, resolve
from evalsuite.errors import UsageError
from evalsuite.registry import Registry, build_registry

PLUGIN = typer.Option(None, "--plugin", help="A Python file, or a folder of them, that adds tasks or methods.")
TASK = typer.Option(None, "--task", help="A task's name, or a YAML file that declares one.")


def registry_for(plugins: Sequence[str] | None) -> Registry:
    """Every plugin; the broken ones are reported on stderr."""
    registry = build_registry(plugins or ())
    for problem in registry.problems:
        console.note(f"warning: plugin {problem.name} ({problem.origin}) was not loaded: {problem.problem}")
    return registry


def method_flags(extra: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Flags that ``run`` does not know are options of the method or the task: ``--lora-r 8``, ``--load-in-4bit``.

    Raises:
        UsageError: a value without a flag.
    """
    rest = list(extra)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UsageError(f"unexpected argument {flag!r}; options are written --name value")
        name, sign, value = flag[2:].partition("=")
        if not sign:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        yield name.replace("-", "_"), parse_value(value)


def model_arguments(text: str | None) -> Iterator[tuple[str, Any]]:
    """lm-eval's ``--model_args k=v,k=v``."""
    for part in filter(None, (text or "").split(",")):
        yield parse_assignment(part)


commands = typer.Typer()


settings = {"allow_extra_args": True, "ignore_unknown_options": True}


@commands.command("run", context_settings=settings)
def run(
    context: typer.Context,
    task: str = TASK,
    method: str = typer.Option(None, "--method", help="A method's name."),
    model: str = typer.Option(None, "--model", help="Hub id, hub id@revision, folder, or 'bundled'."),
    model_args: str = typer.Option(None, "--model-args", help="Options of the model, k=v,k=v, as in lm-eval."),
    preset: str = typer.Option(None, "--preset", help="A set of option values: a name or a YAML file."),
    config: str = typer.Option(None, "--config", help="A YAML file of options, such as a run's config.yaml."),
    assignments: list[str] = typer.Option(None, "--set", help="key=value, for any option; may be repeated."),
    template: str = typer.Option(None, "--template", help="A template set's name."),
    templates: list[str] = typer.Option(None, "--templates", help="A folder of template sets; may be repeated."),
    apply_chat_template: bool = typer.Option(
        None, "--apply-chat-template/--no-chat-template", help="Use the model's chat template (default: by its name)."
    ),
    num_fewshot: int = typer.Option(None, "--num-fewshot", help="Examples in the prompt, from train."),
    plugin: list[str] = PLUGIN,
    split: str = typer.Option(None, "--split", help="What is scored: test, or validation for a trial (default: test)."),
    limit: float = typer.Option(None, "--limit", help="Documents to score: a count, or a share below 1."),
    train_limit: int = typer.Option(None, "--train-limit", help="Training documents to use."),
    validation_limit: int = typer.Option(None, "--validation-limit", help="Validation documents to use."),
    train_size: int = typer.Option(None, "--train-size", help="Training documents of each class, by the seed."),
    retries: int = typer.Option(None, "--retries", help="Train so often again, with other seeds, on a collapse."),
    seed: int = typer.Option(None, "--seed", help="Seed of everything random."),
    batch_size: str = typer.Option(None, "--batch-size", help="Documents an optimizer step, or auto."),
    device: str = typer.Option(None, "--device", help="cpu, cuda, cuda:N or auto."),
    output_path: str = typer.Option(None, "--output-path", help="Folder for run directories (default: runs)."),
    overwrite: str = typer.Option(None, "--overwrite", help="never, missing or always (default: missing)."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the resolved request and what it needs; stop."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
) -> None:
    """Train a method on a task, score it on the test split, and keep the result.

    Every option of the method and the task is a flag too: see [bold]evalsuite options --task T --method M[/bold].
    """
    flags = {
        "task": task,
        "method": method,
        "model": model,
        "preset": preset,
        "template": template,
        "templates": templates or None,
        "apply_chat_template": apply_chat_template,
        "num_fewshot": num_fewshot,
        "plugins": plugin or None,
        "split": split,
        "limit": limit,
        "train_limit": train_limit,
        "validation_limit": validation_limit,
        "train_size": train_size,
        "retries": retries,
        "seed": seed,
        "batch_size": batch_size,
        "device": device,
        "output_path": output_path,
        "overwrite": overwrite,
        **dict(model_arguments(model_args)),
        **dict(method_flags(context.args)),
    }
    _run(flags, assignments or (), config, dry_run, as_json)


def _run(
    flags: Mapping[str, Any], assignments: Sequence[str], config: str | None, dry_run: bool, as_json: bool
) -> None:
    from evalsuite.cli.summary import print_plan, print_result
    from evalsuite.environment import is_main_process
    from evalsuite.memory import leave_alone_what_is_here
    from evalsuite.preparation import prepare
    from evalsuite.progress import Silent
    from evalsuite.runner import execute

    if is_main_process():
        console.show_log()
    registry = registry_for(named_plugins(flags, config))
    prepared = prepare(registry, *resolve(registry, flags, assignments, config))
    leave_alone_what_is_here()
    if dry_run:
        print_plan(prepared, as_json)
        return
    result = execute(prepared, console.Bars() if is_main_process() else Silent())
    if not is_main_process():  # under a launcher, one process speaks
        return
    if as_json:
        console.out(json.dumps(dict(result.results), ensure_ascii=False))
        return
    print_result(result)
    if result.fresh:
        place = quote(str(result.directory))
        console.note(f"Next: evalsuite predict {place} FILE -o OUT, or evalsuite report {place} -o report.md")
