from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.baseline import CannotCompareError
from harness.errors import OptionError, ResultError
from harness.metrics import UNJUDGED
from harness.migration import find, migrate
from harness.result import Absence, Cost, Leaderboard, Result
from harness.scale import Needs
from reports import migration

PRINT = {"documents": "a", "queries": "b", "judgements": "c", "judged": "d"}
HOSTILE = "a|b\n\x1b[31m<script>alert(1)</script> ![spy](http://evil.example/x.png)"


def made(spec: str, dim: int, scores: Sequence[float], **changes: Any) -> Result:
    """A cell with these nDCGs; each query q0, q1, ... finds one relevant document of its own and one nobody judged."""
    count = len(scores)
    found = tuple(np.array([f"{spec}-{row}", "x"], dtype=object) for row in range(count))
    grades = tuple(np.array([2, UNJUDGED], dtype=np.int32) for _ in range(count))
    known: dict[str, Any] = {
        "identity": f"{spec}{dim}",
        "model": {},
        "precision": "float32",
        "index": "Flat",
        "trained": True,
        "floor": False,
        "device": "cpu",
        "depth": 2,
        "dataset": "tiny",
        "fingerprint": PRINT,
        "native_dim": 768,
        "query_ids": tuple(f"q{row}" for row in range(count)),
        "documents": found,
        "ranking_scores": tuple(np.zeros(2, dtype=np.float32) for _ in range(count)),
        "grades": grades,
        "scores": {"ndcg@10": np.array(scores, dtype=np.float64)},
        "cost": Cost(),
    }
    return Result(spec=spec, dim=dim, **{**known, **changes})


def board_of(*results: Result, **changes: Any) -> Leaderboard:
    known: dict[str, Any] = {
        "dataset": {"name": "tiny", "documents": 1000, "fingerprint": PRINT},
        "queries": {query: f"text of {query}" for query in results[0].query_ids},
        "documents": {"x": "the text of x"},
    }
    return Leaderboard(headline="ndcg@10", results=results, **{**known, **changes})


def noisy(mean: float, spread: float, count: int = 100) -> np.ndarray:
    return mean + np.random.default_rng(7).permutation(np.linspace(-spread, spread, count))


OLD = [0.5] * 100
NEW = [0.9] * 30 + [0.5] * 50 + [0.4] * 20


def test_a_cell_is_found_by_its_name_or_as_the_largest_of_its_model() -> None:
    board = board_of(made("st/b", 128, [1]), made("st/b", 384, [1]), made("st/a", 768, [1]))
    assert find(board, "st/b @ 128").dim == 128
    assert find(board, "st/b").dim == 384
    quantised = board_of(made("st/b", 384, [1], precision="int8"), made("st/b", 128, [1]))
    assert find(quantised, "st/b").name == "st/b @ 128"  # the plain one
    assert find(quantised, "st/b @ 384 int8").dim == 384
    with pytest.raises(OptionError, match=r"no result for 'st/b @ 12'; there is 'st/b @ 128', .*'st/a @ 768' - did you mean 'st/b @ 128'"):
        find(board, "st/b @ 12")
    with pytest.raises(OptionError, match="'st/c'; st/c failed: out of memory; there is"):
        find(replace(board, absences=(Absence("st/c", "failed", "out of memory"),)), "st/c")


def test_means_difference_and_counts_are_those_worked_by_hand() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    m = migrate(board_of(new, old), old, new)
    assert (m.dataset, m.metric, m.old, m.new) == ("tiny", "ndcg@10", "st/a @ 768", "st/b @ 384")
    overall, comparison = m.overall, m.overall.comparison
    assert comparison is not None
    assert (overall.slice, overall.queries, overall.before) == ("all", 100, 0.5)
    assert overall.after == pytest.approx(0.6)  # 0.27 + 0.25 + 0.08
    assert comparison.difference == pytest.approx(0.1)
    assert (comparison.wins, comparison.ties, comparison.losses) == (30, 50, 20)
    assert overall.p_adjusted == comparison.p < 0.01
    assert not m.notes


