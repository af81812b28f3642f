"""The wheel holds what it must and nothing beside the package; installed, it runs elsewhere, with a plugin."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = Path(__file__).parent / "example_plugin"
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        int(version("setuptools").partition(".")[0]) < 77, reason="building without isolation needs setuptools 77"
    ),
]


def build(source: Path, folder: Path) -> Path:
    """A wheel, built with what is installed here: nothing is downloaded."""
    copy, wheels = folder / "source", folder / "wheels"
    shutil.copytree(source, copy, ignore=NOT_SOURCE)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(wheels)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True, timeout=120)
    [wheel] = wheels.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("evalsuite"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with both wheels; the libraries are this environment's, its own evalsuite is not."""
    folder = tmp_path_factory.mktemp("fresh")
    example = build(EXAMPLE, tmp_path_factory.mktemp("example"))
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    interpreter = folder / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    # A path file of a path file is not read, so an editable evalsuite stays out.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(interpreter),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    # The libraries' folder may hold an evalsuite of the same version, which must not count as installed.
    subprocess.run([*install, "--ignore-installed", str(wheel), str(example)], check=True, timeout=120)
    return interpreter


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    command = [str(python.with_name("evalsuite")), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=120
    )


def test_the_wheel_holds_templates_presets_the_bundled_model_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = {
        "templates": "evalsuite/templates",
        "evalsuite/presets": "evalsuite/presets",
        "evalsuite/sweeps": "evalsuite/sweeps",
        "evalsuite/bundled/lm": "evalsuite/bundled/lm",
        "tasks": "evalsuite/tasks",
        "plugins": "evalsuite/plugins",
    }
    for folder, packaged in sources.items():
        files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
        wanted = [f"{packaged}/{file.as_posix()}" for file in files if "__pycache__" not in file.parts]
        assert wanted
        assert set(wanted) <= set(names)
    assert "evalsuite/py.typed" in names


def test_the_wheel_holds_every_module_of_the_package(wheel: Path) -> None:
    """The list of packages in pyproject.toml is written by hand."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "evalsuite").rglob("*.py")} <= names


def test_the_wheel_adds_one_name_to_site_packages(wheel: Path) -> None:
    assert {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {
        "evalsuite",
        f"evalsuite-{version('evalsuite')}.dist-info",
    }


def test_an_installed_plugin_runs_outside_the_checkout(python: Path, tmp_path: Path) -> None:
    where = [
        str(python),
        "-c",
        "import evalsuite, evalsuite_example; print(evalsuite.__file__, evalsuite_example.__file__)",
    ]
    child = subprocess.run(where, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert all(str(python.parent.parent) in path for path in child.stdout.split())
    result = run(python, tmp_path, "run", "--task", "weather", "--method", "tfidf", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["metrics"]["summary"]["accuracy"]["value"] == 1
    assert found["metrics"]["summary"]["rain_share"]["value"] == 0.5
    assert found["reload_check"]["passed"] is True
    assert (tmp_path / "runs" / "weather__tfidf").is_dir()


def test_an_installed_plugin_is_listed_with_its_package(python: Path, tmp_path: Path) -> None:
    rows = {row["plugin"]: row for row in json.loads(run(python, tmp_path, "plugins", "--json").stdout)}
    assert rows["example"] == {"plugin": "example", "from": "evalsuite-example 1.2.3", "state": "loaded"}
    templates = json.loads(run(python, tmp_path, "ls", "templates", "--json").stdout)
    assert {"plain", "letters", "descriptions", "numbers"} <= {row["template"] for row in templates}


def test_the_code_of_a_wheel_is_the_code_of_the_checkout(python: Path, tmp_path: Path) -> None:
    """So a run is found again after an installation of another kind."""
    from evalsuite.identity import code_version

    told = subprocess.run(
        [str(python), "-c", "from evalsuite.identity import code_version; print(code_version())"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    code_version.cache_clear()
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", told.stdout.strip())
    assert told.stdout.strip() == code_version()
