"""The rows as they are printed: on the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.report.columns import ABSENT, interval_text
from evalsuite.report.markup import escaped, markdown_table
from evalsuite.reproduce.grid import Plan
from evalsuite.reproduce.published import Figure
from evalsuite.reproduce.quantities import AVERAGES, Quantity
from evalsuite.reproduce.table import Row

LABEL = "REHEARSAL, not a reproduction: samples and small models stand in, and no number here bears on the paper's"
HEADS = ("corpus", "system", "model", "figure", "published")
DIFFERENCE = "difference"
Table = tuple[list[str], list[list[str]]]


def label(plan: Plan, rows: Sequence[Row]) -> str:
    """What must stand over rows of which any is a rehearsal; empty over others."""
    if plan.rehearsal:
        return LABEL
    return f"Rows marked rehearsal: {LABEL}" if any(row.state == "rehearsal" for row in rows) else ""


def tables(rows: Sequence[Row]) -> list[Table]:
    """Columns and rows of text: of F1 in three averages, and of everything else."""
    made = []
    for averaged in (True, False):
        kept = [row for row in rows if row.quantity.averaged is averaged]
        judged = ["within"] if any(row.within is not None for row in kept) else []
        ours = [*AVERAGES, "interval"] if averaged else ["ours"]
        columns = [*HEADS, *ours, DIFFERENCE, *judged, "state"]
        made.append((columns, [_texts(row, columns) for row in kept]))
    return [(columns, texts) for columns, texts in made if texts]


def numeric(columns: Sequence[str]) -> list[str]:
    """The columns that are aligned to the right."""
    return [name for name in columns if name not in (*HEADS[:-1], "state")]


def _texts(row: Row, columns: Sequence[str]) -> list[str]:
    figure, ours = row.figure, row.ours or {}
    said = f", {figure.said}" if figure.said and figure.known else ""
    cells = {
        "corpus": figure.system.corpus,
        "system": figure.system.title,
        "model": figure.system.model or "not known",
        "figure": row.quantity.name + said,
        "published": published_text(figure, row.quantity),
        "ours": row.quantity.text(ours[""]) if "" in ours else ABSENT,
        "interval": interval_text(row.interval) if row.interval else ABSENT,
        DIFFERENCE: _difference(row),
        "within": _within(row),
        "state": _state(row),
        **{average: row.quantity.text(ours[average]) if average in ours else ABSENT for average in AVERAGES},
    }
    return [cells[name] for name in columns]


def published_text(figure: Figure, quantity: Quantity) -> str:
    """The published figure as it stands in print, as far as that is known."""
    if not figure.known:
        return figure.said or "not known"

    def text(value: float) -> str:  # as many digits as were printed
        return f"{value:g}" if quantity.share else quantity.text(value)

    if figure.low is None or figure.high is None:
        return f"at least {text(figure.low)}" if figure.low is not None else f"at most {text(figure.high or 0.0)}"
    if figure.printed or figure.low == figure.high:
        return figure.printed or text(figure.low)
    return f"{text(figure.low)} to {text(figure.high)}"


def _difference(row: Row) -> str:
    """Signed, a value for each average, or the ratio; empty where nothing is compared, as in a rehearsal."""
    if row.difference is None:
        return ""
    if not any(row.difference.values()):
        return "none" if row.figure.low == row.figure.high else "inside"
    if row.quantity.share:
        return " / ".join("inside" if value == 0 else f"{value:+.3f}" for value in row.difference.values())
    return ABSENT if row.ratio is None else f"{row.ratio:.3g} times"


def _within(row: Row) -> str:
    if row.within is None:
        return ""
    if len(row.within) == len(row.ours or {}):
        return "yes"
    return f"only {', '.join(row.within)}" if row.within else "no"


def _state(row: Row) -> str:
    if row.state in ("failed", "not run"):
        return f"{row.state}: {row.reason}"
    return "; ".join([f"{row.state} with {', '.join(row.models)}", *row.notes])


def markdown(plan: Plan, rows: Sequence[Row], command: str) -> str:
    """Label, source, both tables and what was assumed."""
    source = plan.paper.source
    parts = [f"**{label(plan, rows)}**"] if label(plan, rows) else []
    parts += [
        f"Printed by `{command}`. Published: {source['id']} ({source['version']}), {source['url']}, from "
        f"{source['read']}. Not known: {source['unknown']}. Ours: means over seeds, F1 in three averages, since which "
        "one was printed is not known; the difference in the same order, or a ratio where a figure is no share of 1."
    ]
    parts += [_markdown_table(columns, texts) for columns, texts in tables(rows)]
    systems = {row.figure.system.name: row.figure.system for row in rows}.values()
    assumed = [f"- {s.corpus}, {escaped(s.title)}: {escaped(s.assumed)}" for s in systems if s.assumed]
    return "\n\n".join([*parts, "Assumed, since it is not known here what the paper says of it:", "\n".join(assumed)])


def _markdown_table(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    right = numeric(columns)
    return markdown_table(columns, texts, {place for place, name in enumerate(columns) if name in right})


def as_data(plan: Plan, rows: Sequence[Row]) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "label": label(plan, rows) or None,
        "rehearsal": plan.rehearsal,
        "source": dict(plan.paper.source),
        "rows": [_entry(row) for row in rows],
    }


def _entry(row: Row) -> Mapping[str, Any]:
    figure, system = row.figure, row.figure.system
    return {
        "corpus": system.corpus,
        "system": system.name,
        "title": system.title,
        "model": system.model,
        "assumed": system.assumed or None,
        "quantity": figure.quantity,
        "published": [figure.low, figure.high] if figure.known else None,
        "said": figure.said or None,
        "state": row.state,
        "reason": row.reason or None,
        "ours": _plain(row.ours),
        "interval": row.interval,
        "difference": _plain(row.difference),
        "ratio": row.ratio,
        "within": row.within,
        "models": list(row.models),
        "notes": list(row.notes),
        "runs": [str(path) for path in row.runs],
    }


def _plain(values: Mapping[str, float] | None) -> Any:
    """A value for each average, or the only one."""
    return None if values is None else values[""] if "" in values else dict(values)
