"""Where a value comes from, and what is said of one that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalsuite import config as config_module
from evalsuite.config import parse_assignment, preset_names, preset_table, read_yaml, resolve
from evalsuite.contracts import MethodSpec, Task
from evalsuite.errors import OptionError, UnknownNameError, UsageError
from evalsuite.options import Options, option
from evalsuite.registry import Registry, build_registry
from evalsuite.spec import RunSpec


class TaskOptions(Options):
    size: int = option(5, "documents", ge=1)
    shared: str = option("task", "a name that the method has too")
    fields: tuple[str, ...] = option(("title",), "columns")
    path: str = option("", "a file")


class MethodOptions(Options):
    rate: float = option(0.5, "a rate", gt=0)
    shared: str = option("method", "a name that the task has too")
    flag: bool | None = option(None, "yes, no or unset")
    model: str = option("bundled", "a model")
    lora_r: int = option(8, "rank")


class ModelFree(Options):
    rate: float = option(0.5, "a rate")


def nothing(*arguments: Any) -> Any:
    return None


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(config_module, "preset_names", lambda: ["bundled", "paper"])
    made = Registry()
    made.tasks["some"] = Task("some", nothing, TaskOptions)
    made.tasks["bare"] = Task("bare", nothing)
    made.methods["net"] = MethodSpec("net", nothing, nothing, MethodOptions)
    made.methods["free"] = MethodSpec("free", nothing, nothing, ModelFree)
    return made


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"bundled": {"net": {"lora_r": 2}}, "paper": {"net": {"lora_r": 64, "seed": 9}}}
    monkeypatch.setattr(config_module, "preset_table", lambda name: tables[name])


def spec(registry: Registry, *sets: str, config: Path | None = None, **flags: Any) -> RunSpec:
    return resolve(registry, {"task": "some", "method": "net", "model": "m", **flags}, sets, config)[0]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


OPTIONS = {
    "run": ("seed", "seed", [1, 2, 3, 4], 0),
    "method": ("lora_r", "method.lora_r", [1, 2, 3, 4], 8),
    "task": ("task.size", "task.size", [1, 2, 3, 4], 5),
    "decision": ("threshold_min_support", "decision.threshold_min_support", [1, 2, 3, 4], 10),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_flag_over_set_over_file_over_preset_over_default(kind: str, registry: Registry, tmp_path: Path) -> None:
    key, origin, values, default = OPTIONS[kind]
    preset = write(tmp_path / "preset.yaml", f"net: {{{key}: {values[0]}}}")
    file = write(tmp_path / "file.yaml", f"{key}: {values[1]}")
    assignment = f"{key}={values[2]}"

    def resolved(*sets: str, **arguments: Any) -> tuple[Any, str]:
        found = spec(registry, *sets, **arguments)
        group, _, name = origin.rpartition(".")
        value = getattr(found, f"{group}_options")[name] if group else getattr(found, name)
        return value, found.origins.get(origin, "default")

    assert resolved() == (default, "default")
    assert resolved(preset=str(preset)) == (values[0], f"preset {preset}")
    assert resolved(preset=str(preset), config=file) == (values[1], f"file {file}")
    assert resolved(assignment, preset=str(preset), config=file) == (values[2], "--set")
    assert resolved(assignment, preset=str(preset), config=file, **{key: values[3]}) == (values[3], "flag")


@pytest.mark.usefixtures("presets")
def test_the_bundled_model_brings_its_preset(registry: Registry) -> None:
    by_default = resolve(registry, {"task": "some", "method": "net"})[0]
    assert (by_default.preset, by_default.method_options["lora_r"]) == ("bundled", 2)
    assert by_default.origins["method.lora_r"] == "preset bundled"
    assert spec(registry, model="bundled").preset == "bundled"
    assert spec(registry, model="other/model").preset is None
    assert spec(registry, "model=other/model", model=None).preset is None


@pytest.mark.usefixtures("presets")
def test_a_named_preset_replaces_the_bundled_one_and_may_set_run_options(registry: Registry) -> None:
    found = spec(registry, model="bundled", preset="paper")
    assert (found.preset, found.method_options["lora_r"], found.seed) == ("paper", 64, 9)


@pytest.mark.usefixtures("presets")
def test_a_method_without_a_model_has_no_preset_by_itself(registry: Registry) -> None:
    assert resolve(registry, {"task": "some", "method": "free"})[0].preset is None


@pytest.mark.usefixtures("presets")
def test_a_method_whose_own_default_is_another_model_has_no_bundled_preset(registry: Registry) -> None:
    class Encoder(MethodOptions):
        model: str = option("bert-base", "a model")

    registry.methods["encoder"] = MethodSpec("encoder", nothing, nothing, Encoder)
    assert resolve(registry, {"task": "some", "method": "encoder"})[0].preset is None


def test_shipped_presets_are_tables_of_methods_and_options() -> None:
    registry = build_registry()
    for name in preset_names():
        for method, options in preset_table(name).items():
            found, _, _ = resolve(registry, {"task": "table", "method": method, "preset": name, "task.data": "x.csv"})
            for key, value in options.items():
                assert found.origins[f"method.{key}"] == f"preset {name}", value


def test_a_key_may_stand_bare_or_behind_its_group(registry: Registry) -> None:
    found = spec(registry, "size=2", "method.rate=0.25", "calibration=none", "decision.threshold=fixed")
    assert found.task_options["size"] == 2
    assert found.method_options["rate"] == 0.25
    assert (found.decision_options["calibration"], found.decision_options["threshold"]) == ("none", "fixed")


def test_an_ambiguous_key_names_both_ways_to_write_it(registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"'shared' is ambiguous; write method\.shared or task\.shared"):
        spec(registry, "shared=x")
    found = spec(registry, "task.shared=x")
    assert (found.task_options["shared"], found.method_options["shared"]) == ("x", "method")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("lora_rr=3", r"unknown option 'lora_rr'.*lora_r.*given by --set.*evalsuite options"),
        ("task.sise=3", r"unknown task option 'sise'.*size.*given by --set"),
        ("decision.treshold=fixed", r"unknown decision option 'treshold'.*threshold"),
        ("sized=3", r"unknown option 'sized'.*task\.size"),
        ("method.seed=3", r"unknown method option 'seed'"),
        ("grup.size=3", r"unknown option 'grup\.size'.*task\.size"),
    ],
)
def test_an_unknown_option_names_the_nearest_and_where_it_came_from(
    registry: Registry, assignment: str, words: str
) -> None:
    with pytest.raises(UnknownNameError, match=words):
        spec(registry, assignment)


def test_an_option_of_a_task_without_options(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match="unknown task option 'size'; none is registered"):
        spec(registry, "task.size=1", task="bare")


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("rate=1e-3", 0.001),
        ("rate=2", 2.0),
        ("flag=true", True),
        ("flag=false", False),
        ("flag=null", None),
        ('task.fields=["title", "abstract"]', ["title", "abstract"]),
        ("task.path=a=b=c", "a=b=c"),
        ("task.path=", ""),
        ("task.path=[not json", "[not json"),
        ("task.path=1e-3", "1e-3"),
        (" task.path = x", " x"),
    ],
)
def test_a_value_is_read_as_its_option_asks(registry: Registry, assignment: str, expected: Any) -> None:
    found = spec(registry, assignment)
    name = assignment.partition("=")[0].strip().removeprefix("task.")
    assert {**found.task_options, **found.method_options}[name] == expected


@pytest.mark.parametrize("text", ["rate", "=3", " = 3", ""])
def test_an_assignment_needs_a_key_and_a_sign(text: str) -> None:
    with pytest.raises(UsageError, match="is not an assignment; write key=value"):
        parse_assignment(text)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("rate=fast", r"method option 'rate': 'fast' does not fit: input should be a valid number.*given by --set"),
        ("rate=0", r"'0' does not fit: input should be greater than 0"),
        ("task.size=2.5", r"task option 'size': '2\.5' does not fit"),
        ("decision.threshold=high", r"'high' does not fit: input should be 'fixed', 'tuned', 'per_label' or 'top_k'"),
        ("seed=null", r"--seed: None does not fit.*given by --set"),
        ("seed=1.5", r"--seed: '1\.5' does not fit"),
        ("apply_chat_template=perhaps", r"--apply_chat_template: 'perhaps' does not fit"),
        ("overwrite=allways", r"--overwrite: 'allways' does not fit: input should be 'never', 'missing' or 'always'"),
        ("seed=4294967296", r"--seed 4294967296 must be from 0 to 4294967295"),
        ("seed=-1", r"--seed -1 must be from 0"),
        ("train_limit=0", r"--train-limit 0 must be at least 1"),
        ("num_fewshot=-2", r"--num-fewshot -2 must be 0 or more"),
    ],
)
def test_a_value_that_does_not_fit(registry: Registry, assignment: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        spec(registry, assignment)
    assert "\n" not in str(caught.value)


def test_text_of_a_run_option_is_read_as_its_type(registry: Registry) -> None:
    found = spec(registry, "apply_chat_template=false", "seed=7", "limit=12", "templates=mine")
    assert found.apply_chat_template is False
    assert (found.seed, found.limit, found.templates) == (7, 12.0, ("mine",))


@pytest.mark.parametrize("limit", [0.1, 1, 10, "0.5", "10"])
def test_a_limit_is_a_share_below_one_or_a_count(registry: Registry, limit: Any) -> None:
    assert spec(registry, limit=limit).limit == float(limit)


@pytest.mark.parametrize("limit", [1.5, -1, 0, -0.5, float("nan"), float("inf"), "x"])
def test_any_other_limit_is_refused(registry: Registry, limit: Any) -> None:
    with pytest.raises(OptionError, match="--limit"):
        spec(registry, limit=limit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: [1", r"cannot read .* as YAML: .*line 1"),
        ("- seed", "holds list, expected a mapping"),
        ("", "holds NoneType, expected a mapping"),
        ("a: !!python/object/apply:os.getpid []", "cannot read"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_yaml(write(tmp_path / "bad.yaml", text))
    assert "\n" not in str(caught.value)


def test_an_absent_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read"):
        read_yaml(tmp_path / "binary.yaml")


def test_a_file_may_group_options_and_name_task_and_method(registry: Registry, tmp_path: Path) -> None:
    file = write(
        tmp_path / "f.yaml", "task: some\nmethod: net\nmodel: m\ntask_options: {size: 2}\ndecision: {threshold: fixed}"
    )
    found = resolve(registry, {}, (), file)[0]
    assert (found.task, found.method, found.task_options["size"]) == ("some", "net", 2)
    assert found.decision_options["threshold"] == "fixed"


def test_the_spec_of_a_run_resolves_to_itself(registry: Registry, tmp_path: Path) -> None:
    import yaml

    first = spec(registry, "rate=0.25", 'task.fields=["a"]', "flag=null", limit=0.5, templates=["x"], seed=3)
    file = write(tmp_path / "config.yaml", yaml.safe_dump(first.to_dict()))
    again = resolve(registry, {}, (), file)[0]
    assert {**again.to_dict(), "origins": 0} == {**first.to_dict(), "origins": 0}
    assert again == RunSpec.from_dict({**first.to_dict(), "origins": again.origins})


def test_a_preset_of_another_shape(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", "net: [1, 2]")
    with pytest.raises(UsageError, match="'net' holds list, expected option names and values"):
        spec(registry, preset=str(file))
    file.write_text("net: {lora_rr: 1}", encoding="utf-8")
    with pytest.raises(UnknownNameError, match=r"'lora_rr'.*given by preset"):
        spec(registry, preset=str(file))


def test_an_unknown_preset_lists_the_known_ones(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown preset 'papr'.*paper.*or name a YAML file"):
        spec(registry, preset="papr")


@pytest.mark.parametrize("missing", ["task", "method"])
def test_a_request_names_task_and_method(registry: Registry, missing: str) -> None:
    with pytest.raises(UsageError, match=f"no {missing} was named; add --{missing}"):
        spec(registry, **{missing: None})
