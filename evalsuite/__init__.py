"""evalsuite: turn language models into text classifiers, and find out which way is best.

Importing this package imports no torch, transformers, scipy or pandas: the names below are looked up when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalsuite.contracts import Example, Method, MethodSpec, Metric, RunContext, Scores, Splits, Task
    from evalsuite.errors import EvalsuiteError
    from evalsuite.hookspecs import hookimpl
    from evalsuite.options import Options, option
    from evalsuite.runner import run
    from evalsuite.spec import RunResult, RunSpec

__version__ = "0.1.0"

_HOME = {
    "Example": "contracts",
    "Method": "contracts",
    "MethodSpec": "contracts",
    "Metric": "contracts",
    "RunContext": "contracts",
    "Scores": "contracts",
    "Splits": "contracts",
    "Task": "contracts",
    "EvalsuiteError": "errors",
    "hookimpl": "hookspecs",
    "Options": "options",
    "option": "options",
    "RunResult": "spec",
    "RunSpec": "spec",
    "run": "runner",
}

__all__ = [
    "EvalsuiteError",
    "Example",
    "Method",
    "MethodSpec",
    "Metric",
    "Options",
    "RunContext",
    "RunResult",
    "RunSpec",
    "Scores",
    "Splits",
    "Task",
    "__version__",
    "hookimpl",
    "option",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")
    value = getattr(import_module(f"evalsuite.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
