"""A table made of finished runs and of nothing else: one row a group of runs that differ in the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.report.columns import ABSENT, find_columns, metric
from evalsuite.report.grouping import Group, group_runs, of_one_split, row_fields, sorted_groups
from evalsuite.report.markup import escaped, markdown_table
from evalsuite.spec import RunResult
from evalsuite.store import digest_of

COSTS = ("sd", "interval", "trainable", "train", "predict")


@dataclass(frozen=True)
class Settings:
    """How a table looks.

    rows: fields that head the rows; further ones are added where two rows would look alike. columns: see
    ``columns_of``; the primary metrics and what they cost unless named. spread: a field over whose values mean, worst
    and best are told under the table. reach: the score that the column epochs_to looks for. order: field -> its values
    in the order of the rows.
    """

    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    spread: str | None = None
    reach: float | None = None
    order: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Rows of text under ``columns``, the first ``heads`` of which say what a row is. ``values``: the same as data."""

    columns: list[str]
    heads: int
    rows: list[list[str]]
    values: list[dict[str, Any]]

    @property
    def numeric(self) -> list[str]:
        """The columns that are aligned to the right."""
        return self.columns[self.heads :]


@dataclass(frozen=True)
class Table:
    """``spread`` is None unless asked for. ``superseded``: runs left out for a newer one of the same options.
    ``trials``: runs left out since they scored validation and others scored test.
    """

    main: Grid
    spread: Grid | None
    origin: str
    superseded: int
    trials: int = 0


def make_table(runs: Sequence[RunResult], settings: Settings = Settings()) -> Table:
    """Group ``runs``, order the groups and fill the columns.

    Raises:
        UnknownNameError: a column that does not exist.
        UsageError: a row field that no run has, or runs of one row that scored different documents.
    """
    runs, trials = of_one_split(runs)
    groups, superseded = group_runs(runs)
    for group in groups:
        group.samples  # noqa: B018 - read, and refused, whatever the columns are: a mean over other documents says nothing
    rows = row_fields(groups, settings.rows)
    groups = sorted_groups(groups, rows, settings.order)
    primaries = list(dict.fromkeys(group.primary for group in groups))
    budget = ["trials"] if any(group.fields.get("trials") for group in groups) else []
    names = [name for name in settings.columns or [*primaries, *budget, *COSTS] if name != "seeds"]
    main = _main(groups, rows, ["seeds", *names], settings.reach)
    spread = _spread(groups, rows, settings.spread) if settings.spread else None
    return Table(main, spread, _origin(groups), superseded, trials)


def _main(groups: Sequence[Group], rows: Sequence[str], names: Sequence[str], reach: float | None) -> Grid:
    columns = find_columns(names, groups, reach)
    texts, values = [], []
    for group in groups:
        heads = {name: group.fields.get(name) for name in rows}
        cells = {name: column.compute(group) for name, column in columns.items()}
        shown = [ABSENT if cells[name] is None else column.show(cells[name]) for name, column in columns.items()]
        texts.append([*map(_head, heads.values()), *shown])
        values.append({"row": heads, **cells, "runs": [str(run.directory) for run in group.runs]})
    return Grid([*rows, *columns], len(rows), texts, values)


def _spread(groups: Sequence[Group], rows: Sequence[str], over: str) -> Grid:
    """Mean, worst and best of the primary metric over the values of one field, for each setting of the others."""
    if over not in rows:
        raise UsageError(f"spread over {over!r}: the rows do not differ in it; they differ in {', '.join(rows)}")
    rest = [name for name in rows if name != over]
    alike: dict[str, list[Group]] = {}
    for group in groups:
        alike.setdefault(digest_of([group.fields.get(name) for name in rest]), []).append(group)
    texts, values = [], []
    for members in alike.values():
        heads = [members[0].fields.get(name) for name in rest]
        scored = [(mean, member) for member in members if (mean := member.mean(member.primary)) is not None]
        if not scored:
            continue
        (low, worst), (high, best) = (pick(scored, key=lambda entry: entry[0]) for pick in (min, max))
        mean = sum(score for score, _ in scored) / len(scored)
        ends = {"worst": (low, worst.fields.get(over)), "best": (high, best.fields.get(over))}
        shown = [f"{metric(score)} ({_head(name)})" for score, name in ends.values()]
        texts.append([*map(_head, heads), str(len(scored)), metric(mean), *shown])
        values.append({"row": dict(zip(rest, heads, strict=True)), "values": len(scored), "mean": mean, **ends})
    return Grid([*rest, f"values of {over}", "mean", "worst", "best"], len(rest), texts, values)


def _head(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)


def _origin(groups: Sequence[Group]) -> str:
    """How many runs of which version, when, on what: one sentence."""
    results = [entry for group in groups for entry in group.results]
    versions = sorted({entry["environment"]["evalsuite"] for entry in results})
    days = sorted({entry["finished"][:10] for entry in results})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    tested = sorted(
        {
            f"{entry['metrics']['counts']['documents']:,} {entry.get('split', 'test')} documents of {entry['task']}"
            + (" (a synthetic sample)" if entry["data"]["synthetic"] else "")
            for entry in results
        }
    )
    incomplete = sum(bool(entry.get("incomplete")) for entry in results)
    lacking = f" ({incomplete} incomplete: documents without an answer)" if incomplete else ""
    return f"{len(results)} runs{lacking} of evalsuite {', '.join(versions)}, {when}, on {', '.join(tested)}"


def markdown(table: Table, command: str, about: str = "") -> str:
    """The table as Markdown; its first line says what printed it and of which runs."""
    parts = [f"Printed by `{command}` from {table.origin}."]
    if about:
        parts.append(escaped(about))
    for grid in filter(None, (table.main, table.spread)):
        parts.append(markdown_table(grid.columns, grid.rows, range(grid.heads, len(grid.columns))))
    return "\n\n".join(parts)
