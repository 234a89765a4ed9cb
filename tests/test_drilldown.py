"""The queries one by one: what the page shows of each, how it grows, and that no text can leave its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE, made, needs_chromium, opened
from playwright.sync_api import Page

import harness
import reports
from harness.metrics import UNJUDGED
from harness.result import Leaderboard, score_matrix
from reports import drilldown, page
from reports.embed import script_json


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return made()


@pytest.fixture(scope="module")
def page_file(board: Leaderboard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.write(board, tmp_path_factory.mktemp("out"))["leaderboard.html"]


@pytest.fixture
def reader(page_file: Path) -> Iterator[Page]:
    with opened(page_file) as reader:
        yield reader


def asked(reader: Page) -> list[str]:
    """Ids of the listed queries, which the texts of made boards begin with."""
    return ["q" + text.split(":")[0].removeprefix("Query ") for text in reader.locator(".query .asked").all_inner_texts()]


def failed(board: Leaderboard) -> list[str]:
    """Queries without a relevant hit of any model's best cell, floors left out."""
    cells = [one.result for one in harness.choose(board).best_cells() if not one.result.floor]
    return [id_ for at, id_ in enumerate(board.results[0].query_ids) if not any((cell.grades[at][:10] > 0).any() for cell in cells)]


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_data_in_a_page_reads_back_and_can_end_no_script(value: object) -> None:
    text = script_json([value, "</script><!--&\u2028\u2029"])
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == [value, "</script><!--&\u2028\u2029"]


def test_at_most_twenty_judged_documents_are_shown_the_best_first(board: Leaderboard) -> None:
    many = {"d5": 1, **{f"d{at}": 0 for at in range(100, 130)}, "d9": 3}
    data = drilldown.data(replace(board, judgements=board.judgements | {"q0": many}), harness.choose(board))
    query = next(one for one in data["queries"] if one["id"] == "q0")
    assert [data["documents"][at][0] for at in query["judged"]][:3] == ["d9", "d5", "d100"]
    assert len(query["judged"]) == 20
    assert query["more"] == 12


@needs_chromium
def test_a_query_opens_by_keyboard_and_shows_what_was_found_with_grades(reader: Page, board: Leaderboard) -> None:
    reader.get_by_label("Order").select_option("given")
    reader.locator(".query summary").nth(3).focus()
    reader.keyboard.press("Enter")
    reader.locator(".inside").wait_for()
    query = reader.locator(".query").nth(3)
    assert query.get_attribute("open") is not None
    assert "id: q3 · kind: first" in query.inner_text()
    judged = query.locator(".judged li").all_inner_texts()
    assert [" ".join(text.split())[:12] for text in judged] == [
        "grade 2 d3 " + board.documents["d3"][:1],
        "grade 0 d4 " + board.documents["d4"][:1],
    ]
    cells = [one.result for one in harness.choose(board).best_cells() if one.result.spec != "random"]
    for cell in cells:
        at = cell.query_ids.index("q3")
        block = query.locator(".found > div").filter(has=reader.get_by_role("heading", name=f"{cell.name} ndcg@10"))
        assert block.locator("h3").inner_text() == f"{cell.name} ndcg@10 {cell.scores['ndcg@10'][at]:.3f}"
        hits = block.locator("li")
        assert hits.locator(".id").all_inner_texts() == list(cell.documents[at])
        said = ["not judged" if grade == UNJUDGED else f"grade {grade}" for grade in cell.grades[at]]
        assert [text.strip() for text in hits.locator(".grade").all_text_contents()] == said
        assert board.documents[cell.documents[at][0]] in hits.first.inner_text()


@needs_chromium
def test_failed_by_all_lists_what_no_model_finds(reader: Page, board: Leaderboard) -> None:
    expected = failed(board)
    assert "q0" in expected
    assert len(expected) < len(board.queries)
    reader.get_by_label(f"failed by all only ({len(expected)})").check()
    assert sorted(asked(reader)) == sorted(expected)
    assert reader.locator("#queries-shown").inner_text().startswith(f"{len(expected)} of 40 queries")
    assert f"{len(expected)} of 40 queries have no relevant document" in reader.locator("#health").inner_text()
    reader.get_by_label("failed by all only").uncheck()
    reader.get_by_label("Order").select_option("failed")
    assert sorted(asked(reader)[: len(expected)]) == sorted(expected)
    assert reader.locator(".query .failed").count() == len(expected)


