"""Finds plugins, loads them one by one, and looks up what they registered.

Plugins come from four places, in this order: the built-in ones, installed packages (entry-point group ``evalsuite``),
the ``EVALSUITE_PLUGINS`` variable (files and folders, separated as in PATH), and ``--plugin``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from evalsuite import hookspecs
from evalsuite.contracts import MethodSpec, Metric, Task
from evalsuite.errors import PluginError, UnknownNameError, UsageError, nearest

GROUP = "evalsuite"
VARIABLE = "EVALSUITE_PLUGINS"
LONGEST_PROBLEM = 300  # characters: what is said of a broken plugin stays one line
BUILT_IN = (
    "evalsuite.tasks.ag_news",
    "evalsuite.tasks.wipo",
    "evalsuite.tasks.clv",
    "evalsuite.tasks.table",
    "evalsuite.plugins.majority",
    "evalsuite.plugins.tfidf",
    "evalsuite.plugins.embedding",
    "evalsuite.plugins.instruction",
    "evalsuite.plugins.frozen",
    "evalsuite.plugins.bert",
    "evalsuite.plugins.distill",
    "evalsuite.plugins.zero_shot",
)


@dataclass(frozen=True)
class Plugin:
    """One plugin that was looked for. ``problem`` is empty where it loaded."""

    name: str
    origin: str
    problem: str = ""


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Like pytest: any function called ``evalsuite_*`` is a hook, so a forgotten decorator or a typo is noticed."""
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and name.startswith("evalsuite_") and callable(getattr(plugin, name, None)):
            return {"optionalhook": False, "specname": None, **dict.fromkeys(_MARKS, False)}
        return options


_MARKS = ("hookwrapper", "wrapper", "tryfirst", "trylast")


class Registry:
    """What is there: tasks, methods, metrics, template folders, and the plugins they came from."""

    def __init__(self) -> None:
        self.manager = _Manager(hookspecs.NAMESPACE)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        self.tasks: dict[str, Task] = {}
        self.methods: dict[str, MethodSpec] = {}
        self.metrics: dict[str, Metric] = {}
        self.template_folders: list[Path] = []
        self._owners: dict[tuple[str, str], str] = {}

    @property
    def problems(self) -> list[Plugin]:
        """The plugins that could not be loaded."""
        return [plugin for plugin in self.plugins if plugin.problem]

    def task(self, name: str) -> Task:
        """The task called ``name``. Raises: UnknownNameError."""
        task: Task = self._look_up("task", name, self.tasks)
        return task

    def method(self, name: str) -> MethodSpec:
        """The method called ``name``. Raises: UnknownNameError."""
        method: MethodSpec = self._look_up("method", name, self.methods)
        return method

    def _look_up(self, kind: str, name: str, table: dict[str, Any]) -> Any:
        if name in table:
            return table[name]
        advice = f"list them with: evalsuite ls {kind}s"
        if self.problems:
            advice += f"; not loaded: {', '.join(plugin.name for plugin in self.problems)}"
        raise UnknownNameError(kind, name, table, advice)

    def load(self, name: str, origin: str, load: Callable[[], object]) -> None:
        """Load one plugin; a broken one is recorded in ``plugins`` and the others go on.

        Raises:
            PluginError: a misspelt hook, or a name that another plugin has registered.
        """
        try:
            plugin = load()
            self._refuse_unknown_hooks(name, plugin)
            self.manager.register(plugin, name=name)
            self._collect(name, plugin)
        except PluginError:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way, and must not take the others with it
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            self.plugins.append(Plugin(name, origin, _summary(error)))
        else:
            self.plugins.append(Plugin(name, origin))

    def _refuse_unknown_hooks(self, name: str, plugin: object) -> None:
        known = {hook for hook in dir(hookspecs) if hook.startswith("evalsuite_")}
        for attribute in dir(plugin):
            options = self.manager.parse_hookimpl_opts(plugin, attribute)
            if options is not None and (options["specname"] or attribute) not in known:
                raise PluginError(f"plugin {name}: there is no hook {attribute!r}; {nearest(attribute, known)}")

    def _collect(self, name: str, plugin: object) -> None:
        """Take what this plugin alone registers, all of it or nothing."""
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        hooks = self.manager.subset_hook_caller
        tables: Sequence[tuple[str, type[Any], dict[str, Any]]] = (
            ("task", Task, self.tasks),
            ("method", MethodSpec, self.methods),
            ("metric", Metric, self.metrics),
        )
        found = [
            (kind, _checked(entry, expected), table)
            for kind, expected, table in tables
            for entry in _flat(hooks(f"evalsuite_register_{kind}s", others)())
        ]
        folders = [Path(folder) for folder in _flat(hooks("evalsuite_register_templates", others)())]
        for kind, entry, table in found:
            if owner := self._owners.get((kind, entry.name)):
                raise PluginError(
                    f"{kind} {entry.name!r} is registered by both {owner} and {name}; rename one or drop one plugin"
                )
            self._owners[kind, entry.name] = name
            table[entry.name] = entry
        self.template_folders.extend(folders)

    def notify(self, hook: str, **arguments: Any) -> list[Plugin]:
        """Call ``hook`` plugin by plugin; one that fails does not keep the others from it. Gives those that failed."""
        failed = []
        for name, plugin in self.manager.list_name_plugin():
            others = [other for other in self.manager.get_plugins() if other is not plugin]
            try:
                self.manager.subset_hook_caller(hook, others)(**arguments)
            except Exception as error:  # noqa: BLE001 - as in load: a plugin may fail in any way
                failed.append(Plugin(name, hook, _summary(error)))
        return failed

    def owner(self, kind: str, name: str) -> str:
        """The plugin that registered ``name``."""
        return self._owners[kind, name]


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_PROBLEM]}"


