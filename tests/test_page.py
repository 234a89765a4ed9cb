"""The page as a person meets it: in a browser, with hostile text, without a network."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_dataset
from playwright.sync_api import Page, sync_playwright

import harness
import reports
from harness.dataset import About
from harness.result import Leaderboard

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="NOT RUN: no Chromium on this machine (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    data = make_dataset()
    data = replace(data, about=About(name=f"Corpus {HOSTILE}", description=HOSTILE))
    return harness.evaluate(data, ["hash/128", "hash/64", f"st/no/{HOSTILE}"], store_folder=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def page_file(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.write(board, tmp_path_factory.mktemp("out"))["leaderboard.html"]


def test_equal_numbers_give_equal_bytes(board: Leaderboard, tmp_path: Path) -> None:
    one, two = reports.write(board, tmp_path / "one"), reports.write(board, tmp_path / "two")
    assert all(one[name].read_bytes() == two[name].read_bytes() for name in one)


def test_the_page_is_one_small_file_without_addresses(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(link|iframe|object|embed)\b|\bsrc=(?!x)|@import|url\((?!#)", text.replace("&lt;", ""))


def test_markdown_keeps_hostile_text_in_its_cell(board: Leaderboard, tmp_path: Path) -> None:
    text = reports.write(board, tmp_path)["choosing.md"].read_text(encoding="utf-8")
    assert "<script>" not in text
    assert all(line.count("|") == 4 for line in text.splitlines() if line.startswith("| "))


def test_the_picks_follow_the_numbers(board: Leaderboard) -> None:
    best, smallest, tied, cheapest, fastest = harness.choose(board).picks
    cells = [r for r in board.results if not r.floor]
    assert best.result is max(cells, key=lambda r: r.mean("ndcg@10"))
    assert smallest.result is not None
    assert smallest.result.mean("ndcg@10") >= 0.99 * best.result.mean("ndcg@10")
    assert not [r for r in cells if r.dim < smallest.result.dim and r.mean("ndcg@10") >= 0.99 * best.result.mean("ndcg@10")]
    assert cheapest.result is not None
    assert cheapest.result.cost.document_seconds == min(r.cost.document_seconds for r in cells if r.cost.document_seconds)
    assert fastest.result in cells
    may_be_best = {one.result.identity: one.tied for one in harness.choose(board).standings}
    assert tied.result is not None
    assert may_be_best[tied.result.identity]


def test_a_leaderboard_without_models_still_answers(board: Leaderboard, tmp_path: Path) -> None:
    floors = replace(board, results=tuple(r for r in board.results if r.floor))
    nothing = replace(board, results=())
    for empty in (floors, nothing):
        text = reports.write(empty, tmp_path)["choosing.md"].read_text(encoding="utf-8")
        assert "| Best model | nothing | no embedding model was measured |" in text


@pytest.fixture
def page(page_file: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM or "chromium", args=FLAGS)
        page = browser.new_page()
        seen: list[str] = []
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url) if not request.url.startswith("file:") else None)
        page.goto(page_file.as_uri())
        yield page
        assert not seen, f"the page complained or asked for something: {seen}"
        browser.close()


def column(page: Page, heading: str) -> list[str]:
    at = page.locator("#leaderboard thead th").all_inner_texts()
    place = next(i for i, text in enumerate(at) if text.startswith(heading))
    return page.locator(f"#leaderboard tbody tr > :nth-child({place + 1})").all_inner_texts()


@needs_chromium
def test_hostile_text_stays_text(page: Page) -> None:
    assert page.title() == f"Choosing a model for Corpus {HOSTILE} – bakeoff"
    assert page.locator("h1").inner_text() == f"Choosing a model for Corpus {HOSTILE}"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#absences").inner_text()


@needs_chromium
def test_headings_sort_by_number_and_back_by_keyboard(page: Page) -> None:
    first = [float(text) for text in column(page, "ndcg@10")]
    assert first == sorted(first, reverse=True)
    button = page.locator("#leaderboard th button", has_text="ndcg@10")
    button.focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in column(page, "ndcg@10")] == sorted(first)
    assert page.locator("#leaderboard th[aria-sort=ascending]").inner_text().startswith("ndcg@10")
    page.locator("#leaderboard th button", has_text="dim").first.click()
    dims = [int(text.rstrip("*")) for text in column(page, "dim") if text != "–"]
    assert dims == sorted(dims, reverse=True)
    assert column(page, "dim")[-2:] == ["–", "–"]  # what has no number comes last
    page.locator("#leaderboard th button", has_text="model").click()
    assert column(page, "model") == sorted(column(page, "model"))


@needs_chromium
def test_everything_is_reachable_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    contrast: Any = page.evaluate("getComputedStyle(document.body).color !== getComputedStyle(document.body).backgroundColor")
    assert contrast
    assert page.locator("svg[role=img]").get_attribute("aria-label") == "ndcg@10 by dimension, one line per model"
