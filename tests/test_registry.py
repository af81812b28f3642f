"""The ways in for a plugin, and what is said of one that is broken, misspelt or in the way of another."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from evalsuite import registry as registry_module
from evalsuite.errors import PluginError, UnknownNameError, UsageError
from evalsuite.registry import BUILT_IN, build_registry

SPY = Path(__file__).parent / "spy_plugin.py"
ONE_TASK = """
from evalsuite import Splits, Task

def evalsuite_register_tasks():
    return [Task({name!r}, lambda options, cache: Splits(("a", "b"), [], [], []))]
"""


def write(path: Path, source: str = ONE_TASK, name: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source.replace("{name!r}", repr(name)), encoding="utf-8")
    return path


def test_built_in_plugins_load() -> None:
    registry = build_registry()
    assert registry.problems == []
    assert {"ag_news", "clv", "table"} <= set(registry.tasks)
    assert {"majority", "tfidf"} <= set(registry.methods)
    assert registry.owner("method", "tfidf") in BUILT_IN


def test_a_plugin_file(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py")
    registry = build_registry([file])
    assert registry.task("mine").name == "mine"
    assert registry.owner("task", "mine") == str(file)


def test_a_folder_of_plugin_files_without_the_private_ones(tmp_path: Path) -> None:
    write(tmp_path / "one.py", name="one")
    write(tmp_path / "two.py", name="two")
    write(tmp_path / "_helper.py", name="helper")
    tasks = build_registry([tmp_path]).tasks
    assert {"one", "two"} <= set(tasks)
    assert "helper" not in tasks


def test_a_package_folder_may_import_its_own_modules(tmp_path: Path) -> None:
    write(tmp_path / "pack" / "tasks.py", name="packed")
    write(tmp_path / "pack" / "__init__.py", "from .tasks import evalsuite_register_tasks")
    assert build_registry([tmp_path / "pack"]).task("packed")


def test_the_variable_names_several_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = write(tmp_path / "one.py", name="one"), write(tmp_path / "sub" / "two.py", name="two")
    monkeypatch.setenv("EVALSUITE_PLUGINS", f"{one}:{two.parent}:")
    registry = build_registry()
    assert {"one", "two"} <= set(registry.tasks)
    assert {plugin.origin for plugin in registry.plugins if plugin.name == str(one)} == {"EVALSUITE_PLUGINS"}


def test_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "installed_one.py", name="installed")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("installed", "installed_one", "evalsuite")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [entry])
    registry = build_registry()
    assert registry.owner("task", "installed") == "installed"
    monkeypatch.delitem(sys.modules, "installed_one")


def test_the_same_file_by_two_ways_is_one_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "mine.py")
    monkeypatch.setenv("EVALSUITE_PLUGINS", str(file))
    registry = build_registry([file, tmp_path])
    assert [plugin.name for plugin in registry.plugins].count(str(file)) == 1
    assert registry.problems == []
    assert registry.manager.has_plugin(str(file))


@pytest.mark.parametrize("path", ["absent.py", "empty"])
def test_a_path_without_a_plugin(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"plugin.*(does not exist|holds no Python file)"):
        build_registry([tmp_path / path])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemError('first line\\nsecond line')", "SystemError: first line second line"),
        ("def evalsuite_register_tasks(): return ['mine']", "TypeError: registered 'mine', expected a Task"),
        ("def evalsuite_register_methods(): return 3", "TypeError"),
        ("def evalsuite_register_tasks(wrong_argument): return []", "wrong_argument"),
        ("import os\nos.environ['NO_SUCH_VARIABLE']", "KeyError"),
    ],
)
def test_a_broken_plugin_is_reported_by_name_and_the_others_load(tmp_path: Path, source: str, words: str) -> None:
    """pluggy's own loading stops at the first broken entry point."""
    broken = write(tmp_path / "a_broken.py", source)
    write(tmp_path / "b_good.py", name="good")
    registry = build_registry([tmp_path])
    assert [plugin.name for plugin in registry.problems] == [str(broken)]
    assert words in registry.problems[0].problem
    assert "\n" not in registry.problems[0].problem
    assert registry.task("good")


def test_a_broken_installed_package_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "installed_two.py", name="installed")
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint("a", "absent_package", "evalsuite"), EntryPoint("b", "installed_two", "evalsuite")]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: entries)
    registry = build_registry()
    assert [(plugin.name, plugin.origin) for plugin in registry.problems] == [("a", "installed")]
    assert registry.task("installed")
    monkeypatch.delitem(sys.modules, "installed_two")


def test_half_a_plugin_is_no_plugin(tmp_path: Path) -> None:
    source = ONE_TASK + "\ndef evalsuite_register_methods():\n    return ['no method']\n"
    registry = build_registry([write(tmp_path / "half.py", source)])
    assert "mine" not in registry.tasks


