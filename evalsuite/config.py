"""Resolves a RunSpec: flag over ``--set`` over file over preset over default, every value checked before any work."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from evalsuite.contracts import MethodSpec, Task
from evalsuite.decision import DecisionOptions
from evalsuite.errors import OptionError, UnknownNameError, UsageError
from evalsuite.registry import Registry
from evalsuite.spec import TUNING_KEYS, RunSpec

# Fields of a RunSpec that a person sets by their own flag or by their own key in a file.
RUN_FIELDS = tuple(
    f.name for f in fields(RunSpec) if f.name not in ("task_options", "method_options", "decision_options", "origins")
)
GROUPS = ("task", "method", "decision")
LARGEST_SEED = 2**32 - 1  # numpy takes no larger one


@dataclass(frozen=True)
class Layer:
    """Values from one source. Keys are run fields, option names, or option names with their group in front."""

    origin: str
    values: Mapping[str, Any]


def resolve(
    registry: Registry,
    flags: Mapping[str, Any],
    sets: Iterable[str] = (),
    config: str | Path | None = None,
) -> tuple[RunSpec, Task, MethodSpec]:
    """Merge all sources into a checked RunSpec.

    Args:
        registry: where names are looked up.
        flags: values given on the command line or to ``evalsuite.run``; None means not given.
        sets: ``key=value`` strings.
        config: a YAML file, such as the ``config.yaml`` of a run.

    Raises:
        UnknownNameError: a task, method, preset or option that does not exist.
        OptionError: a value of the wrong type or out of range.
        UsageError: an unreadable file or a malformed ``key=value``.
    """
    layers = [
        Layer("flag", {key: value for key, value in flags.items() if value is not None}),
        Layer("--set", dict(parse_assignment(text) for text in sets)),
    ]
    if config is not None:
        layers.append(Layer(f"file {config}", flatten(read_yaml(Path(config)))))
    return resolve_layers(registry, layers)


def resolve_layers(registry: Registry, layers: Sequence[Layer]) -> tuple[RunSpec, Task, MethodSpec]:
    """As ``resolve``, with the first of ``layers`` that has a value deciding it."""
    chosen = {key: _first(layers, key) for key in ("task", "method", "preset")}
    for key in ("task", "method"):
        if not chosen[key]:
            raise UsageError(f"no {key} was named; add --{key} NAME, list them with: evalsuite ls {key}s")
    task, method = find_task(registry, str(chosen["task"])), registry.method(str(chosen["method"]))
    schemas = {"task": task.config, "method": method.config, "decision": DecisionOptions}
    placed = [_place(layer, schemas) for layer in layers]
    preset = chosen["preset"] or ("bundled" if _chosen_model(placed, method) == "bundled" else None)
    if preset:
        placed.append(_place(Layer(f"preset {preset}", _preset_options(str(preset), method.name)), schemas))
    return _merge(placed, schemas, preset), task, method


def named_plugins(flags: Mapping[str, Any], config: str | Path | None) -> list[str]:
    """The plugin files and folders that a request names by flag, else by file: known before anything is looked up."""
    named = flags.get("plugins")
    if named is None and config is not None:
        named = read_yaml(Path(config)).get("plugins")
    return _texts(named or [])


def _texts(value: Any) -> list[str]:
    return [str(entry) for entry in ([value] if isinstance(value, str | Path) else value)]


def _first(layers: Iterable[Layer], key: str) -> Any:
    return next((layer.values[key] for layer in layers if layer.values.get(key) is not None), None)


def find_task(registry: Registry, name: str) -> Task:
    """A registered task, or a declarative one where ``name`` is the path of a YAML file."""
    if name.endswith((".yaml", ".yml")):
        from evalsuite.data.declarative import task_from_yaml

        task: Task = task_from_yaml(Path(name))
        return task
    return registry.task(name)


def parse_assignment(text: str) -> tuple[str, Any]:
    """``"a.b=1"`` -> ``("a.b", "1")``; values that look like JSON lists or objects are parsed, ``null`` is None.

    Other values stay strings: the option's own type decides what they mean, so ``1e-3`` is a number where a number is
    expected and text where text is.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UsageError(f"{text!r} is not an assignment; write key=value, as in --set task.data=FILE")
    return key.strip(), parse_value(value)


