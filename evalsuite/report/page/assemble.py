"""A page from runs: what each task's chapter holds, in the order in which a person reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evalsuite import __version__
from evalsuite.report.grouping import of_one_split
from evalsuite.report.page.collect import Field, collect
from evalsuite.report.page.conditions import provenance, rates, verbalizers
from evalsuite.report.page.content import Chapter, Page, safe, short
from evalsuite.report.page.curves import learning
from evalsuite.report.page.documents import documents
from evalsuite.report.page.mistakes import by_label, confusions
from evalsuite.report.page.standings import answer, leaderboard, significance
from evalsuite.report.page.tradeoff import tradeoffs
from evalsuite.report.page.trust import calibration, coverage
from evalsuite.spec import RunResult

PARTS = (
    leaderboard,
    significance,
    tradeoffs,
    learning,
    verbalizers,
    by_label,
    confusions,
    documents,
    calibration,
    coverage,
    rates,
    provenance,
)


def make_page(runs: Sequence[RunResult], command: str, title: str = "") -> Page:
    """The report of ``runs``; ``command`` is printed as what makes it.

    Raises:
        StoreError: a run without a table of predictions.
    """
    scored, trials = of_one_split(runs)
    fields = collect(scored)
    tasks = list(dict.fromkeys(field.task for field in fields))
    days = sorted({results["finished"][:10] for field in fields for results in field.results})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    count = sum(len(field.results) for field in fields)
    notes = [f"{count:,} {'run' if count == 1 else 'runs'}, finished {when}"]
    if trials:
        notes.append(f"trials on validation left out: {trials:,}")
    return Page(
        title=short(title, 120) or f"Text classifiers on {', '.join(short(task, 30) for task in tasks[:4])}",
        command=safe(command),
        version=__version__,
        notes=tuple(notes),
        chapters=tuple(map(_chapter, fields)),
    )


def _chapter(field: Field) -> Chapter:
    parts = tuple(part for make in PARTS if not (part := make(field)).empty or part.text)
    return Chapter(field.name, short(field.title), tuple(answer(field)), tuple(_warnings(field)), _facts(field), parts)


def _warnings(field: Field) -> list[str]:
    results = field.results
    said = []
    synthetic = sum(bool(entry["data"]["synthetic"]) for entry in results)
    if synthetic:
        which = "All" if synthetic == len(results) else f"{synthetic:,} of {len(results):,}"
        said.append(f"REHEARSAL: {which} runs are on synthetic data. Nothing here says anything about the real corpus.")
    if (split := results[0].get("split", "test")) != "test":
        said.append(f"Scored on the {split} split, not on the test split: good for choosing, not for reporting.")
    notices = Counter(notice for entry in results for notice in entry.get("notices") or ())
    for notice, count in notices.most_common(8):
        if not notice.startswith("Data: a synthetic sample"):
            said.append(safe(notice) + (f" ({count:,} of {len(results):,} runs)" if count < len(results) else ""))
    return said


def _facts(field: Field) -> tuple[tuple[str, str], ...]:
    data = field.results[0]["data"]
    sizes = " / ".join(f"{count:,}" for count in data["sizes"].values())
    trained = {entry["data"]["sizes"]["train"] for entry in field.results}
    if len(trained) > 1:
        sizes += f" (train from {min(trained):,} to {max(trained):,})"
    kind = "several labels a document" if field.multilabel else "one label a document"
    labels = ", ".join(short(label, 24) for label in field.labels[:12])
    more = f" and {len(field.labels) - 12} more" if len(field.labels) > 12 else ""
    found = [
        ("documents, train / validation / test", sizes),
        (f"{len(field.labels)} labels, {kind}", labels + more),
        *((name, short(str(data[name]), 160)) for name in ("source", "revision", "licence") if data.get(name)),
    ]
    if data["private"]:
        found.append(("private", "the text of the documents is not shown"))
    return tuple(found)
