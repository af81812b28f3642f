"""A page of many runs: what stands on it, what it says first, and that data on it stays data."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_run

from evalsuite.report.page.assemble import make_page
from evalsuite.report.page.collect import COMPARED, DETAILED, collect, families
from evalsuite.report.page.content import Page, brief, listed, safe, short
from evalsuite.report.page.render import html, markdown
from evalsuite.selection import select_runs

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg><script>alert(2)</script>",
    "\u202eRTL\u2067 $x^2$ \x00\x1b[31m",
    "y" * 10_000,
)


def parts(page: Page, place: int = 0) -> dict[str, Any]:
    return {part.name: part for part in page.chapters[place].parts}


def texts(found: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, two seeds each; the fastest is not the best."""
    folder = tmp_path_factory.mktemp("methods")
    for method, right, rate in (("good", 3.0, 10.0), ("near", 2.9, 5000.0), ("poor", 0.3, 90.0)):
        for seed in range(2):
            cost = {
                "train": {"seconds": 100.0 if method == "good" else 2.0, "documents_per_second": 1.0},
                "predict": {"seconds": 1.0, "documents_per_second": rate},
                "peak_memory_bytes": {"cpu": 2**30, "gpu": None},
                "usd": None,
            }
            write_run(folder, seed, method, right, n=200, cost=cost, texts=[f"text {row}" for row in range(200)])
    return folder


@pytest.fixture(scope="module")
def whole(page: Page) -> str:
    return html(page)


@pytest.fixture(scope="module")
def page(methods: Path) -> Page:
    return make_page(select_runs([str(methods)]), "evalsuite report runs -o report.html")


def test_the_answer_comes_first(page: Page) -> None:
    said = page.chapters[0].answer
    assert re.match(r"(good|near) leads with a macro-F1 of 0\.\d{3} \(95% interval .*\), mean of 2 seeds\.$", said[0])
    leader = said[0].split()[0]
    other = {"good": "near", "near": "good"}[leader]
    assert said[1].startswith(f"Its lead over {other} is not certified, over all others it is.")
    if leader == "good":
        assert said[1].endswith("The fastest of these is near: 5,000 docs/s against 10.")
    assert said[2].startswith(f"{leader} trains 12,345 parameters in")


def test_the_leaderboard_has_scores_intervals_seeds_and_costs(page: Page) -> None:
    board = parts(page)["leaderboard"].tables[0]
    rows = texts(board)
    assert board.sortable
    assert board.columns[:6] == ("#", "system", "macro-F1", "95% interval", "seeds", "sd")
    assert board.columns[-4:] == ("trainable", "train", "docs/s", "memory")
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[2][1] == "poor"
    assert {row[4] for row in rows} == {"2"}
    assert all(re.fullmatch(r"0\.\d+ to 0\.\d+", row[3]) for row in rows)
    scored = [row[2].key for row in board.rows]
    assert scored == sorted(scored, reverse=True)


def test_the_matrix_marks_what_is_certified_and_nothing_else(page: Page) -> None:
    part = parts(page)["significance"]
    pairs = texts(part.folded[0])
    certified = {(row[0], row[1]) for row in pairs if "certified at 5%" in row[-1]}
    assert len(certified) == 2
    assert all("poor" in pair for pair in certified)
    matrix = part.tables[0]
    marked = sum(cell.kind in ("up", "down") for row in matrix.rows for cell in row)
    assert marked == 2 * len(certified)
    assert [cell.text for cell in matrix.rows[2][1:3]] == [
        f"-{matrix.rows[0][3].text.lstrip('+')}",
        f"-{matrix.rows[1][3].text.lstrip('+')}",
    ]


def test_every_figure_has_its_numbers_and_a_name_of_its_own(page: Page) -> None:
    names = list(page.figures)
    assert {"words-pareto", "words-learning", "words-labels", "words-confusion", "words-coverage"} <= set(names)
    assert sum(len(part.figures) for part in page.chapters[0].parts) == len(names)
    for figure in page.figures.values():
        assert figure.table.rows
        assert figure.title
        assert figure.caption


def test_provenance_names_run_command_versions_and_data(page: Page, methods: Path) -> None:
    found = parts(page)["provenance"].folded[0]
    assert len(found.rows) == 6
    row = dict(zip(found.columns, (cell.text for cell in found.rows[0]), strict=True))
    assert row["makes it again"].startswith("evalsuite run --config ")
    assert Path(row["makes it again"].split()[-1]).is_file()
    assert (row["evalsuite"], row["versions"], row["data"]) == ("0.1.0+abcdef", "torch 2.13.0", "0123456789abcdef")
    assert row["finished"].startswith("2026-01-02")
    assert re.fullmatch("[0-9a-f]{16}", row["run"])


def test_the_worst_documents_are_those_that_the_best_systems_get_wrong(page: Page, methods: Path) -> None:
    part = parts(page)["documents"]
    rows = texts(part.tables[0])
    assert rows
    agreed = [int(row[3].split()[0]) for row in rows]
    assert agreed == sorted(agreed, reverse=True)
    assert min(agreed) >= 2
    assert all(row[1] != row[2] and row[5].startswith("text ") for row in rows)