def parse_value(value: str) -> Any:
    """One value as written on the command line."""
    if value == "null":
        return None
    if value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises: UsageError with the place of the mistake."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"configuration file {str(path)!r} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {str(path)!r} as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{str(path)!r} holds {type(data).__name__}, expected a mapping of option names to values")
    return {str(key): value for key, value in data.items()}


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    folder = resources.files("evalsuite.presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_table(name: str) -> dict[str, Any]:
    """Method -> options of preset ``name``, a built-in name or a YAML file. Raises: UnknownNameError, UsageError."""
    if name.endswith((".yaml", ".yml")):
        return read_yaml(Path(name))
    if name not in preset_names():
        raise UnknownNameError("preset", name, preset_names(), "or name a YAML file")
    with resources.as_file(resources.files("evalsuite.presets") / f"{name}.yaml") as path:
        return read_yaml(path)


def _preset_options(name: str, method: str) -> dict[str, Any]:
    options = preset_table(name).get(method) or {}
    if not isinstance(options, dict):
        raise UsageError(f"preset {name}: {method!r} holds {type(options).__name__}, expected option names and values")
    return flatten(options)


def flatten(data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file as one mapping: ``task_options: {data: F}`` becomes ``task.data: F``."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        group = key.removesuffix("_options")
        if group in GROUPS and isinstance(value, Mapping):
            flat.update({f"{group}.{name}": inner for name, inner in value.items()})
        elif key != "origins":
            flat[key] = value
    return flat


_Placed = tuple[str, dict[tuple[str, str], Any]]


def _place(layer: Layer, schemas: Mapping[str, type[BaseModel] | None]) -> _Placed:
    """Find the group of every key: ("run", name) or ("task" | "method" | "decision", name)."""
    known = {group: set(schema.model_fields) if schema else set() for group, schema in schemas.items()}
    placed: dict[tuple[str, str], Any] = {}
    for key, value in layer.values.items():
        group, dot, name = key.partition(".")
        if dot and group in GROUPS:
            if name not in known[group]:
                raise UnknownNameError(f"{group} option", name, known[group], f"given by {layer.origin}")
            placed[group, name] = value
        elif key in RUN_FIELDS:
            placed["run", key] = value
        else:
            placed[_only_group(key, known, layer.origin), key] = value
    return layer.origin, placed


def _only_group(key: str, known: Mapping[str, set[str]], origin: str) -> str:
    owners = [group for group in ("method", "decision", "task") if key in known[group]]
    if not owners:
        names = [*RUN_FIELDS, *known["method"], *known["decision"], *(f"task.{name}" for name in known["task"])]
        raise UnknownNameError("option", key, names, f"given by {origin}; see: evalsuite options --task T --method M")
    if len(owners) > 1:
        raise UsageError(f"option {key!r} is ambiguous; write " + " or ".join(f"{owner}.{key}" for owner in owners))
    return owners[0]


def _chosen_model(placed: Iterable[_Placed], method: MethodSpec) -> Any:
    if (field := method.config.model_fields.get("model")) is None:
        return None
    return next((layer["method", "model"] for _, layer in placed if ("method", "model") in layer), field.default)


def _merge(placed: list[_Placed], schemas: Mapping[str, type[BaseModel] | None], preset: str | None) -> RunSpec:
    values: dict[tuple[str, str], Any] = {}
    origins: dict[tuple[str, str], str] = {}
    for origin, layer in reversed(placed):
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    options = {
        group: validate_options(
            schema, {name: value for (owner, name), value in values.items() if owner == group}, group, origins
        )
        for group, schema in schemas.items()
    }
    run = {name: value for (owner, name), value in values.items() if owner == "run"}
    run["preset"] = preset
    run |= {f"{group}_options": values for group, values in options.items()}
    run["origins"] = {
        f"{owner}.{name}".removeprefix("run."): origin for (owner, name), origin in sorted(origins.items())
    }
    return _checked(run, origins)


def validate_options(
    schema: type[BaseModel] | None,
    values: Mapping[str, Any],
    group: str = "",
    origins: Mapping[tuple[str, str], str] | None = None,
) -> dict[str, Any]:
    """Check ``values`` against an options model and return all options as plain data, defaults filled in."""
    if schema is None:
        return {}
    try:
        return schema.model_validate(dict(values)).model_dump(mode="json")
    except ValidationError as error:
        raise _option_error(error, group, origins or {}) from None


def _option_error(error: ValidationError, group: str, origins: Mapping[tuple[str, str], str]) -> OptionError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    what = f"--{name}" if group == "run" else f"{group} option {name!r}" if name else f"{group} options"
    origin = f", given by {origins[group, name]}" if (group, name) in origins else ""
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    advice = "run --help" if group == "run" else "options --task T --method M"
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return OptionError(f"{what}: {first['input']!r} does not fit: {reason}{origin}{more}; see: evalsuite {advice}")


def _checked(run: Mapping[str, Any], origins: Mapping[tuple[str, str], str]) -> RunSpec:
    # One folder may be written without a list around it, and Python callers may give paths.
    folders = {name: _texts(run[name]) for name in ("templates", "plugins") if run.get(name) is not None}
    try:
        spec = _run_schema().validate_python({**run, **folders})
    except ValidationError as error:
        raise _option_error(error, "run", origins) from None
    limit = spec.limit
    if limit is not None and not (0 < limit < 1 or (limit > 0 and limit.is_integer())):
        raise OptionError(f"--limit {limit:g} must be a whole number of documents, or a share below 1")
    if spec.train_limit is not None and spec.train_limit < 1:
        raise OptionError(f"--train-limit {spec.train_limit} must be at least 1 document")
    if spec.validation_limit is not None and spec.validation_limit < 1:
        raise OptionError(f"--validation-limit {spec.validation_limit} must be at least 1 document")
    if spec.train_size is not None and spec.train_size < 1:
        raise OptionError(f"--train-size {spec.train_size} must be at least 1 document of each class")
    if spec.retries < 0:
        raise OptionError(f"--retries {spec.retries} must be 0 or more")
    if not 0 <= spec.seed <= LARGEST_SEED:
        raise OptionError(f"--seed {spec.seed} must be from 0 to {LARGEST_SEED}")
    if spec.tuning is not None and set(spec.tuning) != set(TUNING_KEYS):
        raise OptionError(f"tuning holds {', '.join(spec.tuning) or 'nothing'}; expected what a sweep writes there")
    if spec.num_fewshot < 0:
        raise OptionError(f"--num-fewshot {spec.num_fewshot} must be 0 or more examples")
    return spec


@functools.cache
def _run_schema() -> TypeAdapter[RunSpec]:
    """Made once: a sweep checks every cell with it, and to make it takes thirty times as long as to use it."""
    return TypeAdapter(RunSpec)