@pytest.mark.parametrize("kind", ["task", "method", "metric"])
def test_a_duplicate_name_is_an_error_that_names_both_owners(tmp_path: Path, kind: str) -> None:
    copies = [tmp_path / "first.py", tmp_path / "second.py"]
    rest = {"task": "methods metrics", "method": "tasks metrics", "metric": "tasks methods"}[kind].split()
    removed = "".join(f"\ndel evalsuite_register_{name}" for name in rest)
    for copy in copies:
        write(copy, SPY.read_text(encoding="utf-8") + removed)
    with pytest.raises(PluginError, match=f"{kind} .* is registered by both {copies[0]} and {copies[1]}"):
        build_registry(copies)


def test_a_name_of_a_built_in_is_taken(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"task 'clv' is registered by both evalsuite\.tasks\.clv and .*mine\.py"):
        build_registry([write(tmp_path / "mine.py", name="clv")])


def test_a_misspelt_hook_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    file = write(tmp_path / "typo.py", "def evalsuite_register_task(): return []")
    with pytest.raises(PluginError, match=r"typo\.py.*'evalsuite_register_task'.*evalsuite_register_tasks"):
        build_registry([file])


@pytest.mark.parametrize("name", ["register_tasks", "evalsuit_register_tasks", "evalsuite_register_task"])
def test_a_decorated_function_that_is_no_hook_is_an_error(tmp_path: Path, name: str) -> None:
    """pluggy itself would keep it and never call it."""
    source = f"from evalsuite import hookimpl\n\n@hookimpl\ndef {name}(): return []"
    with pytest.raises(PluginError, match=rf"there is no hook '{name}'; did you mean evalsuite_register_tasks"):
        build_registry([write(tmp_path / "typo.py", source)])


def test_a_hook_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    source = ONE_TASK.replace(
        "def evalsuite_register_tasks", "@hookimpl(specname='evalsuite_register_tasks')\ndef mine"
    )
    file = write(tmp_path / "own.py", "from evalsuite import hookimpl\n" + source)
    assert build_registry([file]).task("mine")


def test_a_decorator_is_not_needed_and_does_no_harm(tmp_path: Path) -> None:
    decorated = ONE_TASK.replace("def evals", "from evalsuite import hookimpl\n\n@hookimpl\ndef evals")
    registry = build_registry(
        [write(tmp_path / "bare.py", name="bare"), write(tmp_path / "deco.py", decorated, "decorated")]
    )
    assert {"bare", "decorated"} <= set(registry.tasks)


def test_classes_of_a_plugin_file_find_their_module(tmp_path: Path) -> None:
    """pydantic, dataclasses and pickle look a class's module up in sys.modules."""
    source = """
from __future__ import annotations
import pickle
from dataclasses import dataclass
from evalsuite import Options, Task, option

Number = int

@dataclass
class Pair:
    left: Number

class Mine(Options):
    count: Number = option(1, "a number")

assert pickle.loads(pickle.dumps(Pair(2))) == Pair(2)

def evalsuite_register_tasks():
    return [Task("mine", lambda options, cache: None, Mine)]
"""
    config = build_registry([write(tmp_path / "mine.py", source)]).task("mine").config
    assert config is not None
    assert config(count="3").count == 3


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "mine.py", name=name) for name in ("one", "two")]
    assert {"one", "two"} <= set(build_registry(files).tasks)


def test_a_file_that_failed_leaves_no_module(tmp_path: Path) -> None:
    write(tmp_path / "unfinished_file.py", "raise ValueError")
    build_registry([tmp_path])
    assert not [name for name in sys.modules if name.endswith("unfinished_file")]


def test_an_unknown_name_lists_near_ones_and_what_was_not_loaded(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.py", "import absent_module")
    registry = build_registry([broken])
    with pytest.raises(UnknownNameError, match=r"unknown task 'ag_new'.*ag_news.*evalsuite ls tasks.*broken\.py"):
        registry.task("ag_new")
    with pytest.raises(UnknownNameError, match=r"unknown method 'tfdif'.*tfidf"):
        registry.method("tfdif")


def test_templates_of_a_plugin_are_searched(tmp_path: Path) -> None:
    source = f"from pathlib import Path\ndef evalsuite_register_templates(): return [Path({str(tmp_path)!r})]"
    assert build_registry([write(tmp_path / "sets.py", source)]).template_folders == [tmp_path]


def test_notify_calls_every_plugin_and_gives_those_that_failed() -> None:
    registry = build_registry()
    heard: list[object] = []

    def fail(result: object) -> None:
        raise OSError("no mail\nserver")

    for name, hook in [("first", heard.append), ("second", fail), ("third", heard.append)]:
        plugin = ModuleType(name)
        plugin.evalsuite_run_finished = lambda result, hook=hook: hook(result)  # type: ignore[attr-defined]
        registry.load(name, "test", lambda plugin=plugin: plugin)
    failed = registry.notify("evalsuite_run_finished", result="done")
    assert heard == ["done", "done"]
    assert [(plugin.name, plugin.problem) for plugin in failed] == [("second", "OSError: no mail server")]