def test_private_text_is_not_shown_even_where_samples_hold_it(tmp_path: Path) -> None:
    """Trap: private text reaches no page."""
    run = write_run(tmp_path, right=0.2, texts=["a secret"] * 60)
    run.results["data"]["private"] = True  # type: ignore[index]
    page = make_page([run], "x")
    found = parts(page)["documents"]
    assert "text" not in found.tables[0].columns
    assert "hash alone" in found.text[1]
    assert "a secret" not in html(page) + markdown(page)


def test_one_system_alone_is_not_compared(tmp_path: Path) -> None:
    page = make_page([write_run(tmp_path, seed) for seed in range(2)], "x")
    assert page.chapters[0].answer[1] == "Nothing is certified: one system alone has nothing to be compared with."
    assert "<h3>Certified differences</h3>" in html(page)


def test_every_task_and_every_set_of_documents_has_its_chapter(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, method=name, task=task) for name in ("a", "b") for task in ("words", "news")]
    runs += [write_run(tmp_path, method=name, shift=1) for name in ("a", "b", "c")]
    page = make_page(runs, "x")
    assert [(chapter.name, chapter.title) for chapter in page.chapters] == [
        ("news", "news"),
        ("words", "words, 60 test documents"),
        ("words-2", "words, 60 test documents"),
    ]
    assert {"news-pareto", "words-labels", "words-2-labels"} - set(page.figures) == {"news-pareto"}  # one cost for all
    assert len(parts(page, 1)["leaderboard"].tables[0].rows) == 3


def test_synthetic_data_is_told_loudly(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.results["data"]["synthetic"] = True  # type: ignore[index]
    page = make_page([run], "x")
    assert page.chapters[0].warnings[0].startswith("REHEARSAL: All runs are on synthetic data.")
    assert '<p class="loud" role="note">REHEARSAL' in html(page)
    assert "> **Note:** REHEARSAL" in markdown(page)


def test_trials_on_validation_are_left_out_and_counted(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, method="a"), write_run(tmp_path, method="a", split="validation", shift=1)]
    page = make_page(runs, "x")
    assert len(page.chapters) == 1
    assert page.notes[1] == "trials on validation left out: 1"


def test_collapsed_and_incomplete_runs_are_marked(tmp_path: Path) -> None:
    status = ["ok"] * 50 + ["invalid"] * 4 + ["failed"] * 6
    runs = [write_run(tmp_path, 0, collapse={"collapsed": True}), write_run(tmp_path, 1, status=status)]
    page = make_page(runs, "x")
    assert parts(page)["leaderboard"].tables[0].rows[0][1].note == "1 of 2 seeds collapsed, 1 incomplete"
    rates = dict(zip(parts(page)["rates"].tables[0].columns, texts(parts(page)["rates"].tables[0])[0], strict=True))
    assert (rates["test cut"], rates["no answer"]) == ("25.0%", "5.0%")
    matrix = parts(page)["confusion"].figures[0].table
    assert matrix.columns[-1] == "no label"
    assert sum(row[-1].key for row in matrix.rows) == 2  # four invalid answers in one of two seeds


def test_families_differ_in_one_field_alone(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, method=method, options={"train_size": size}, right=0.2 * size)
        for method in ("a", "b")
        for size in (4, 16)
    ]
    for run, template in zip(runs, ("plain", "letters", "plain", "plain"), strict=True):
        run.results["prompt"] = {"template": template}  # type: ignore[index]
    (field,) = collect(runs)
    assert [
        (family.title, sorted(value for value, _ in family.members)) for family in families(field.systems, "train_size")
    ] == [("b", [4, 16])]


def test_long_names_leave_out_what_most_systems_have(tmp_path: Path) -> None:
    """Options that differ somewhere would else head every row."""
    common = {"class_weights": "none", "label_smoothing": 0.1, "focal_gamma": 0.0}
    odd = ({}, {"focal_gamma": 2.0}, {"label_smoothing": 0.2}, {"class_weights": "balanced"})
    runs = [
        write_run(tmp_path, right=4.0 - place, n=400, options={**common, **options})
        for place, options in enumerate(odd)
    ]
    (field,) = collect(runs)
    told = [system.title for system in field.systems]
    assert told == ["net", "focal_gamma=2", "label_smoothing=0.2", "class_weights=balanced"]


def test_an_outside_systems_run_is_made_again_by_score(tmp_path: Path) -> None:
    page = make_page([write_run(tmp_path, facts={"predictions_file": "vendor.csv"})], "x")
    listed_runs = parts(page)["provenance"].folded[0]
    told = dict(zip(listed_runs.columns, texts(listed_runs)[0], strict=True))["makes it again"]
    assert told == "evalsuite score vendor.csv --task words --name net"


def test_of_many_systems_a_few_are_detailed_and_the_page_says_so(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, method=f"m{place:02}", right=0.1 * place, n=30) for place in range(COMPARED + 3)]
    page = make_page(runs, "x")
    found = parts(page)
    assert len(found["leaderboard"].tables[0].rows) == COMPARED + 3
    assert len(found["significance"].tables[0].rows) == COMPARED
    assert f"Of {COMPARED + 3} systems the best {COMPARED} are compared." in found["significance"].text
    assert len(found["calibration"].figures) == DETAILED
    assert any(f"best {DETAILED} systems" in text for text in found["calibration"].text)


