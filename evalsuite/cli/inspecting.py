"""``validate`` and ``templates render``: look at the data and the prompts before any training."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import typer

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN, TASK, registry_for
from evalsuite.config import resolve
from evalsuite.contracts import Task
from evalsuite.errors import DataError
from evalsuite.registry import Registry
from evalsuite.spec import RunSpec

ASSIGNMENTS = typer.Option(None, "--set", help="key=value, for any option of the task; may be repeated.")


commands = typer.Typer()


@commands.command("validate")
def validate_command(
    task: str = TASK,
    assignments: list[str] = ASSIGNMENTS,
    plugin: list[str] = PLUGIN,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Read a task's data and report what is wrong with it; exit code 4 where a finding is an error."""
    _validate(registry_for(plugin), task, assignments or [], as_json)


templates = typer.Typer(help="Look at prompts.")
commands.add_typer(templates, name="templates")


@templates.command("render")
def render(
    task: str = TASK,
    template: str = typer.Option("plain", "--template", help="A template set's name."),
    templates: list[str] = typer.Option(None, "--templates", help="A folder of template sets; may be repeated."),
    model: str = typer.Option(None, "--model", help="Count tokens with this model's tokenizer."),
    apply_chat_template: bool = typer.Option(
        None, "--apply-chat-template/--no-chat-template", help="Use the model's chat template (default: by its name)."
    ),
    limit: int = typer.Option(3, "--limit", min=1, help="Documents to render."),
    assignments: list[str] = ASSIGNMENTS,
    plugin: list[str] = PLUGIN,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the exact prompts, answers and questions of the first training documents."""
    flags = {
        "task": task,
        "template": template,
        "templates": templates or None,
        "apply_chat_template": apply_chat_template,
    }
    registry = registry_for(plugin)
    shown = _preview(registry, *_resolved(registry, flags, assignments or []), model, limit)
    if as_json:
        console.out(json.dumps(shown, ensure_ascii=False))
    else:
        _print_preview(shown)


def _resolved(registry: Registry, flags: dict[str, Any], assignments: list[str]) -> tuple[RunSpec, Task]:
    # Only the task's side of the request matters here; majority has no options that could get in the way.
    spec, task, _ = resolve(registry, {**flags, "method": "majority"}, assignments)
    return spec, task


def _validate(registry: Registry, name: str, assignments: list[str], as_json: bool) -> None:
    from evalsuite.data.validate import validate
    from evalsuite.preparation import load_splits

    spec, task = _resolved(registry, {"task": name}, assignments)
    splits = load_splits(task, spec)
    findings = validate(splits)
    sizes = {part: len(splits.split(part)) for part in ("train", "validation", "test")}
    if as_json:
        console.out(json.dumps({"sizes": sizes, "findings": [asdict(finding) for finding in findings]}, default=list))
    else:
        console.out(f"{task.name}: " + ", ".join(f"{count} {part}" for part, count in sizes.items()))
        console.out(f"{len(splits.labels)} labels, {'multi' if splits.multilabel else 'single'}-label")
        if splits.synthetic:
            console.out("synthetic sample: no data was named")
        rows = [
            (finding.severity, finding.name, finding.split, str(finding.count), ", ".join(finding.rows[:5]))
            for finding in findings
        ]
        console.table(("severity", "finding", "split", "count", "first rows"), rows, right=("count",))
        for advice in dict.fromkeys(finding.advice for finding in findings if finding.advice):
            console.out(f"- {advice}")
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise DataError(f"{task.name}: {errors} findings are errors")


def _preview(registry: Registry, spec: RunSpec, task: Task, model: str | None, limit: int) -> dict[str, Any]:
    from evalsuite.opening import Request, TaskFacts, bind_prompts
    from evalsuite.preparation import load_splits
    from evalsuite.prompts import preview

    splits = load_splits(task, spec)
    prompts = bind_prompts(Request(spec, TaskFacts.of(task, splits)), registry)
    tokenizer = None
    if model:
        from evalsuite.llm.loading.source import load_tokenizer
        from evalsuite.llm.options import ModelOptions

        tokenizer = load_tokenizer(ModelOptions(model=model))
    answers = dict(zip(prompts.labels, prompts.verbalizers, strict=True))
    questions = dict(zip(prompts.labels, prompts.questions, strict=True))
    return {
        "template": prompts.name,
        "answers": answers,
        "questions": questions,
        "yes": prompts.yes,
        "no": prompts.no,
        "documents": preview(prompts, splits.train, limit, tokenizer),
    }


def _print_preview(shown: dict[str, Any]) -> None:
    for row in shown["documents"]:
        tokens = f" ({row['prompt_tokens']} tokens + {row['answer_tokens']})" if "prompt_tokens" in row else ""
        console.out(f"=== {row['id']}{tokens}")
        console.out(f"{row['prompt']}|{row['answer']}|")
    console.out("=== answers; the bars above mark where the gold answer begins and ends")
    for label, answer in shown["answers"].items():
        console.out(f"{label}: {answer}")
    console.out(f"=== questions of decode=per_label, each followed by |{shown['yes']}| or |{shown['no']}|")
    for label, question in shown["questions"].items():
        console.out(f"{label}: {question}")