def _checked(entry: Any, expected: type[Any]) -> Any:
    if not isinstance(entry, expected):
        raise TypeError(f"registered {entry!r}, expected a {expected.__name__}")
    return entry


def _flat(results: Iterable[Iterable[Any]]) -> list[Any]:
    return [entry for entries in results for entry in entries]


def build_registry(paths: Iterable[str | Path] = ()) -> Registry:
    """Load every plugin: built-in, installed, from ``EVALSUITE_PLUGINS``, and the files and folders in ``paths``.

    Raises:
        PluginError: a misspelt hook, or two plugins with one name.
        UsageError: a path that does not exist.
    """
    registry = Registry()
    for module in BUILT_IN:
        registry.load(module, "built in", lambda module=module: importlib.import_module(module))  # type: ignore[misc]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        registry.load(entry.name, _distribution(entry), entry.load)
    variable = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    for origin, path in [*((VARIABLE, path) for path in variable), *(("--plugin", path) for path in paths)]:
        for file in _python_files(Path(path)):
            # The same file by both ways is one plugin: a rerun's config.yaml names what the variable may name too.
            if str(file) not in {plugin.name for plugin in registry.plugins}:
                registry.load(str(file), origin, lambda file=file: _import_file(file))  # type: ignore[misc]
    return registry


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "installed"


def _python_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path.resolve()]
    if not path.is_dir():
        raise UsageError(f"plugin {str(path)!r} does not exist; expected a Python file or a folder of them")
    if (path / "__init__.py").is_file():
        return [(path / "__init__.py").resolve()]
    files = sorted(file.resolve() for file in path.glob("*.py") if not file.name.startswith("_"))
    if not files:
        raise UsageError(f"plugin folder {str(path)!r} holds no Python file")
    return files


def _import_file(file: Path) -> ModuleType:
    # pydantic, pickle and dataclasses look a class's module up in sys.modules, so the file needs a name there.
    digest = hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()
    name = f"evalsuite_plugin_{digest}_{file.parent.name if file.name == '__init__.py' else file.stem}"
    locations = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