def test_what_cannot_be_compared_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, method=method) for method in ("a", "b")]
    for run in runs:
        run.results["primary_metric"] = "hit_any"  # type: ignore[index]
        run.results["metrics"]["summary"]["hit_any"] = {"value": 0.5, "interval": None}
    page = make_page(runs, "x")
    assert "metric 'hit_any' cannot be compared" in page.chapters[0].answer[1]
    assert "hit_any" in html(page)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("k", [2, 30])
def test_every_kind_of_task_has_a_page(tmp_path: Path, multilabel: bool, k: int) -> None:
    labels = [f"label {place}" for place in range(k)]
    runs = [
        write_run(tmp_path, method=method, labels=labels, multilabel=multilabel, probabilities=method != "told")
        for method in ("a", "b", "told")
    ]
    page = make_page(runs, "x")
    found = parts(page)["confusion"]
    if multilabel:
        assert found.folded[0].columns == ("label", "hits", "false alarms", "misses")
    elif k > 12:
        assert found.tables[0].columns[:3] == ("gold", "predicted", "documents")
    else:
        assert found.figures[0].name == "words-confusion"
    assert len(parts(page)["calibration"].figures) == 2
    assert "<svg" in html(page)


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Trap: labels, model names, options and documents that are tags, entities, control characters or turn the line."""
    documents = [HOSTILE[row % len(HOSTILE)] for row in range(60)]
    runs = [
        write_run(tmp_path, 0, "net", 1.0, labels=HOSTILE, texts=documents, options={"model": evil, "rank": evil})
        for evil in HOSTILE
    ]
    runs[0].results["notices"].append("half a character: \ud800")
    page = make_page(runs, f"evalsuite report {HOSTILE[0]}", HOSTILE[1])
    whole, flat = html(page), markdown(page)
    elements = Elements(whole).found
    assert [tag for tag, _ in elements].count("script") == 1
    assert not {"img", "iframe", "object", "base", "form"} & {tag for tag, _ in elements}
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in whole
    assert "<script" not in flat
    assert "<img" not in flat
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800]", whole + flat)
    assert "y" * 500 not in whole + flat
    assert len(whole) < 2_000_000


def test_the_same_runs_make_the_same_bytes(methods: Path, page: Page, whole: str) -> None:
    again = make_page(select_runs([str(methods)]), page.command)
    assert html(again) == whole
    assert markdown(again) == markdown(page)


def test_markdown_has_the_same_tables_without_plots(page: Page) -> None:
    flat = markdown(page)
    assert "<svg" not in flat
    assert flat.startswith("# Text classifiers on words\n")
    for figure in page.figures.values():
        assert f"**{figure.title}.**" in flat
    rows = [line for line in flat.splitlines() if line.startswith("| 1 |")]
    assert rows
    lines = flat.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("| ---"):
            assert line.count("|") == lines[place - 1].count("|") == lines[place + 1].count("|")


def test_the_page_allows_no_network_and_no_other_script(whole: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', whole)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy[1])
    assert not re.search(r'(src|href)="(?!#)', re.sub(r"(xmlns|xmlns:xlink)=\"[^\"]+\"", "", whole))
    ids = re.findall(r'\bid="([^"]+)"', whole)
    assert len(ids) == len(set(ids))


def many_runs(folder: Path, count: int) -> None:
    for place in range(count):
        options = {"rank": place // 5 % 40, "rate": place // 200}
        write_run(folder, place % 5, "net", 0.5 + place / count, n=40, options=options, interval=False)


def render(folder: Path) -> tuple[float, int]:
    """CPU seconds and bytes of a page of all runs in ``folder``."""
    start = time.process_time()
    size = len(html(make_page(select_runs([str(folder)]), "x")).encode())
    return time.process_time() - start, size


def test_a_hundred_runs_are_one_page(tmp_path: Path) -> None:
    many_runs(tmp_path, 100)
    spent, size = render(tmp_path)
    assert spent < 8
    assert size < 2 * 10**6


@pytest.mark.slow
def test_a_thousand_runs_render_within_ten_seconds_and_ten_megabytes(tmp_path: Path) -> None:
    many_runs(tmp_path, 1000)
    spent, size = render(tmp_path)
    assert spent < 10
    assert size < 10 * 2**20


def test_text_is_made_fit_to_show() -> None:
    assert (
        safe("a\u202eb\x07c\ud800") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    )
    assert safe("tab\tline\n") == "tab line "
    assert (short("x" * 61), short("x" * 60)) == ("x" * 59 + "…", "x" * 60)
    assert short(" a \n b ") == "a b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdef")) == "a, b, c, d and 2 others"
    assert [brief(value) for value in (0.5, 30, 1500, 94_021, 999_600, 22_714_756, 8e9)] == [
        *("0.5", "30", "1,500", "94k", "1M", "22.7M", "8B")
    ]
