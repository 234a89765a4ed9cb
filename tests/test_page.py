"""The page as a person meets it: in a browser, with hostile text, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import axe_playwright_python
import numpy as np
import pytest
from boards import cell, leaderboard
from pages import HOSTILE, made, needs_chromium, opened
from playwright.sync_api import Page

import harness
import reports
from harness.result import Absence, Leaderboard
from harness.scale import Needs
from harness.verdict import Verdict
from reports import choosing, costs, standings, table

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return replace(made(), absences=(Absence("st/gone", "failed", "no such model"),))


@pytest.fixture(scope="module")
def verdict(board: Leaderboard) -> Verdict:
    return harness.choose(board)


@pytest.fixture(scope="module")
def page_file(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.write(board, tmp_path_factory.mktemp("out"))["leaderboard.html"]


@pytest.fixture
def page(page_file: Path) -> Iterator[Page]:
    with opened(page_file) as page:
        yield page


def column(page: Page, heading: str) -> list[str]:
    """The texts of the shown rows under a heading, top to bottom."""
    headings = [text.split(" ")[0] if heading != "95 %" else text for text in page.locator("#leaderboard thead th").all_inner_texts()]
    place = headings.index(heading)
    return page.locator(f"#leaderboard tbody tr:not([hidden]) > :nth-child({place + 1})").all_inner_texts()


def test_equal_numbers_give_equal_bytes(board: Leaderboard, tmp_path: Path) -> None:
    one, two = reports.write(board, tmp_path / "one"), reports.write(board, tmp_path / "two")
    assert all(one[name].read_bytes() == two[name].read_bytes() for name in one)


def test_the_page_is_one_small_file_without_addresses(page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(link|iframe|object|embed)\b|\bsrc=|@import|url\((?!#)", text)
    assert len(ids := re.findall(r'\bid="([^"]+)"', text)) == len(set(ids))


def test_markdown_keeps_hostile_text_in_its_cell(tmp_path: Path) -> None:
    text = reports.write(made(mark=HOSTILE), tmp_path)["choosing.md"].read_text(encoding="utf-8")
    assert "<script>" not in text


def test_a_leaderboard_without_models_still_answers(board: Leaderboard, tmp_path: Path) -> None:
    floors = replace(board, results=tuple(r for r in board.results if r.floor))
    nothing = replace(board, results=(), slices={})
    for empty in (floors, nothing):
        text = reports.write(empty, tmp_path)["leaderboard.html"].read_text(encoding="utf-8")
        assert "No model to choose: no embedding model was measured." in text


def test_the_command_measures_the_same_again(board: Leaderboard) -> None:
    needs = Needs(documents=5_000_000, max_p95_ms=20.5, commercial=True)
    assert command(board, needs) == [
        *("bakeoff", "eval", "DATA", "--model", "made/large", "--model", "made/small", "--model", "st/gone", "--split", "test"),
        *(
            "--metric",
            "ndcg@10",
            "--dims",
            "128,64",
            "--precision",
            "int8",
            "--documents",
            "5000000",
            "--max-p95-ms",
            "20.5",
            "--commercial",
        ),
    ]


def command(board: Leaderboard, needs: Needs | None = None) -> list[str]:
    """The words of the command on the page."""
    made: str = costs.reproduce(board, harness.choose(board, needs))["command"]
    return made.replace("\\\n", "").split()


@pytest.mark.parametrize(
    ("dims", "option"),
    [
        ({384: [64], 256: [64]}, "64"),
        ({384: [384, 64], 256: [256, 64]}, "native,64"),
        ({384: [384], 256: [256]}, "native"),
        ({384: [256, 64], 256: [256, 64]}, "256,64"),
        ({384: [384, 256, 128, 64, 32], 256: [256, 128, 64, 32]}, None),  # the default
        ({384: [384, 64], 256: [256, 128]}, None),  # no list would do
    ],
)
def test_the_command_asks_for_the_dimensions_that_were_measured(dims: dict[int, list[int]], option: str | None) -> None:
    scores = np.linspace(0, 1, 12)
    cells = [replace(cell(f"m/{native}", scores, dim=dim), native_dim=native) for native, found in dims.items() for dim in found]
    words = command(leaderboard(*cells, cell("bm25", scores)))
    assert (words[words.index("--dims") + 1] if "--dims" in words else None) == option


@pytest.mark.parametrize("name", [r"st/$\frac{a$", "st/$x_1$"])
def test_dollars_in_a_name_are_no_formula(name: str, tmp_path: Path) -> None:
    text = reports.write(made(specs=(name,)), tmp_path)["leaderboard.html"].read_text(encoding="utf-8")
    figures = re.findall(r"<svg.*?</svg>", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL), re.DOTALL)
    assert [name in svg for svg in figures] == [True, True, True]


def test_what_only_a_floor_breaks_makes_no_column(board: Leaderboard) -> None:
    chosen = harness.choose(board, Needs(max_p95_ms=1_000))  # a floor's latency is not measured
    assert [one.result.spec for one in chosen.standings if one.broken] == ["bm25", "random"]
    shown = standings.leaderboard(board, chosen)
    assert standings.EXCLUDED not in [column["heading"] for column in shown["columns"]]
    assert not any(row["excluded"] for row in shown["rows"])


@needs_chromium
def test_the_first_screen_is_the_answer(page: Page, verdict: Verdict) -> None:
    pick = verdict.picks[0]
    assert pick.result is not None
    assert page.locator(".take").inner_text() == f"Take {pick.result.name}"
    assert f"{pick.mean:.3f} (95 % interval {pick.low:.3f} to {pick.high:.3f}" in page.locator(".answer").inner_text()
    assert f"expect {pick.expected:.3f}." in page.locator(".answer").inner_text()
    assert f"{pick.expected:.3f}" != f"{pick.mean:.3f}"
    assert page.locator(".answer").bounding_box()["y"] < 200  # type: ignore[index]
    bodies = page.locator("#choosing tbody").all()
    for body, one in zip(bodies, verdict.picks, strict=True):
        text = body.inner_text()
        assert text.startswith(one.task)
        assert one.reason in text
        if one.result is None:
            assert body.locator("tr.nothing").count() == 1
        else:
            assert all(part in text.split() or " " in part for part in choosing.row(one)[3:-1])
            assert f"{one.mean:.3f} {one.low:.3f} to {one.high:.3f}" in text
            assert one.result.name in text
    assert verdict.certainty in page.locator(".certainty").inner_text()
    assert all(one.reason in page.locator("#extremes").inner_text() for one in verdict.extremes)


@needs_chromium
def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = replace(made(mark=HOSTILE), absences=(Absence(f"st/{HOSTILE}", "failed", HOSTILE),))
    path = reports.write(hostile, tmp_path)["leaderboard.html"]
    assert path.read_text(encoding="utf-8").count("</script>") == 4  # two of code, two of data
    with opened(path) as page:
        page.locator(".query summary").first.click()
        page.locator(".inside").wait_for()
        assert page.title() == f"Choosing a model for made{HOSTILE} – bakeoff"
        assert page.locator("h1").inner_text() == f"Choosing a model for made{HOSTILE}"
        assert page.locator("img, script[src]").count() == 0
        shown = page.locator(".query").first.inner_text()
        assert shown.count(HOSTILE) > 30  # query, id, tags, models, and id and text of every document
        for place in ("#absences", "#leaderboard", "#choosing", "#slices", "#duels", "#filter-slice", "#reproduce"):
            assert HOSTILE in (page.locator(place).text_content() or ""), place


@needs_chromium
def test_headings_sort_by_number_and_back_by_keyboard(page: Page) -> None:
    first = [float(text) for text in column(page, "ndcg@10")]
    assert first == sorted(first, reverse=True)
    page.locator("#leaderboard th button", has_text="ndcg@10").focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in column(page, "ndcg@10")] == sorted(first)
    assert page.locator("#leaderboard th[aria-sort=ascending]").inner_text().startswith("ndcg@10")
    page.locator("#leaderboard th button", has_text="dim").first.click()
    dims = [int(text.rstrip("*")) for text in column(page, "dim") if text != "–"]
    assert dims == sorted(dims, reverse=True)
    page.locator("#leaderboard th button", has_text="dim").first.click()
    assert column(page, "dim")[-2:] == ["–", "–"]  # what has no number comes last, either way
    page.locator("#leaderboard th button", has_text="model").click()
    assert column(page, "model") == sorted(column(page, "model"))


@needs_chromium
def test_rows_are_filtered_by_model_dimension_and_precision(page: Page) -> None:
    shown = page.locator("#shown")
    page.get_by_label("Model", exact=True).press_sequentially("SMALL")
    assert column(page, "model") == ["made/small", "made/small"]
    assert shown.inner_text() == "2 of 6 variants, on all queries."
    page.get_by_label("Dimension", exact=True).select_option("64")
    assert column(page, "dim") == ["64"]
    page.get_by_role("button", name="Reset").click()
    assert len(column(page, "dim")) == 6
    page.get_by_label("Precision").select_option("int8")
    assert column(page, "dim") == ["64", "64"]
    page.get_by_label("Dimension", exact=True).select_option("best")
    assert len(column(page, "model")) == len(set(column(page, "model")))
    page.get_by_label("Model", exact=True).fill("nothing like it")
    assert shown.inner_text() == "0 of 6 variants, on all queries."
    assert shown.get_attribute("aria-live") == "polite"


@needs_chromium
def test_a_slice_shows_its_own_figures_and_sorts_by_them(page: Page, verdict: Verdict) -> None:
    before = column(page, "ndcg@10")
    slices = {f"{one.name}: {one.value} ({one.queries})": one for one in verdict.slices}
    for label, one in slices.items():
        page.get_by_label("Queries").select_option(label)
        assert one.means is not None
        assert one.bounds is not None
        expected = sorted(zip(one.means, one.bounds, strict=True), key=lambda pair: -pair[0])
        assert column(page, "ndcg@10") == [f"{mean:.4f}" for mean, _ in expected]
        assert sorted(column(page, "95 %")) == sorted(f"{low:.3f}–{high:.3f}" for low, high in one.bounds)
        assert label in page.locator("#shown").inner_text()
        widest = max(high for _, high in one.bounds)
        drawn = page.locator("#leaderboard td.bar").first.evaluate("cell => parseFloat(cell.style.getPropertyValue('--high'))")
        assert drawn == pytest.approx(100 * expected[0][1][1] / widest, abs=0.1)
    page.get_by_role("button", name="Reset").click()
    assert column(page, "ndcg@10") == before


@needs_chromium
def test_the_front_and_what_breaks_a_constraint_are_marked(board: Leaderboard, tmp_path: Path) -> None:
    needs = Needs(max_ram_gb=4 * 64 * 400 / 1e9)  # what 64 dimensions take
    chosen = harness.choose(board, needs)
    with opened(reports.write(board, tmp_path, harness.choose(board, needs))["leaderboard.html"]) as page:
        assert [text.startswith("◆") for text in column(page, "front")] == [one.front for one in chosen.standings]
        assert [text.startswith("=") for text in column(page, "best?")] == [one.tied for one in chosen.standings]
        marks = [f"= {table.more(one.more_queries)}" for one in chosen.standings if one.tied]
        assert [text.removesuffix("tied for best").strip() for text in column(page, "best?") if text.strip()] == [
            mark.strip() for mark in marks
        ]
        assert any("+" in mark for mark in marks)
        assert column(page, "reveals") == ["–" if one.detectable is None else f"{one.detectable:.3f}" for one in chosen.standings]
        broken = [None if one.result.floor else one.broken.get("max_ram_gb") for one in chosen.standings]
        assert any(broken)
        assert [text.partition(": ")[2] or None for text in column(page, "excluded")] == broken
        assert choosing.constraints(chosen)[0] in page.locator("main").inner_text()


@needs_chromium
def test_duels_and_slices_are_those_of_the_verdict(page: Page, verdict: Verdict) -> None:
    names = [one.result.name for one in verdict.best_cells()]
    for duel in verdict.duels:
        row, place = names.index(duel.one.name), names.index(duel.other.name)
        cell = page.locator("#duels tbody tr").nth(row).locator("td").nth(place)
        counts, reveals, *more = cell.inner_text().split()
        assert (counts, reveals) == (f"{duel.comparison.wins}–{duel.comparison.losses}", f"{duel.comparison.detectable:.3f}")
        assert " ".join(more) == table.more(duel.more_queries)
        assert ("sure" in (cell.get_attribute("class") or "")) == (duel.p <= 0.05)
        back = page.locator("#duels tbody tr").nth(place).locator("td").nth(row)
        assert back.inner_text().split()[0] == f"{duel.comparison.losses}–{duel.comparison.wins}"
    best = [verdict.standings.index(one) for one in verdict.best_cells()]
    lines = page.locator("#slices tbody tr:not(.group)").all()
    for line, one in zip(lines, verdict.slices, strict=True):
        assert line.locator("td").all_inner_texts() == [f"{one.queries}", *(f"{(one.means or ())[at]:.3f}" for at in best)]


@needs_chromium
def test_everything_is_reachable_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator(".query summary").first.click()
    page.locator(".inside").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    labels = [svg.get_attribute("aria-label") or "" for svg in page.locator("svg[role=img]").all()]
    assert [label.split(",")[0] for label in labels] == [
        "ndcg@10 by dimension",
        "milliseconds for one query alone",
        "ndcg@10 against p95 ms of one query",
    ]


@needs_chromium
def test_without_scripts_the_figures_are_there_and_the_filters_are_not(page_file: Path) -> None:
    with opened(page_file, java_script_enabled=False) as page:
        assert len(column(page, "ndcg@10")) == 6
        assert not page.locator("#filters").is_visible()
        assert page.locator("noscript").is_visible()


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("dark", 360)])
def test_axe_finds_nothing_serious(board: Leaderboard, tmp_path: Path, scheme: str, width: int) -> None:
    path = reports.write(board, tmp_path, harness.choose(board, Needs(max_ram_gb=4 * 64 * 400 / 1e9)))["leaderboard.html"]
    viewport = {"width": width, "height": 800}
    with opened(path, bypass_csp=True, color_scheme=scheme, viewport=viewport) as page:
        page.locator(".query summary").first.click()
        page.locator(".inside").wait_for()
        page.locator("#leaderboard-section summary").click()
        page.add_script_tag(content=AXE)
        found: Any = page.evaluate("axe.run()")
        bad = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
        assert not [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in bad]
        assert len(found["passes"]) > 20


@needs_chromium
def test_print_clips_nothing_and_leaves_out_what_can_only_be_pressed(tmp_path: Path) -> None:
    long = made(specs=[f"st/sentence-transformers/a-rather-long-name-{at}" for at in range(8)])
    with opened(reports.write(long, tmp_path)["leaderboard.html"]) as page:
        _printed(page)


def _printed(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 1032, "height": 740})  # A4 across, less the margins
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".scroll").evaluate_all("all => all.filter(one => getComputedStyle(one).overflowX !== 'visible').length") == 0
    assert page.locator("table, svg").evaluate_all("all => all.filter(one => one.getBoundingClientRect().right > innerWidth).length") == 0
    assert not page.locator("#filters").is_visible()
    assert page.locator("details dl").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"  # ink on paper, in the dark too