def test_queries_are_paired_by_id_and_not_by_place() -> None:
    old, new = made("st/a", 768, NEW), made("st/b", 384, NEW[::-1], query_ids=tuple(f"q{row}" for row in reversed(range(100))))
    m = migrate(board_of(new, old, slices={"kind": {"code": old.query_ids[:30]}}), old, new)
    for comparison in (m.overall.comparison, m.slices[0].comparison):
        assert comparison is not None
        assert comparison.ties == comparison.wins + comparison.ties + comparison.losses
    assert not m.worse + m.better
    better = replace(new, scores={"ndcg@10": new.scores["ndcg@10"] + 0.05})
    moved = migrate(board_of(better, old), old, better).better[0]
    assert moved.after - moved.before == pytest.approx(0.05)
    assert (moved.query, moved.before, moved.found_before[0].document) == ("q0", 0.9, "st/a-0")


def test_each_slice_is_compared_and_its_p_adjusted_for_the_number_of_slices() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    ids = new.query_ids
    kinds = {"won": ids[:30], "lost": ids[80:95], "level": ids[40:60], "few": ids[:9]}
    m = migrate(board_of(new, old, slices={"kind": kinds}), old, new)
    won, lost, level, few = m.slices
    assert (won.slice, won.queries, won.before) == ("kind: won", 30, 0.5)
    assert won.after == pytest.approx(0.9)
    assert lost.after == pytest.approx(0.4)
    assert level.p_adjusted == 1
    assert won.comparison is not None
    assert lost.comparison is not None
    assert won.p_adjusted == pytest.approx(3 * won.comparison.p)  # Holm: the smallest of three
    assert lost.p_adjusted is not None
    assert lost.p_adjusted == pytest.approx(max(2 * lost.comparison.p, won.p_adjusted))
    assert (few.slice, few.queries, few.before, few.after, few.comparison, few.p_adjusted) == ("kind: few", 9, None, None, None, None)
    assert "| kind: few | 9 | – | – | too few | – | – | – |" in migration.markdown(m)


def test_slices_made_by_bm25_are_left_out_where_bm25_itself_is_compared() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    slices = {"BM25": {"misses": new.query_ids}, "kind": {"code": new.query_ids}}
    assert [one.slice for one in migrate(board_of(new, old, slices=slices), old, new).slices] == ["BM25: misses", "kind: code"]
    floor = replace(old, spec="bm25", dim=0, floor=True)
    assert [one.slice for one in migrate(board_of(new, floor, slices=slices), floor, new).slices] == ["kind: code"]


def test_the_queries_that_move_most_come_first_with_what_was_found() -> None:
    old = made("st/a", 768, OLD)
    new = made("st/b", 384, [0.6, 0.5, 0.9, *[0.4] * 12, 0.1, *[0.5] * 84])
    m = migrate(board_of(new, old), old, new)
    assert [one.query for one in m.better] == ["q2", "q0"]
    assert [one.query for one in m.worse] == ["q15", "q10", "q11", "q12", "q13", "q14", "q3", "q4", "q5", "q6"]
    worst = m.worse[0]
    assert (worst.text, worst.before, worst.after) == ("text of q15", 0.5, 0.1)
    assert [(hit.document, hit.grade, hit.text) for hit in worst.found_before] == [("st/a-15", 2, ""), ("x", None, "the text of x")]
    assert worst.found_after[0].document == "st/b-15"


@pytest.mark.parametrize(
    ("scores", "keeps"),
    [
        (OLD, "yes"),  # the same
        ([0.495] * 100, "yes"),  # exactly 1 % is lost, for certain
        ([0.494] * 100, "no"),  # 1.2 %, for certain
        (noisy(0.5, 0.3), "can't tell"),  # nothing on average, but anything within 0.03
        (noisy(0.53, 0.1), "yes"),
        (noisy(0.45, 0.1), "no"),
    ],
)
def test_quality_is_kept_where_a_loss_of_more_than_one_percent_is_ruled_out(scores: Sequence[float], keeps: str) -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, scores)
    assert migrate(board_of(new, old), old, new).dims[0].keeps == keeps


def test_fewer_queries_than_a_slice_needs_show_nothing_and_few_are_said_to_be() -> None:
    old, new = made("st/a", 768, [0.5] * 9), made("st/b", 384, [0.9] * 9)
    m = migrate(board_of(new, old), old, new)
    assert m.dims[0].keeps == "can't tell"
    assert "9 queries are few" in m.notes[0]
    assert "\n> 9 queries are few" in migration.markdown(m)
    assert "\nnote: 9 queries are few" in migration.text(m)


