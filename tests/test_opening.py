"""What a run is opened with: the templates it means, and what it builds on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spy_plugin

import evalsuite
from evalsuite.config import resolve
from evalsuite.opening import Request, TaskFacts, bind_prompts, make_context, other_data
from evalsuite.preparation import prepare
from evalsuite.progress import Silent
from evalsuite.registry import build_registry

SPY = str(Path(spy_plugin.__file__))


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


def test_a_run_that_has_seen_other_data_is_named_to_who_builds_on_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Limits only leave documents out; other splits may have trained on what is scored here."""
    registry = build_registry([SPY])

    def built_on(directory: Path, **task_options: Any) -> dict[str, Any]:
        flags = {"task": "words", "method": "majority", "limit": 5, "output_path": str(tmp_path)}
        flags |= {f"task.{name}": value for name, value in task_options.items()}
        request = prepare(registry, *resolve(registry, flags)).request
        context = make_context(request, registry, tmp_path, Silent(), "cpu")
        assert context.open_run is not None
        for _ in range(2):  # a preflight opens it too
            context.open_run(directory)
        return context.facts

    finished = evalsuite.run("words", "majority", plugins=[SPY], train_limit=20, output_path=tmp_path)
    caplog.clear()
    assert built_on(finished.directory) == {}
    assert caplog.messages == []
    run_id = finished.results["run_id"]
    assert built_on(finished.directory, word="new") == {"builds_on_other_data": [run_id]}
    assert caplog.messages == [other_data(run_id)]
    assert f"run {run_id}, which this one builds on, has seen other data" in other_data(run_id)

    # a run of an earlier version does not say what it has seen
    path = finished.directory / "task.json"
    written = json.loads(path.read_text())
    data = written.pop("data")
    assert TaskFacts.from_json(written).data == ""
    path.write_text(path.read_text().replace(data, "") + " " * len(data))  # of the size that the run's manifest has
    assert built_on(finished.directory, word="newer") == {}
