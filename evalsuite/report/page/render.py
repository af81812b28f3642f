"""A page as one HTML file that needs nothing else, or as Markdown. All text in it is data: it is escaped."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from evalsuite.report.markup import escaped, markdown_table
from evalsuite.report.page.canvas import HALO, MARKERS, SERIES, colour_rules, svg
from evalsuite.report.page.content import Page, Table, safe

# Sizes beyond which a table is folded away.
LONGEST_OPEN = 40


def html(page: Page) -> str:
    """The page with its plots, styles and script inside; its policy lets it load nothing and run nothing else.

    Raises:
        UsageError: matplotlib is not installed.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from evalsuite.report.page.canvas import require_matplotlib

    require_matplotlib()
    script, style = _file("page.js"), f"{colour_rules(':root')}\n{_file('page.css')}\n{HALO}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("evalsuite.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(
        page=page,
        script=Markup(script),
        style=Markup(style),
        script_digest=Markup(digest),
        draw=lambda figure: Markup(svg(figure)),
        longest_open=LONGEST_OPEN,
        series=SERIES,
        signs=len(MARKERS),
    )
    return text.strip() + "\n"


def _file(name: str) -> str:
    return resources.files("evalsuite.report.page").joinpath(name).read_text(encoding="utf-8")


def markdown(page: Page) -> str:
    """The same page without plots: every plot is the table behind it."""
    lines = [f"# {escaped(page.title)}", " · ".join(map(escaped, page.notes))]
    for chapter in page.chapters:
        if len(page.chapters) > 1:
            lines.append(f"## {escaped(chapter.title)}")
        lines += ["\n".join(f"> **Note:** {escaped(text)}  " for text in chapter.warnings)] if chapter.warnings else []
        lines.append("**" + escaped(chapter.answer[0]) + "** " + " ".join(map(escaped, chapter.answer[1:])))
        lines.append("\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in chapter.facts))
        for part in chapter.parts:
            lines.append(f"{'###' if len(page.chapters) > 1 else '##'} {escaped(part.title)}")
            lines += map(escaped, part.text)
            lines += [_grid(found) for found in part.tables]
            for figure in part.figures:
                lines += [f"**{escaped(figure.title)}.**", _grid(figure.table)]
            lines += [
                f"<details><summary>{escaped(found.name)}</summary>\n\n{_grid(found)}\n\n</details>"
                for found in part.folded
            ]
    lines.append(f"Made by <code>{escaped(page.command)}</code> of evalsuite {page.version}.")
    return "\n\n".join(line for line in lines if line) + "\n"


def _grid(found: Table) -> str:
    right = {place for place, name in enumerate(found.columns) if found.heads <= place and name not in found.words}
    rows = ([safe(_words(cell.text, cell.note if cell.kind == "warned" else "")) for cell in row] for row in found.rows)
    return markdown_table([safe(name) for name in found.columns], rows, right)


def _words(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text