@needs_chromium
def test_queries_are_ordered_found_by_text_and_shown_in_portions(reader: Page, board: Leaderboard) -> None:
    verdict = harness.choose(board)
    place = {id_: at for at, id_ in enumerate(board.results[0].query_ids)}
    assert verdict.picks[0].result is not None
    assert len(asked(reader)) == 25
    reader.get_by_role("button", name="Show more queries").click()
    picked = verdict.picks[0].result.scores["ndcg@10"]
    shown = [picked[place[id_]] for id_ in asked(reader)]
    assert len(shown) == 40
    assert shown == sorted(shown)
    reader.get_by_label("Order").select_option("apart")
    scores = score_matrix([one.result for one in verdict.best_cells() if not one.result.floor], "ndcg@10")
    spreads = (scores.max(axis=1) - scores.min(axis=1)).round(3)
    shown = [spreads[place[id_]] for id_ in asked(reader)]
    assert shown == sorted(shown, reverse=True)
    reader.get_by_label("Text").fill("query 17:")
    assert asked(reader) == ["q17"]


@needs_chromium
def test_another_cell_can_be_looked_at(reader: Page, board: Leaderboard) -> None:
    cell = next(one for one in board.results if one.spec == "random")
    reader.get_by_label("Show also").select_option("random")
    reader.get_by_label("Order").select_option("given")
    reader.locator(".query summary").first.click()
    reader.locator(".inside").wait_for()
    block = reader.locator(".query").first.locator(".found > div").last
    assert block.locator("h3").inner_text() == "random ndcg@10 0.000"
    assert block.locator(".id").all_inner_texts() == list(cell.documents[0])


def test_300_queries_and_20_variants_fit_in_one_page(tmp_path: Path) -> None:
    large = made(300, [f"made/model-{at}" for at in range(5)], (256, 128, 64, 32), documents=40_000)
    paths = reports.write(large, tmp_path)
    assert len(large.results) == 22
    assert "queries.html" not in paths
    assert paths["leaderboard.html"].stat().st_size < 3_000_000
    assert '"queries":[{' in paths["leaderboard.html"].read_text(encoding="utf-8")


@needs_chromium
def test_what_is_too_large_gets_a_page_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = made(mark=HOSTILE)
    bare = 200_000
    monkeypatch.setattr(page, "LARGEST", bare)
    paths = reports.write(hostile, tmp_path)
    assert paths["leaderboard.html"].stat().st_size < bare
    with opened(paths["leaderboard.html"]) as reader:
        reader.get_by_role("link", name="the queries, one by one").click()
        assert reader.url.endswith("/queries.html")
        assert reader.title() == f"Queries of made{HOSTILE} – bakeoff"
        reader.locator(".query summary").first.click()
        reader.locator(".inside").wait_for()
        assert reader.locator(".query .found li").count() > 20
        assert reader.locator("img, script[src]").count() == 0
        reader.get_by_role("link", name="Back to the leaderboard").click()
        assert reader.url.endswith("/leaderboard.html")
    monkeypatch.undo()
    assert "queries.html" not in reports.write(made(), tmp_path)
    assert not (tmp_path / "queries.html").exists()


@needs_chromium
def test_arabic_is_read_from_the_right_beside_ids_from_the_left(board: Leaderboard, tmp_path: Path) -> None:
    texts = {"documents": dict.fromkeys(board.documents, "لم يتخلى فريق"), "queries": board.queries | {"q1": "كم نقطة تخلى"}}
    with opened(reports.write(replace(board, **texts), tmp_path)["leaderboard.html"]) as reader:
        reader.get_by_label("Order").select_option("given")
        reader.locator(".query summary").nth(1).click()
        ways = {
            place: reader.locator(place).evaluate_all("found => [...new Set(found.map(one => getComputedStyle(one).direction))]")
            for place in (".hits .text", ".hits .id", "details[open] .asked", "details:not([open]) .asked")
        }
    assert ways == {".hits .text": ["rtl"], ".hits .id": ["ltr"], "details[open] .asked": ["rtl"], "details:not([open]) .asked": ["ltr"]}
