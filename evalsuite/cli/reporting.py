"""``report``: finished runs as one page, or one of its plots as a picture."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from evalsuite.cli import console
from evalsuite.errors import UnknownNameError, UsageError

commands = typer.Typer()

PAGES = (".html", ".md")


@commands.command("report")
def report(
    runs: list[str] = typer.Argument(help="Run directories, folders of them, globs, or queries such as method=bert."),
    output: Path = typer.Option(
        ..., "--output", "-o", help="The file to write: .html or .md; with --plot also .svg or .png."
    ),
    plot: str = typer.Option(None, "--plot", help="Write this plot of the page alone, such as pareto."),
    title: str = typer.Option("", "--title", help="The page's title (default: it names the tasks)."),
    output_path: str = typer.Option("runs", "--output-path", help="Folder of the runs that a query looks through."),
) -> None:
    """Write one self-contained page about many runs: who leads, whether that is certified, and what it costs."""
    from evalsuite.report.page.assemble import make_page
    from evalsuite.report.page.canvas import require_matplotlib, save
    from evalsuite.report.page.render import html, markdown
    from evalsuite.selection import select_runs
    from evalsuite.store import write_text, writing

    kind = output.suffix.lower()
    if plot is None and kind not in PAGES:
        raise UsageError(f"{output}: a report ends in .html or .md; name such a file with -o, or one plot with --plot")
    if plot is not None or kind == ".html":
        require_matplotlib()
    command = shlex.join(["evalsuite", "report", *runs, "-o", str(output)])
    page = make_page(select_runs(runs, output_path), command, title)
    figure = None if plot is None else page.figures[find_plot(plot, list(page.figures))]
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        if figure is not None:
            save(figure, output)
        else:
            write_text(output, html(page) if kind == ".html" else markdown(page))
    console.out(str(output))


def find_plot(name: str, known: list[str]) -> str:
    """The figure that is called ``name``, or the first whose name after the task's is that.

    Raises:
        UnknownNameError: no figure of the page is.
    """
    found = [entry for entry in known if entry == name] or [entry for entry in known if entry.endswith(f"-{name}")]
    if not found:
        raise UnknownNameError("plot", name, known, "a report has those that its runs have data for")
    return found[0]
