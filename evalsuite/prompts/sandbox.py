"""Templates found on a search path and rendered in a sandbox that a careless or hostile template cannot hang.

Jinja's own sandbox blocks attribute escapes, yet lets ``'a' * 10**9`` run for half a minute. Here every operation that
can grow a value has a cap, loops draw on one budget a render, and a deadline is looked at wherever work can repeat.
"""

from __future__ import annotations

import hashlib
import re
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from evalsuite.errors import TemplateError, UnknownNameError, nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

MAX_CHARACTERS = 4_000_000  # of an output, a string or a list; a full patent has about 300,000
MAX_ITERATIONS = 100_000  # of all loops of one render together, and of calls and operations
MAX_SECONDS = 2.0  # of one render
MAX_BITS = 4096  # of an integer
BUILTIN = "builtin:"
# fmt: off
FILTERS = frozenset({
    "capitalize", "count", "d", "default", "first", "float", "int", "last", "length", "list", "lower", "map", "reject",
    "reverse", "round", "select", "sort", "string", "title", "trim", "truncate", "unique", "upper", "wordcount",
})
TESTS = frozenset({
    "boolean", "defined", "divisibleby", "eq", "even", "false", "float", "ge", "gt", "in", "integer", "iterable", "le",
    "lower", "lt", "mapping", "ne", "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
    "==", "!=", "<", "<=", ">", ">=",
})
# Methods of plain values that templates may call: none of them can make its result larger than its input.
METHODS = frozenset({
    "capitalize", "endswith", "get", "index", "items", "keys", "lower", "lstrip", "rstrip", "split", "splitlines",
    "startswith", "strip", "title", "upper", "values",
})
# fmt: on
# What a template can raise at run time besides Jinja's own errors.
RENDER_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Budget:
    """What one render may still spend."""

    def __init__(self) -> None:
        self.left = MAX_ITERATIONS
        self.deadline = time.monotonic() + MAX_SECONDS

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise SecurityError(f"more than {MAX_ITERATIONS} loop iterations and operations")
        if time.monotonic() > self.deadline:
            raise SecurityError(f"rendering took more than {MAX_SECONDS:g} s")


_budget: ContextVar[_Budget] = ContextVar("template_budget")


def _capped(size: float) -> None:
    if size > MAX_CHARACTERS:
        raise SecurityError(f"a value of {size:.3g} characters or items, at most {MAX_CHARACTERS} are allowed")


def _concat(parts: Iterable[str]) -> str:
    """Join with the cap applied before the memory is taken."""
    kept, size = [], 0
    for part in parts:
        size += len(part)
        _capped(size)
        kept.append(part)
    return "".join(kept)


# pass_context keeps the optimizer from running these at compile time, where no budget is open.
@pass_context
def _counted(context: Context, iterable: Iterable[Any]) -> list[Any]:
    items = list(iterable)
    _budget.get().spend(len(items) + 1)
    return items


@pass_context
def _concatenated(context: Context, parts: Sequence[Any]) -> str:
    _budget.get().spend(len(parts))
    return _concat(map(str, parts))


@pass_context
def _join(context: Context, parts: Iterable[Any], separator: str = "") -> str:
    strings = [str(part) for part in parts]
    _budget.get().spend(len(strings))
    _capped(sum(map(len, strings)) + len(strings) * len(separator))
    return str(separator).join(strings)


@pass_context
def _replace(context: Context, text: Any, old: str, new: str) -> str:
    given = str(text)
    _capped(len(given) + given.count(old) * len(new))
    return given.replace(old, new)


