from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import COST, METRIC, cell, leaderboard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import harness
import reports
from harness.picks import Pick
from harness.result import Absence, Cost, Leaderboard
from harness.scale import Needs
from harness.verdict import choose
from reports import answer, choosing

QUERIES = 60
HOSTILE = "a|b <script>alert(1)</script> `code` [link](http://x) ![i](y) **bold**\n| new | row |\r\n# heading\x1b[31m\u2028end\\"
SCORES = np.random.default_rng(0).uniform(0.3, 0.7, QUERIES)
MARKDOWN = MarkdownIt("commonmark").enable("table")
PLAIN = {"text", "softbreak", "code_inline"}


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a Markdown text as rows of cells, each as a reader sees it."""
    found: list[list[list[str]]] = []
    for token in MARKDOWN.parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level == 4:  # within table, head or body, row, cell
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found


def inline_kinds(text: str) -> set[str]:
    """What a Markdown renderer makes of a text beside blocks: text, code_inline, link, html_inline and so on."""
    tokens = MARKDOWN.parse(text)
    return {token.type for token in tokens if token.type.startswith("html")} | {
        child.type for token in tokens for child in token.children or ()
    }


def board(name: str = "made") -> Leaderboard:
    cells = [cell("m/best", SCORES, usd_per_million_tokens=2.0), cell("m/worse", SCORES - 0.1, licence="no")]
    return leaderboard(*cells, cell("bm25", SCORES - 0.2), name=name, documents=1_000)


def written(board: Leaderboard, needs: Needs | None = None) -> str:
    return choosing.markdown(board, choose(board, needs))


def test_the_answer_says_at_once_that_words_do_as_well() -> None:
    behind = leaderboard(cell("m/best", SCORES), cell("bm25", SCORES + 0.05))
    said = f"But bm25 reaches {SCORES.mean() + 0.05:.3f}: use it alone or in a hybrid."
    assert said in answer.answer(behind, choose(behind))["words"]
    assert "But" not in answer.answer(board(), choose(board()))["words"]


def test_the_table_has_a_row_per_pick_and_the_numbers_of_the_verdict() -> None:
    made = board()
    table, firsts = tables(written(made))
    assert table[0] == [
        *("what for", "choose", "ndcg@10 (95 %)", "expected", "runner-up"),
        *("USD per million documents", "bytes a document", "p95 ms", "licence", "why"),
    ]
    pick = choose(made).picks[0]
    assert table[1] == [
        *("Overall", "m/best @ 64", f"{SCORES.mean():.3f} ({pick.low:.3f} to {pick.high:.3f})", f"{pick.expected:.3f}", "m/worse @ 64"),
        *("100.00", "256", "12", "MIT"),
        "the only one that can be best: 0.100 (0.100 to 0.100) ahead of m/worse @ 64",
    ]
    assert table[2] == ["English general", "nothing", *["–"] * 7, "this corpus has no such queries"]
    assert [row[0] for row in table[1:]] == [one.task for one in choose(made).picks]
    assert [row[:2] for row in firsts[1:]] == [
        ["Highest mean", "m/best @ 64"],
        ["Smallest dimension within 1 % of it", "m/best @ 64"],
        ["Cheapest", "m/worse @ 64"],
        ["Fastest to answer", "m/best @ 64"],
    ]


def test_the_page_says_what_was_measured_at_which_scale_and_what_the_floors_reach() -> None:
    text = written(board(), Needs(documents=1_000_000, queries_per_day=5_000))
    assert text.startswith("# Choosing a model for made\n\n1,000 documents, 60 queries, split test; ranked by ndcg@10.\n")
    assert f"\n> {choose(board()).certainty}\n" in text
    assert "Costs are for 1,000,000 documents, worked out from the 1,000 measured, and 5,000 queries a day; p95 ms is" in text
    assert f"Floors, for comparison: `bm25` {SCORES.mean() - 0.2:.4f}." in text
    assert "Not measured" not in text
    assert "Floors, for comparison: none measured." in written(leaderboard(cell("m/a", SCORES)))


def test_costs_are_those_of_the_corpus_where_nothing_else_is_asked() -> None:
    assert choosing.costs_at(Needs(), 60) == "Costs are for 60 documents; p95 ms is one query alone, embedding and search."
    assert "worked out" not in choosing.costs_at(Needs(documents=60), 60)


@pytest.mark.parametrize(("ms", "text"), [(0.3664, "0.366"), (99.94, "99.9"), (111.4, "111"), (1_014.2, "1,014")])
def test_latencies_are_never_written_with_exponents(ms: float, text: str) -> None:
    slow = leaderboard(cell("m/a", SCORES, cost=replace(COST, alone_embed_p95=ms / 1000, alone_search_p95=0.0)))
    assert tables(written(slow))[0][1][7] == text
    assert f"the nearest is m/a @ 64: p95 {text} ms" in written(slow, Needs(max_p95_ms=0.1))


def test_rough_figures_and_unmeasured_costs_are_marked() -> None:
    few = leaderboard(cell("m/a", SCORES[:20], cost=Cost(), usd_per_million_tokens=2.0, licence=""))
    row = tables(written(few))[0][1]
    assert row[2].endswith(", rough)")
    assert row[4:9] == ["–"] * 5  # no runner-up, and nothing known of its costs


@pytest.mark.parametrize("empty", [leaderboard(), leaderboard(cell("bm25", SCORES))])
def test_a_leaderboard_without_models_still_answers(empty: Leaderboard) -> None:
    table, firsts = tables(written(empty))
    assert {tuple(row[1:]) for row in table[1:]} == {("nothing", *["–"] * 7, "no embedding model was measured")}
    assert firsts[1:] == [["Highest mean", "nothing", "no embedding model was measured"]]


def test_every_constraint_is_one_sentence_with_its_price() -> None:
    slow = replace(COST, alone_embed_p95=0.1)
    cells = [cell("m/top", SCORES + 0.1, cost=slow), cell("m/mid", SCORES), cell("m/low", SCORES - 0.1, licence="no")]
    verdict = choose(leaderboard(*cells, cell("bm25", SCORES)), Needs(max_p95_ms=50, max_ram_gb=9, commercial=True))
    assert choosing.constraints(verdict) == [
        "max_p95_ms = 50 excludes 1 of 3 cells and costs 0.1000 ndcg@10 (0.1000 to 0.1000): without it m/top @ 64 would be the best.",
        "max_ram_gb = 9 excludes 0 of 3 cells.",
        "commercial excludes 1 of 3 cells and costs nothing: the best keeps it.",
    ]
    text = choosing.markdown(leaderboard(*cells), verdict)
    assert all(f"\n- {sentence}\n" in text for sentence in choosing.constraints(verdict))
    alone = choose(leaderboard(*cells), Needs(max_p95_ms=1))
    assert choosing.constraints(alone) == ["max_p95_ms = 1 excludes 3 of 3 cells; without it m/top @ 64 could be chosen."]


def test_what_is_better_but_excluded_is_said_beside_the_answer() -> None:
    slow = cell("m/top", SCORES + 0.1, cost=replace(COST, alone_embed_p95=0.109), licence="no")
    made, needs = leaderboard(slow, cell("m/mid", SCORES)), Needs(max_p95_ms=100, commercial=True)
    verdict = choose(made, needs)
    said = (
        "m/top @ 64 is 0.100 (0.100 to 0.100) better than the choice, but excluded by max_p95_ms (p95 111 ms)"
        " and commercial (licence no is not known to allow commercial use)."
    )
    assert choosing.held_back(verdict) == [said]
    assert f"\n> {verdict.certainty} {said}\n" in choosing.markdown(made, verdict)
    assert answer.answer(made, verdict)["words"].endswith(f" {said}")
    assert verdict.summary()["choosing"][0]["better_but_excluded"] == {
        "cell": "m/top @ 64",
        "difference": pytest.approx(0.1),
        "interval": pytest.approx([0.1, 0.1]),
        "constraints_not_kept": {"max_p95_ms": "p95 111 ms", "commercial": "licence no is not known to allow commercial use"},
    }
    assert choosing.held_back(choose(made)) == []


def test_hostile_text_stays_in_its_cell_and_is_no_markup() -> None:
    names = [cell(f"m/{HOSTILE}", SCORES, licence=HOSTILE), cell(f"n/{HOSTILE}", SCORES - 0.1)]
    absences = (Absence(f"st/{HOSTILE}", "failed", HOSTILE),)
    text = written(leaderboard(*names, name=HOSTILE, absences=absences))
    table, firsts = tables(text)
    assert {len(row) for row in table} == {10}
    assert {len(row) for row in firsts} == {3}
    assert len(table) == 1 + 9
    shown = "".join(sign if sign.isprintable() else " " for sign in HOSTILE)
    assert table[1][1] == f"m/{shown} @ 64"
    assert table[1][8] == shown
    assert inline_kinds(text) <= PLAIN
    assert [token.tag for token in MARKDOWN.parse(text) if token.type == "heading_open"] == ["h1"]


def test_a_real_leaderboard_with_a_hostile_name_stays_markdown(tmp_path: Path) -> None:
    documents = [harness.Document(f"d{n}", f"word{n} common") for n in range(12)]
    queries = [harness.Query(f"q{n}", f"word{n}", tags={HOSTILE: HOSTILE}) for n in range(12)]
    data = harness.Dataset.build(HOSTILE, documents, queries, {q.id: {f"d{q.id[1:]}": 1} for q in queries})
    made = harness.evaluate(data, ["hash/32", "st/no/<b>such|model</b>"], metrics=[METRIC])
    text = choosing.markdown(made, choose(made))
    assert inline_kinds(text) <= PLAIN
    assert "no/\\<b\\>such\\|model" in text


@given(st.text(max_size=60))
@example("a|b")
@example("\\|")
@example("`|`")
@example("<!-- -->")
@example("[a]: http://x")
@example("\\")
@settings(deadline=None)
def test_whatever_a_text_holds_it_is_one_cell_without_links_or_html(text: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| {choosing.cell(text)} | end |\n"
    ((head, row),) = tables(page)
    assert (len(head), row[-1]) == (2, "end")
    assert inline_kinds(page) <= PLAIN | {"em_open", "em_close", "strong_open", "strong_close", "entity", "text_special"}


def test_a_pick_without_a_result_is_a_row_of_the_same_width() -> None:
    empty = choosing.row(Pick(task="Code search", queries=0, reason="none"))
    full = choosing.row(choose(board()).picks[0])
    assert len(empty) == len(full) == 6 + len(choosing.COSTS)


def test_where_two_constraints_exclude_all_dropping_one_is_said_not_to_help() -> None:
    verdict = choose(leaderboard(cell("m/a", SCORES, licence="no")), Needs(max_p95_ms=1, commercial=True))
    assert [(price.without, price.excluded) for price in verdict.prices] == [(None, 1), (None, 1)]
    assert choosing.constraints(verdict) == [
        "max_p95_ms = 1 excludes 1 of 1 cells; without it alone there would still be none to choose.",
        "commercial excludes 1 of 1 cells; without it alone there would still be none to choose.",
    ]


def test_the_file_is_the_one_that_reports_write(tiny: harness.Dataset, tmp_path: Path) -> None:
    made, needs = harness.evaluate(tiny, ["hash/32"], metrics=[METRIC]), Needs(max_p95_ms=50)
    paths = reports.write(made, tmp_path, harness.choose(made, needs))
    assert paths["choosing.md"].read_text(encoding="utf-8") == written(made, needs)


def test_a_constraint_that_shares_its_victims_is_not_said_to_cost_nothing() -> None:
    held_back = cell("m/top", SCORES + 0.1, cost=replace(COST, alone_embed_p95=0.1), licence="no")
    verdict = choose(leaderboard(held_back, cell("m/mid", SCORES)), Needs(max_p95_ms=50, commercial=True))
    same = "without it alone the choice would be the same: what is better breaks another limit too."
    assert choosing.constraints(verdict) == [
        f"max_p95_ms = 50 excludes 1 of 2 cells; {same}",
        f"commercial excludes 1 of 2 cells; {same}",
        "their combination excludes 1 of 2 cells and costs 0.1000 ndcg@10 (0.1000 to 0.1000): without it m/top @ 64 would be the best.",
    ]