def test_the_smallest_dimension_that_keeps_the_quality_is_the_answer() -> None:
    old = made("st/a", 768, OLD)
    cells = [made("st/b", dim, [score] * 100, cost=Cost(bytes=4000 * dim)) for dim, score in ((64, 0.4), (384, 0.6), (128, 0.55))]
    m = migrate(board_of(*cells, old, made("st/c", 32, [0.9] * 100)), old, cells[1])
    assert [(at.dim, at.mean, at.keeps, at.bytes_per_document) for at in m.dims] == [
        (384, pytest.approx(0.6), "yes", 1536),
        (128, pytest.approx(0.55), "yes", 512),
        (64, pytest.approx(0.4), "no", 256),
    ]
    assert m.smallest is m.dims[1]
    assert migration.sentence(m).endswith("The smallest that is shown to keep 99 % of st/a @ 768: st/b @ 128.")
    lost = migrate(board_of(cells[0], old), old, cells[0])
    assert lost.smallest is None
    assert migration.sentence(lost).endswith("No cell of the new model is shown to keep 99 % of st/a @ 768.")


def test_embedding_again_is_scaled_to_the_documents_there_are() -> None:
    old = made("st/a", 768, OLD, cost=Cost(bytes=3_072_000))
    cost = Cost(bytes=1_536_000, document_seconds=36.0, document_tokens=50_000)
    new = made("st/b", 384, NEW, cost=cost, model={"usd_per_million_tokens": 0.02})
    again = migrate(board_of(new, old), old, new, needs=Needs(documents=2_000_000)).cost
    assert again.hours == pytest.approx(20)
    assert again.usd == pytest.approx(2.0)  # 100 million tokens
    assert (again.bytes_before, again.bytes_after) == (6_144_000_000, 3_072_000_000)
    own = migrate(board_of(new, old), old, new).cost
    assert (own.documents, own.hours, own.bytes_after) == (1000, pytest.approx(0.01), 1_536_000)


def test_what_was_not_measured_is_unknown_and_a_model_without_a_price_costs_nothing() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    free = migrate(board_of(new, old), old, new).cost
    assert (free.hours, free.usd, free.bytes_before, free.bytes_after) == (None, 0.0, None, None)
    priced = replace(new, model={"usd_per_million_tokens": 0.02})
    assert migrate(board_of(priced, old), old, priced).cost.usd is None


MEASURED = Cost(bytes=4_000_000, document_seconds=36.0, alone_embed_p95=0.01, alone_search_p95=0.002, scan_seconds_per_gb=1.0)


def test_limits_and_running_costs_are_those_of_the_needs() -> None:
    old = made("st/a", 768, OLD, cost=replace(MEASURED, bytes=8_000_000))
    facts = {"usd_per_million_tokens": 1.0, "licence": "MIT"}
    new = made("st/b", 384, NEW, cost=replace(MEASURED, document_tokens=500_000, query_tokens=1_000), model=facts)
    needs = Needs(documents=1_000_000, queries_per_day=1_000, usd_per_gb_month=2, max_p95_ms=50, max_ram_gb=8, commercial=True)
    m = migrate(board_of(new, old), old, new, needs=needs)
    assert (m.kept, m.broken) == (("max_ram_gb = 8", "commercial"), {"max_p95_ms = 50": "p95 4,008 ms"})
    said = "st/b @ 384 keeps max_ram_gb = 8 and commercial, but not max_p95_ms = 50 (p95 4,008 ms)."
    assert migration.limits(m) == [said]
    assert m.bill_before.month_usd == pytest.approx(16)  # 8 GB
    assert m.bill_after.month_usd == pytest.approx(8 + 1_000 * 365.25 / 12 * 10 / 1e6)  # and ten tokens a query
    page, shown, data = migration.markdown(m), migration.text(m), json.loads(migration.as_json(m))
    assert said in page
    assert said in " ".join(shown.split())
    assert data["limits"] == [said]
    assert "### What they cost with 1,000,000 documents and 1,000 queries a day; embedding again is in the year" in page
    assert "| st/a @ 768 | 8,004 | 16.00 | 192.00 |" in page
    assert "| st/b @ 384 | 4,008 | 8.30 | 599.65 |" in page  # 500 USD of embedding in it
    assert max(map(len, shown.splitlines())) <= 100
    assert migration.limits(migrate(board_of(new, old), old, new)) == []
    assert migration.limits(migrate(board_of(new, old), old, new, needs=Needs(max_ram_gb=0))) == [
        "st/b @ 384 doesn't keep max_ram_gb = 0 (index 0.004 GB)."
    ]


