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
        started = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


class Visit:
    """A page that was opened, and what went wrong or out since."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, place: int) -> list[str]:
        cells = self.page.locator("#words-leaderboard tbody tr").all()
        return [row.locator("th, td").nth(place).inner_text() for row in cells]


def test_the_page_opens_from_a_file_without_an_error_or_a_request(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    assert visit.told == []
    assert visit.asked == [report.as_uri()]
    assert visit.page.title() == "Text classifiers on words"
    assert visit.page.locator("figure svg").count() > 5


def test_a_click_sorts_and_a_second_one_turns_the_order(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    assert visit.column(0) == ["1", "2", "3"]
    head = visit.page.locator("#words-leaderboard thead th").nth(2)
    head.locator("button").click()
    assert (visit.column(0), head.get_attribute("aria-sort")) == (["1", "2", "3"], "descending")
    head.locator("button").click()
    assert (visit.column(0), head.get_attribute("aria-sort")) == (["3", "2", "1"], "ascending")
    other = visit.page.locator("#words-leaderboard thead th").nth(1)
    other.locator("button").click()
    assert visit.column(1) == ["first", "second", "third"]
    assert head.get_attribute("aria-sort") is None
    assert visit.told == []


def test_the_keyboard_sorts(browser: Any, report: Path) -> None:
    visit = Visit(browser, report)
    visit.page.locator("#words-leaderboard thead th").nth(0).locator("button").focus()
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    visit.page.keyboard.press("Space")
    assert visit.page.locator("#words-leaderboard thead th").nth(1).get_attribute("aria-sort") == "descending"
    assert visit.column(1) == ["third", "second", "first"]


def test_dark_and_light_have_their_own_colours(browser: Any, report: Path) -> None:
    found = {}
    for scheme in ("light", "dark"):
        page = Visit(browser, report, color_scheme=scheme).page
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        words = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        found[scheme] = body, words
    assert found["light"][0] == "rgb(255, 255, 255)"
    assert found["dark"][0] == "rgb(21, 25, 30)"
    assert found["light"][1] != found["dark"][1]


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    page = Visit(browser, report, viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_text_of_a_document_is_in_sight_of_a_telephone(browser: Any, report: Path) -> None:
    page = Visit(browser, report, viewport={"width": 400, "height": 800}).page
    box = page.locator("#words-documents td.text").first.bounding_box()
    assert box["x"] + box["width"] <= 400
    assert box["width"] > 300


def test_words_of_a_figure_lie_within_it_and_are_not_tiny(browser: Any, report: Path) -> None:
    page = Visit(browser, report, viewport={"width": 400, "height": 800}).page
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
