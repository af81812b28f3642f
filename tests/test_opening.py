"""What a run is opened with: the templates it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite.config import resolve
from evalsuite.opening import Request, TaskFacts, bind_prompts
from evalsuite.registry import build_registry


def template(folder: Path, name: str, prompt: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "prompt.j2").write_text(prompt)
    (folder / name / "answer.j2").write_text("{{ label }}")
    return folder


@pytest.mark.parametrize(
    ("given", "plugin", "expected"), [(True, True, "given"), (False, True, "plugin"), (False, False, "Choose")]
)
def test_own_templates_come_before_a_plugins_and_those_before_the_built_in(
    tmp_path: Path, given: bool, plugin: bool, expected: str
) -> None:
    own = template(tmp_path / "own", "listed", "given {{ text }}")
    file = tmp_path / "sets.py"
    folder = template(tmp_path / "plugin", "listed", "plugin {{ text }}")
    file.write_text(f"from pathlib import Path\ndef evalsuite_register_templates(): return [Path({str(folder)!r})]")
    registry = build_registry([file] if plugin else [])
    flags = {"task": "clv", "method": "majority", "template": "listed", "templates": [str(own)] if given else None}
    spec, task, _ = resolve(registry, flags)
    facts = TaskFacts(task.name, ("a", "b"), False, {}, task.primary_metric, task.private)
    assert bind_prompts(Request(spec, facts), registry).prompt("text").startswith(expected)
