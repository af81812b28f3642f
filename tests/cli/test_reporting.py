"""The command ``report``: which file it writes, and what it says where it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for method, right in (("strong", 3.0), ("weak", 1.0)):
        phase = {"seconds": 9.0, "documents_per_second": 50.0 * right}
        cost = {"train": phase, "predict": phase, "peak_memory_bytes": {"cpu": 1, "gpu": None}, "usd": None}
        write_run(folder, method=method, right=right, cost=cost)
    return folder


def test_a_page_is_written_and_named(cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "report.html"
    outcome = cli("report", runs, "-o", output, "--title", "Which one?")
    assert (outcome.code, outcome.out) == (0, f"{output}\n")
    page = output.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<h1><bdi>Which one?</bdi></h1>" in page
    assert f"evalsuite report {runs} -o" in page


def test_markdown_needs_no_matplotlib(
    cli: Callable[..., Any], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    output = tmp_path / "report.md"
    assert cli("report", runs, "-o", output).code == 0
    assert "| 1 | strong |" in output.read_text(encoding="utf-8")
    outcome = cli("report", runs, "-o", tmp_path / "report.html")
    assert outcome.code == 2
    assert "pip install 'evalsuite[report]'" in outcome.err
    assert not (tmp_path / "report.html").exists()


def test_one_plot_is_written_alone(cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "pareto.svg"
    assert cli("report", runs, "--plot", "pareto", "-o", drawn).code == 0
    text = drawn.read_text(encoding="utf-8")
    assert text.startswith("<svg xmlns=")
    assert "prefers-color-scheme:dark" in text
    assert ">strong</text>" in text
    assert cli("report", runs, "--plot", "words-pareto", "-o", drawn).code == 0
    assert drawn.read_text(encoding="utf-8") == text
    picture = tmp_path / "pareto.png"
    assert cli("report", runs, "--plot", "pareto", "-o", picture).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_plot_alone_is_a_document_of_its_own(cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    from defusedxml.ElementTree import parse

    drawn = tmp_path / "labels.svg"
    assert cli("report", runs, "--plot", "labels", "-o", drawn).code == 0
    assert parse(drawn).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["-o", "report.pdf"], 2, "a report ends in .html or .md"),
        (["-o", "x.svg"], 2, "or one plot with --plot"),
        (["--plot", "paretto", "-o", "x.svg"], 2, "did you mean words-pareto?"),
        (["--plot", "pareto", "-o", "x.html"], 2, "a plot is written as .svg or .png"),
        ([], 2, "--output"),
    ],
    ids=["ending", "plot ending", "unknown plot", "page ending", "no output"],
)
def test_what_cannot_be_written_is_refused(
    cli: Callable[..., Any],
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("report", runs, *arguments)
    assert outcome.code == code
    assert told in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_runs_is_refused(cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli("report", tmp_path, "-o", tmp_path / "report.html")
    assert outcome.code != 0
    assert str(tmp_path) in outcome.err


def test_a_place_that_cannot_be_written_is_one_clear_line(cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = cli("report", runs, "-o", tmp_path / "file" / "report.md")
    assert outcome.code == 6
    assert "a part of the path is a file" in outcome.err


def test_the_command_itself_imports_nothing_heavy(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom evalsuite.cli.app import main\n"
        "import evalsuite.cli.reporting\n"
        "print(*{'torch', 'transformers', 'matplotlib', 'scipy', 'sklearn', 'jinja2'} & {*sys.modules})\n"
        f"main(['report', {str(runs)!r}, '-o', {str(tmp_path / 'report.html')!r}])\n"
        "print(*{'torch', 'transformers', 'sklearn', 'pandas', 'datasets'} & {*sys.modules})"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, written, last = child.stdout.splitlines()
    assert (first, Path(written).name, last) == ("", "report.html", "")
