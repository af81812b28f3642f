"""``evalsuite export`` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import evalsuite

PLUGINS = [Path(__file__).parent.parent / name for name in ("spy_plugin.py", "deliver/portable_plugin.py")]
pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return evalsuite.run("words", "portable", plugins=PLUGINS, output_path=folder).directory


def test_what_was_written_and_how_the_check_went(run: Path, tmp_path: Path, cli: Callable[..., tuple]) -> None:  # type: ignore[type-arg]
    code, out, _ = cli("export", run, "--merged", "-o", tmp_path / "model")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("merged: 0.0 MB in ")
    assert first.endswith("model/README.md")
    assert second == ("checked without evalsuite: 20 of 20 documents get the same labels, logits differ by at most 0")
    code, out, _ = cli("export", run, "--merged", "-o", tmp_path / "model", "--overwrite", "--json")
    told = json.loads(out)
    assert (code, told["kind"], told["check"]["passed"]) == (0, "merged", True)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "name one of --adapter, --merged and --onnx, not none"),
        (["--adapter", "--onnx"], "name one of --adapter, --merged and --onnx, not adapter and onnx"),
        (["--adapter"], "cannot be exported as adapter; it can as: merged"),
    ],
)
def test_a_wrong_kind_is_one_line(
    flags: list[str],
    words: str,
    run: Path,
    tmp_path: Path,
    cli: Callable[..., tuple],  # type: ignore[type-arg]
) -> None:
    code, out, err = cli("export", run, *flags, "-o", tmp_path / "model")
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
