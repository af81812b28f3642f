"""The page in a real browser, from a file: no error, no request, tables that sort, colours of the night."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_run

from evalsuite.report.page.assemble import make_page
from evalsuite.report.page.render import html

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000  # milliseconds: a browser on a busy machine is slow, not broken
HOSTILE = "<img src=https://example.org/x onerror=document.title='gone'>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    runs = [
        write_run(folder, seed, method, right, texts=[HOSTILE] * 60, labels=(HOSTILE, "B", "C"))
        for method, right in (("first", 3.0), ("second", 2.0), ("third", 1.0))
        for seed in range(2)
    ]
    path = folder / "report.html"
    path.write_text(html(make_page(runs, "evalsuite report runs -o report.html")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=PATIENCE)
        yield started
        started.close()


class Visit:
    """A page that was opened, and what went wrong or out since."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(PATIENCE)
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *problem: object) -> None:
        self.page.close()

    def column(self, place: int) -> list[str]:
        cells = self.page.locator("#words-leaderboard tbody tr").all()
        return [row.locator("th, td").nth(place).inner_text() for row in cells]


def test_the_page_opens_from_a_file_without_an_error_or_a_request(browser: Any, report: Path) -> None:
    with Visit(browser, report) as visit:
        assert visit.told == []
        assert visit.asked == [report.as_uri()]
        assert visit.page.title() == "Text classifiers on words"
        assert visit.page.locator("figure svg").count() > 5


def test_tables_sort_by_click_and_by_keyboard(browser: Any, report: Path) -> None:
    with Visit(browser, report) as visit:
        number, system, score = visit.page.locator("#words-leaderboard thead th").all()[:3]
        assert visit.column(0) == ["1", "2", "3"]
        score.locator("button").click()
        assert (visit.column(0), score.get_attribute("aria-sort")) == (["1", "2", "3"], "descending")
        score.locator("button").click()
        assert (visit.column(0), score.get_attribute("aria-sort")) == (["3", "2", "1"], "ascending")
        number.locator("button").focus()
        visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Enter")
        assert (visit.column(1), system.get_attribute("aria-sort")) == (["first", "second", "third"], "ascending")
        visit.page.keyboard.press("Space")
        assert (visit.column(1), system.get_attribute("aria-sort")) == (["third", "second", "first"], "descending")
        assert score.get_attribute("aria-sort") is None
        assert visit.told == []


def test_dark_and_light_have_their_own_colours(browser: Any, report: Path) -> None:
    found = {}
    with Visit(browser, report) as visit:
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme)
            body = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
            words = visit.page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
            found[scheme] = body, words
    assert found["light"][0] == "rgb(255, 255, 255)"
    assert found["dark"][0] == "rgb(21, 25, 30)"
    assert found["light"][1] != found["dark"][1]


@pytest.mark.parametrize("width", [400, 1280])
def test_everything_is_in_sight_on_a_telephone_and_on_a_desk(browser: Any, report: Path, width: int) -> None:
    """No sideways scrolling, no word of a figure outside of it or tiny, and documents can be read."""
    with Visit(browser, report, viewport={"width": width, "height": 800}) as visit:
        page = visit.page
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wrong = page.evaluate(
            """() => [...document.querySelectorAll('figure > svg')].flatMap((svg) => {
                const room = svg.getBoundingClientRect();
                return [...svg.querySelectorAll('text')].filter((text) => {
                    const box = text.getBoundingClientRect();
                    return box.left < room.left - 2 || box.right > room.right + 2 || box.height < 8;
                }).map((text) => text.textContent);
            })"""
        )
        assert wrong == []
        box = page.locator("#words-documents td.text").first.bounding_box()
        assert box["x"] + box["width"] <= width
        assert box["width"] > 300