class _Guard(NodeTransformer):
    """Routes every loop and every ``~`` through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's naming
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_concatenated", [], [], None, None, lineno=node.lineno)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja with capped operators, loops and output, and allow-listed filters, tests, methods and globals."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    concat = staticmethod(_concat)

    def __init__(self, loader: jinja2.BaseLoader) -> None:
        # trim_blocks stays off: it fuses the line after a block's end with the one before it.
        super().__init__(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=False)
        self.globals = {"range": self.globals["range"], "namespace": self.globals["namespace"]}
        self.filters = {name: self.filters[name] for name in FILTERS} | {
            "join": _join,
            "replace": _replace,
            "_counted": _counted,
            "_concatenated": _concatenated,
        }
        self.tests = {name: self.tests[name] for name in TESTS}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Guard().visit(super()._parse(source, name, filename))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _budget.get().spend(1)
        numbers = all(isinstance(value, int | float) for value in (left, right))
        if operator in ("**", "%") and not numbers:
            raise SecurityError(f"{operator!r} is for numbers")
        if operator == "**" and not (abs(left) <= 1e6 and abs(right) <= 64):
            raise SecurityError(f"a power of {left} to {right} is too large")
        if operator == "+" and not numbers:
            _capped(sum(len(value) for value in (left, right) if hasattr(value, "__len__")))
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if hasattr(value, "__len__") and isinstance(times, int):
                    _capped(len(value) * times)
                if isinstance(value, int) and value.bit_length() > MAX_BITS:
                    raise SecurityError(f"an integer of more than {MAX_BITS} bits")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        _budget.get().spend(1)
        return super().call(__context, __obj, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        plain = isinstance(obj, str | int | float | list | tuple | dict)
        return super().is_safe_attribute(obj, attr, value) and (not plain or not callable(value) or attr in METHODS)

    def wrap_str_format(self, value: Any) -> None:
        """No ``str.format``: a width in its format string is unbounded."""


class Templates:
    """The template files below ``search`` (first wins), then below the built-in folder, and how to render them.

    Raises:
        TemplateError: a folder of ``search`` does not exist.
    """

    def __init__(self, search: Sequence[Path]) -> None:
        if absent := [str(folder) for folder in search if not folder.is_dir()]:
            raise TemplateError(f"no folder {absent[0]!r} to look for templates in; expected one that holds <set>/*.j2")
        self.roots: list[Traversable | Path] = [*search, files("evalsuite.templates")]
        self.sources: dict[str, str] = {}  # by name, in the order of loading
        self._names: dict[str, str] = {}  # file shown in a traceback -> template name
        self._environment = _Sandbox(jinja2.FunctionLoader(self._load))

    def sets(self) -> dict[str, str]:
        """Name of every template set -> the folder it is found in first."""
        found: dict[str, str] = {}
        for root in self.roots:
            for folder in sorted(root.iterdir(), key=lambda entry: entry.name):
                if folder.is_dir() and any(folder.joinpath(f).is_file() for f in ("prompt.j2", "answer.j2")):
                    found.setdefault(folder.name, str(folder))
        return found

    def find(self, name: str, task: str, file: str, default: str | None = None) -> str:
        """The name under which to render ``file`` of set ``name``: the task's own version where a folder has one.

        Raises:
            UnknownNameError: no folder of the search path has the set.
            TemplateError: the set lacks the file, and there is no ``default`` to stand in for it.
        """
        for root in self.roots:
            for candidate in (f"{name}/{task}/{file}", f"{name}/{file}"):
                if _inside(root, candidate) is not None:
                    return candidate
        if name not in (known := self.sets()):
            raise UnknownNameError("template", name, known, "list them with `evalsuite ls templates`")
        if default is not None:
            return default
        raise TemplateError(f'template {name!r} has no {file}: add one, e.g. {{% extends "builtin:plain/{file}" %}}')

    def render(self, name: str, variables: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The output of template ``name`` and the variables that it sets at its top level.

        Raises:
            TemplateError: in one line, the template, the line and the cause.
        """
        token = _budget.set(_Budget())
        try:
            return self._render(name, variables)
        except RENDER_ERRORS as error:
            raise TemplateError(self._explain(name, error, variables)) from error
        finally:
            _budget.reset(token)

    def hash(self) -> str:
        """SHA-256 (16 hex digits) of the sources rendered so far, those they extend or include among them."""
        return hashlib.sha256("\0".join(self.sources.values()).encode()).hexdigest()[:16]

    def _render(self, name: str, variables: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        try:
            template = self._environment.get_template(name)
            context = template.new_context(dict(variables))
            return _concat(template.root_render_func(context)), context.get_exported()
        except RENDER_ERRORS:
            # Rewrites the traceback to template lines, and raises again.
            self._environment.handle_exception()

    def _load(self, name: str) -> tuple[str, str, None] | None:
        roots = self.roots[-1:] if name.startswith(BUILTIN) else self.roots
        for root in roots:
            if (file := _inside(root, name.removeprefix(BUILTIN))) is not None:
                source = file.read_text(encoding="utf-8")
                self.sources[name] = source
                self._names[str(file)] = name
                return source, str(file), None
        return None

    def _explain(self, name: str, error: BaseException, variables: Mapping[str, Any]) -> str:
        line = getattr(error, "lineno", None)
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename in self._names:
                name, line = self._names[frame.filename], frame.lineno
        if isinstance(error, jinja2.TemplateSyntaxError) and error.name:
            name = error.name
        cause = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RecursionError):
            cause = "it extends, includes or calls itself without end"
        elif isinstance(error, jinja2.TemplateNotFound):
            folder = str(error.name).removeprefix(BUILTIN).partition("/")[0]
            cause = f"cannot find {error.name!r}: template set {folder!r}, {nearest(folder, self.sets())}"
        elif unknown := re.fullmatch(r"'(.+)' is undefined", cause):
            cause = f"unknown variable {unknown[1]!r}, {nearest(unknown[1], variables)}"
        return f"template {name}{f', line {line}' if line else ''}: {cause}"


def _inside(root: Traversable | Path, name: str) -> Traversable | Path | None:
    """The file ``name`` below ``root``, or None; a name cannot climb out."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part for part in parts):
        return None
    file = root.joinpath(*parts)
    return file if file.is_file() else None