def test_what_may_be_given_up_is_another_margin() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, [0.4925] * 100)  # 1.5 % is lost, for certain
    m = migrate(board_of(new, old), old, new)
    assert (m.dims[0].keeps, m.dims[0].within, m.smallest) == ("no", "yes", None)
    assert "| bytes a document | keeps 99 % | keeps 98 % |" in migration.markdown(m)
    exact = migrate(board_of(new, old), old, new, needs=Needs(give_up=0.01))
    assert exact.dims[0].within == "no"
    assert "| bytes a document | keeps 99 % |\n" in migration.markdown(exact)


@pytest.mark.parametrize("name", [field.name for field in fields(Needs)])
def test_every_need_changes_what_is_said(name: str) -> None:
    old = made("st/a", 768, OLD, cost=MEASURED)
    new = made("st/b", 384, NEW, cost=replace(MEASURED, document_tokens=9, query_tokens=9), model={"usd_per_million_tokens": 1.0})
    base = Needs(documents=2_000, queries_per_day=500.0, usd_per_gb_month=2.0)
    other = {field.name: True if field.type == "bool" else 0.05 for field in fields(Needs)} | {
        "documents": 3_000_000,
        "queries_per_day": 9e9,
    }
    before, now = (
        migration.text(migrate(board_of(new, old), old, new, needs=needs)) for needs in (base, replace(base, **{name: other[name]}))
    )
    assert before != now


def test_the_old_cell_may_come_from_another_run_with_other_documents_that_nobody_judged() -> None:
    old = made("st/a", 768, OLD, fingerprint={**PRINT, "documents": "z"}, cost=Cost(bytes=500))
    new = made("st/b", 384, [0.4] * 100)
    other = board_of(old, dataset={"name": "before", "documents": 500}, documents={"st/a-0": "gone since"})
    m = migrate(board_of(new), old, new, other=other)
    assert "none that is judged" in m.notes[0]
    assert m.cost.bytes_before == 1000  # one byte a document
    assert m.worse[0].found_before[0].text == "gone since"


@pytest.mark.parametrize("part", ["queries", "judgements", "judged"])
def test_other_data_cannot_be_compared(part: str) -> None:
    old, new = made("st/a", 768, OLD, fingerprint={**PRINT, part: "z"}, dataset="elsewhere"), made("st/b", 384, NEW)
    with pytest.raises(CannotCompareError, match=rf"st/a @ 768 was measured on other data, 'elsewhere': {part} differ"):
        migrate(board_of(new), old, new, other=board_of(old))


def test_a_measure_that_the_old_run_lacks_is_named() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    with pytest.raises(ResultError, match=r"st/a @ 768 has no ndcg@10; it has mrr@10"):
        migrate(board_of(new), replace(old, scores={"mrr@10": old.scores["ndcg@10"]}), new)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([0.0, 0.3, 0.5, 1.0])), min_size=2, max_size=40))
def test_moving_back_undoes_the_move(pairs: list[tuple[float, float]]) -> None:
    one, two = made("st/a", 768, [a for a, _ in pairs]), made("st/b", 384, [b for _, b in pairs])
    there, back = migrate(board_of(one, two), one, two), migrate(board_of(one, two), two, one)
    assert there.overall.comparison is not None
    assert back.overall.comparison is not None
    assert there.overall.comparison.difference == pytest.approx(-back.overall.comparison.difference)
    assert [(m.query, m.before, m.after) for m in there.worse] == [(m.query, m.after, m.before) for m in back.better]
    assert len(there.better) == min(10, there.overall.comparison.wins)
    assert sum((there.overall.comparison.wins, there.overall.comparison.ties, there.overall.comparison.losses)) == len(pairs)


def test_the_sentence_says_what_changes_and_whether_that_is_beyond_chance() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    said = migration.sentence(migrate(board_of(new, old), old, new))
    assert said.startswith("st/b @ 384 instead of st/a @ 768: ndcg@10 0.5000 -> 0.6000, +0.1000 (+0.0")
    assert ", beyond chance; 30 queries better, 50 equal, 20 worse. The smallest that" in said
    unclear = made("st/b", 384, noisy(0.5, 0.3))
    assert "not beyond chance" in migration.sentence(migrate(board_of(unclear, old), old, unclear))


