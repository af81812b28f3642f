"""The name of a run: everything that can change a result changes it, and nothing else does."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from evalsuite import identity
from evalsuite.config import resolve
from evalsuite.errors import EvalsuiteError
from evalsuite.identity import code_version, source_hash
from evalsuite.preparation import prepare
from evalsuite.registry import build_registry

ROOT = Path(__file__).resolve().parent.parent
SPY = Path(__file__).parent / "spy_plugin.py"


def name(*sets: str, plugin: Path = SPY, **flags: Any) -> str:
    registry = build_registry([plugin])
    flags = {"task": "words", "method": "spy", "plugins": [str(plugin)], **flags}
    return prepare(registry, *resolve(registry, flags, sets)).directory.final.name


@pytest.fixture(scope="module")
def base() -> str:
    return name()


def test_the_name_is_short_hexadecimal_and_stable(base: str) -> None:
    assert re.fullmatch("[0-9a-f]{16}", base)
    assert name() == base


@pytest.mark.parametrize(
    "sets",
    [
        ["seed=1"],
        ["bias=0.5"],
        ["limit=10"],
        ["train_limit=10"],
        ["train_size=5"],
        ["retries=1"],
        ["calibration=none"],
        ["num_fewshot=2"],
        ["task.word=more"],
        ["task.train=31"],
        ["task.validation=25"],
        ["task.test=21"],
        ["task.first_label=1"],
        ["task.reverse_labels=true"],
        ["task.description=the first"],
    ],
    ids=" ".join,
)
def test_what_can_change_a_result_changes_the_name(base: str, sets: list[str]) -> None:
    assert name(*sets) != base


@pytest.mark.parametrize(
    "flags",
    [
        {"device": "cuda:1"},
        {"output_path": "elsewhere"},
        {"overwrite": "always"},
        {"minutes": 5.0},
        {"templates": ["/somewhere/templates"]},
        {"limit": None},
    ],
    ids=str,
)
def test_what_cannot_change_a_result_does_not(base: str, flags: dict[str, Any]) -> None:
    assert name(**flags) == base


def test_task_and_method_are_part_of_it(base: str) -> None:
    assert len({base, name(task="tags"), name(task="secret"), name(method="majority")}) == 4


def test_where_a_value_came_from_is_not(base: str, tmp_path: Path) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text("spy: {bias: 0.25}", encoding="utf-8")
    assert name(preset=str(preset)) == name("bias=0.25") != base


def test_the_path_of_a_plugin_is_not_but_its_code_is(base: str, tmp_path: Path) -> None:
    copy = tmp_path / "moved.py"
    shutil.copy(SPY, copy)
    assert name(plugin=copy) == base
    copy.write_text(copy.read_text(encoding="utf-8") + "\n# a change\n", encoding="utf-8")
    assert name(plugin=copy) != base


def test_a_declared_task_is_known_by_its_name_not_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"word{number},{'ab'[number % 2]}\n" for number in range(60))
    (tmp_path / "data.csv").write_text("text,label\n" + rows, encoding="utf-8")
    (tmp_path / "task.yaml").write_text("name: mine\ndata: data.csv\ntext: text\nlabel: label\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert name(task="task.yaml") == name(task=str(tmp_path / "task.yaml"))


def test_the_template_is_known_by_its_text(tmp_path: Path) -> None:
    """Shown with the identity alone: a method with prompts needs a model."""
    registry = build_registry([SPY])
    spec, task, method = resolve(registry, {"task": "words", "method": "spy"})
    made = [
        identity.run_id(identity.run_identity(spec, task, method, data="d", template=template, model="m"))
        for template in ("one", "two", "one")
    ]
    assert made[0] == made[2] != made[1]


def test_a_model_is_known_by_its_files_not_by_its_path() -> None:
    registry = build_registry()
    if "embedding" not in registry.methods:
        pytest.skip("the embedding method did not load")

    def made(model: str, files: str) -> str:
        spec, task, method = resolve(registry, {"task": "clv", "method": "embedding", "model": model})
        return identity.run_id(identity.run_identity(spec, task, method, data="d", template=None, model=files))

    assert made("/here/model", "hash") == made("./model", "hash") != made("/here/model", "other")


@pytest.mark.parametrize("option", ["checkpoint_minutes=3"])
def test_options_of_the_trained_methods_that_change_nothing(option: str) -> None:
    registry = build_registry()

    def kept(*sets: str) -> dict[str, Any]:
        spec, _, method = resolve(registry, {"task": "clv", "method": "embedding", "model": "m"}, sets)
        return identity.options_identity(method, spec.method_options)

    assert kept(option) == kept()
    assert kept("learning_rate=1e-5") != kept()


def test_the_code_is_the_same_from_a_wheel_and_from_a_checkout(tmp_path: Path) -> None:
    """A wheel puts tasks and plugins inside the package, an editable installation does not."""
    package = tmp_path / "evalsuite"
    shutil.copytree(ROOT / "evalsuite", package, ignore=shutil.ignore_patterns("lm", "__pycache__"))
    for folder in ("tasks", "plugins", "templates"):
        shutil.copytree(ROOT / folder, package / folder)
    code_version.cache_clear()
    assert code_version(package) == code_version()
    (package / "metrics.py").write_text("changed", encoding="utf-8")
    code_version.cache_clear()
    assert code_version(package) != code_version()


class Callable:
    def __call__(self) -> None: ...


def decorated() -> None: ...


def test_the_source_of_anything_that_can_be_called() -> None:
    """A plugin may register a class, a function, a partial or an object."""
    own = source_hash(decorated)
    assert source_hash(Callable) == own
    assert source_hash(Callable()) == own
    assert source_hash(functools.partial(functools.partial(decorated), 1)) == own
    assert source_hash(functools.lru_cache(decorated)) == own
    assert source_hash(EvalsuiteError) != own
    assert source_hash(len) == source_hash(print)
