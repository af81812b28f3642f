"""The rules of the house: layers point downward, no import cycles, small modules and functions, light imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8
FOLDERS = {"evalsuite": "evalsuite", "tasks": "evalsuite.tasks", "plugins": "evalsuite.plugins"}

# From the bottom up; a module may import from its own row and from rows below.
LAYERS = (
    ("errors", "contracts", "options", "spec"),
    (
        "hookspecs",
        "counts",
        "calibration",
        "collapse",
        "vector_scaling",
        "thresholds",
        "metrics",
        "decision",
        "reliability",
        "stats",
        "accounting",
        "memory",
        "progress",
    ),
    (
        "api",
        "bundled",
        "config",
        "data",
        "environment",
        "fewshot",
        "forkserver",
        "identity",
        "llm",
        "presets",
        "prompts",
        "registry",
        "samples",
        "store",
        "sweeps",
        "templates",
    ),
    (
        "attempts",
        "compare",
        "deliver",
        "engines",
        "outside",
        "opening",
        "preflight",
        "preparation",
        "references",
        "reload",
        "report",
        "reproduce",
        "results",
        "runner",
        "scoring",
        "selection",
        "sweep",
        "tuning",
    ),
    ("cli", "__main__"),
)
# Rooms of evalsuite.llm, from the bottom up; modules of its own folder put together what the rooms have.
LLM_ROOMS = ("loading", "reading", "lora", "training", "answers", "export")
TASKS_MAY_SEE = {"contracts", "data", "errors", "hookspecs", "options"}
PLUGINS_MAY_SEE = {
    "api",
    "calibration",
    "contracts",
    "errors",
    "hookspecs",
    "llm",
    "memory",
    "metrics",
    "options",
    "prompts",
}
HEAVY = ("torch", "transformers", "scipy", "pandas", "sklearn", "datasets", "pyarrow", "peft")


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module that is shipped."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imports(path: Path, *, everywhere: bool) -> Iterator[str]:
    """Modules of this package that a file imports; ``everywhere``: inside functions too, but not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree) if everywhere else tree.body:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("evalsuite"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evalsuite"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def room(module: str) -> str:
    """``evalsuite.llm.training.loop`` -> ``llm``; the package itself -> ``""``."""
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_layer() -> None:
    known = {name for layer in LAYERS for name in layer} | {"", "tasks", "plugins"}
    assert {room(module) for module in MODULES} <= known


def test_imports_point_downward() -> None:
    height = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    upward = [
        f"{module} imports {target}"
        for module, path in MODULES.items()
        if room(module) in height
        for target in imports(path, everywhere=True)
        if room(target) in height and height[room(target)] > height[room(module)]
    ]
    assert upward == []


def test_imports_among_the_rooms_of_llm_point_downward() -> None:
    def height(module: str) -> int | None:
        parts = module.split(".")
        return LLM_ROOMS.index(parts[2]) if len(parts) > 3 and parts[2] in LLM_ROOMS else None

    upward = [
        f"{module} imports {target}"
        for module, path in MODULES.items()
        if (own := height(module)) is not None
        for target in imports(path, everywhere=True)
        if (other := height(target)) is not None and other > own
    ]
    assert upward == []


def test_the_core_names_no_task_and_no_method() -> None:
    guilty = [
        f"{module} imports {target}"
        for module, path in MODULES.items()
        for target in imports(path, everywhere=True)
        if room(target) in ("tasks", "plugins") and target != module
    ]
    assert guilty == []


@pytest.mark.parametrize(("folder", "allowed"), [("tasks", TASKS_MAY_SEE), ("plugins", PLUGINS_MAY_SEE)])
def test_plugins_see_only_what_an_outsider_may(folder: str, allowed: set[str]) -> None:
    seen = {
        room(target)
        for module, path in MODULES.items()
        if room(module) == folder
        for target in imports(path, everywhere=True)
    }
    assert seen - {""} <= allowed


def test_no_import_cycles() -> None:
    graph = {module: {t for t in imports(path, everywhere=False) if t in MODULES} for module, path in MODULES.items()}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in finished:
            for target in sorted(graph[module] - {module}):
                visit(target, (*trail, module))
            finished.add(module)

    for module in graph:
        visit(module, ())
    assert finished == set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_and_functions_are_small(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") < MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 < FUNCTION_LINES, f"{module}.{node.name} is too long"
            # A command's parameters are its flags.
            if not any("command" in ast.unparse(decorator) for decorator in node.decorator_list):
                count = len(node.args.args) + len(node.args.kwonlyargs)
                assert count <= PARAMETERS, f"{module}.{node.name} has {count} parameters"


def test_the_contracts_fit_in_one_head() -> None:
    assert MODULES["evalsuite.contracts"].read_text(encoding="utf-8").count("\n") <= 200


def _loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(child.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "tasks"],
        ["ls", "methods"],
        ["ls", "metrics"],
        ["ls", "presets"],
        ["ls", "sweeps"],
        ["sweep", "train_size", "--dry-run"],
        ["reproduce", "paper", "--dry-run"],
        ["plugins"],
        ["--help"],
        ["run", "--help"],
        ["compare", "--help"],
    ],
    ids=" ".join,
)
def test_commands_without_a_model_import_nothing_heavy(command: list[str]) -> None:
    code = (
        "from evalsuite.cli.app import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit as stop:\n    assert not stop.code, stop.code"
    )
    assert _loaded(code).isdisjoint(HEAVY)


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert _loaded("import evalsuite\nevalsuite.Task\nevalsuite.hookimpl").isdisjoint(HEAVY)


def test_public_names_exist() -> None:
    import evalsuite

    assert [name for name in evalsuite.__all__ if not hasattr(evalsuite, name)] == []