def test_markdown_text_and_json_say_the_same() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW, cost=Cost(bytes=1_536_000, document_seconds=36.0))
    m = migrate(board_of(new, old, slices={"kind": {"same": new.query_ids[30:80]}}), old, new, needs=Needs(documents=1_000_000))
    page, shown, data = migration.markdown(m), migration.text(m), json.loads(migration.as_json(m))
    assert "| all | 100 | 0.5000 | 0.6000 | +0.1000 |" in page
    assert "| 1,000,000 | 10 | 0 | – | 1.54 GB |" in page
    assert "| q80: text of q80 | 0.500 | 0.400 | st/a-80 (grade 2)<br>x (not judged) the text of x | st/b-80 (grade 2)<br>" in page
    assert page.index("get worse") < page.index("get better")
    assert "  0.500 -> 0.400  q80: text of q80" in shown
    assert "      after   st/b-80 (grade 2)" in shown
    assert shown.count("  0.500 -> 0.") == 6  # three of each; Markdown has ten
    assert page.count("text of q") == 20
    assert max(map(len, shown.splitlines())) <= 100
    assert data["sentence"] == migration.sentence(m)
    assert data["overall"]["after"] == pytest.approx(0.6)
    assert data["smallest"]["name"] == "st/b @ 384"
    assert data["slices"][0]["comparison"]["effect"] is None  # no query differs: not a number
    assert math.isnan(m.slices[0].comparison.effect)  # type: ignore[union-attr]


def test_text_of_the_corpus_stays_text() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    ids = new.query_ids
    board = board_of(new, old, queries=dict.fromkeys(ids, HOSTILE), documents={"x": HOSTILE}, slices={HOSTILE: {HOSTILE: ids}})
    m = migrate(board, old, new)
    page, shown = migration.markdown(m), migration.text(m)
    assert "\x1b" not in page + shown
    assert "<script" not in page.replace("\\<", "")
    assert "](" not in page.replace("\\](", "")
    plain = migrate(replace(board, queries=dict.fromkeys(ids, "see ![spy](http://evil.example/x.png)")), old, new)
    assert "](" not in migration.markdown(plain).replace("\\](", "")
    rows = [line.replace("\\|", "") for line in page.splitlines() if line.startswith(("| q0:", "| q80:"))]
    assert [line.count("|") for line in rows] == [6, 6]
    assert max(map(len, shown.splitlines())) <= 110
    assert json.loads(migration.as_json(m))["worse"][0]["text"] == HOSTILE


def test_cells_of_a_real_run_are_compared(tmp_path: Path) -> None:
    board = harness.evaluate(
        make_dataset(80, 60), ["hash/256", "hash/32"], metrics=["ndcg@10"], dims=["native", 16], store_folder=tmp_path / "store"
    )
    m = migrate(board, find(board, "hash/32"), find(board, "hash/256"), needs=Needs(documents=8_000))
    assert [at.dim for at in m.dims] == [256, 16]
    assert m.overall.after == next(one for one in board.results if one.name == m.new).mean("ndcg@10")
    assert m.cost.bytes_after == 8_000 * 256 * 4
    assert m.better[0].after > m.better[0].before
    assert "hash/256 @ 256 instead of hash/32 @ 32" in migration.text(m)


def test_slices_of_what_other_models_cut_are_left_out() -> None:
    old, new = made("st/a", 768, OLD), made("st/b", 384, NEW)
    ids = new.query_ids
    slices = {f"answer cut by {spec}": {"yes": ids[:50], "no": ids[50:]} for spec in ("st/a", "st/b", "st/c")}
    found = migrate(board_of(new, old, slices=slices), old, new)
    assert {delta.slice.partition(":")[0] for delta in found.slices} == {"answer cut by st/a", "answer cut by st/b"}
    long = {f"answer cut by st/{'a' * 60}": {"yes": ids[:50], "no": ids[50:]}}
    shown = migration.text(migrate(board_of(new, old, slices=long), replace(old, spec=f"st/{'a' * 60}"), new))
    assert "aaa: yes " in shown
    assert "aaa: no " in shown
