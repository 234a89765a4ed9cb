from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from boards import COST, DOCUMENTS, cell, leaderboard

from harness import slices, stats
from harness.picks import FAST, OVERALL, SMALL, VALUE, Extreme, Pick, hours
from harness.result import Cost, Leaderboard, Result
from harness.scale import Needs
from harness.verdict import choose

QUERIES = 60
CRITICAL = (FAST, SMALL, VALUE)


def base(shift: float = 0.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Scores that share the queries' difficulty; ``noise`` is what they don't share."""
    rng = np.random.default_rng(seed + 1)
    return np.random.default_rng(0).uniform(0.3, 0.7, QUERIES) + shift + rng.normal(0, noise, QUERIES)


def cost(*, p95: float = 0.010, size: int = 256_000, seconds: float = 36.0) -> Cost:
    return replace(COST, alone_embed_p95=p95, alone_search_p95=0.0, bytes=size, document_seconds=seconds)


def table(board: Leaderboard, needs: Needs | None = None) -> dict[str, Pick]:
    return {pick.task: pick for pick in choose(board, needs).picks}


def spec(result: Result | None) -> str | None:
    return result and result.spec


def test_the_table_has_nine_rows() -> None:
    assert list(table(leaderboard(cell("m/a", base())))) == [
        *("Overall", "English general", "Multilingual", "Code search", "Long context", "Multimodal (text + image)"),
        *("Latency-critical", "Storage-critical", "Best value for money"),
    ]


def test_of_those_tied_the_cheapest_is_taken_and_not_the_best() -> None:
    dear = cell("m/dear", base(0.01, 0.05), usd_per_million_tokens=1.0)
    free = cell("m/free", base(0, 0.05, 1))
    pick = table(leaderboard(dear, free))[OVERALL]
    ahead = dear.mean("ndcg@10") - free.mean("ndcg@10")
    assert ahead > 0
    assert (spec(pick.result), spec(pick.runner_up), pick.tied) == ("m/free", "m/dear", 2)
    assert pick.reason == (
        f"the cheapest of 2 that 60 queries can't tell from the best: 0.00 USD in the first year; "
        f"m/dear @ 64 is {ahead:.3f} ahead, with 0.05 USD in the first year"
    )


def test_where_money_is_equal_time_decides_and_then_bytes_and_then_latency() -> None:
    quick, slow = cell("m/quick", base(0, 0.05, 1), cost=cost(seconds=36)), cell("m/slow", base(0.01, 0.05), cost=cost(seconds=7_200))
    pick = table(leaderboard(quick, slow))[OVERALL]
    assert spec(pick.result) == "m/quick"
    assert "36 s to embed the documents; m/slow @ 64" in pick.reason
    assert "with 2.0 h to embed the documents" in pick.reason
    small, large = cell("m/small", base(0, 0.05, 1), cost=cost(size=1_000)), cell("m/large", base(0.01, 0.05))
    assert spec(table(leaderboard(small, large))[OVERALL].result) == "m/small"
    fast, late = cell("m/fast", base(0, 0.05, 1), cost=cost(p95=0.001)), cell("m/late", base(0.01, 0.05))
    assert spec(table(leaderboard(fast, late))[OVERALL].result) == "m/fast"


def test_each_critical_row_takes_what_is_least_by_its_own_cost() -> None:
    fast = cell("m/fast", base(0, 0.05, 1), cost=cost(p95=0.001), usd_per_million_tokens=5.0)
    small = cell("m/small", base(0, 0.05, 2), cost=cost(size=7 * DOCUMENTS), usd_per_million_tokens=5.0)
    cheap = cell("m/cheap", base(0, 0.05, 3), cost=cost(size=9_000 * DOCUMENTS))
    found = table(leaderboard(fast, small, cheap))
    assert {row: spec(found[row].result) for row in (OVERALL, *CRITICAL)} == {
        OVERALL: "m/cheap",
        FAST: "m/fast",
        SMALL: "m/small",
        VALUE: "m/cheap",
    }
    assert found[FAST].reason.startswith("the fastest of 3 that 60 queries can't tell from the best, or that lose at most 2 %: p95 1 ms")
    assert "the smallest of 3" in found[SMALL].reason
    assert "7 bytes a document" in found[SMALL].reason


def test_what_rescoring_needs_counts_as_storage() -> None:
    plain = cell("m/a", base(0, 0.05, 1), cost=cost(size=100 * DOCUMENTS))
    stages = replace(
        cell("m/a", base(0, 0.05, 2), dim=32, cost=replace(cost(size=10 * DOCUMENTS), rescore_bytes=256 * DOCUMENTS)), rescore=4
    )
    pick = table(leaderboard(plain, stages))[SMALL]
    assert (pick.result.rescore, pick.bill.bytes, pick.bill.all_bytes) == (0, 100 * DOCUMENTS, 100 * DOCUMENTS)
    assert "100 bytes a document" in pick.reason


def test_a_critical_row_may_give_up_a_share_of_the_best_and_the_others_nothing() -> None:
    best, lighter = cell("m/best", base()), cell("m/lighter", base() * 0.985, cost=cost(p95=0.001, size=1_000, seconds=1.0))
    board = leaderboard(best, lighter)
    found = table(board)
    assert spec(found[OVERALL].result) == "m/best"
    assert {spec(found[row].result) for row in CRITICAL} == {"m/lighter"}
    found = table(board, Needs(give_up=0.01))  # 1.5 % is more
    assert {spec(found[row].result) for row in (OVERALL, *CRITICAL)} == {"m/best"}


def test_the_only_one_that_can_be_best_is_said_to_be_with_its_lead() -> None:
    pick = table(leaderboard(cell("m/best", base()), cell("m/worse", base(-0.1)), cell("m/worst", base(-0.2))))[OVERALL]
    assert (spec(pick.result), spec(pick.runner_up), pick.tied) == ("m/best", "m/worse", 1)
    assert pick.reason == "the only one that can be best: 0.100 (0.100 to 0.100) ahead of m/worse @ 64"


def test_a_single_model_is_the_only_one_to_choose_from() -> None:
    pick = table(leaderboard(cell("m/a", base())))[OVERALL]
    assert (pick.reason, pick.runner_up, pick.tied) == ("the only one to choose from", None, 1)


def test_what_breaks_a_constraint_is_neither_picked_nor_runner_up() -> None:
    best = cell("m/best", base(0.2), licence="cc-by-nc-4.0")
    board = leaderboard(best, cell("m/a", base()), cell("m/b", base(0, 0.05)), tasks={slices.ENGLISH: best.query_ids})
    assert spec(table(board)[OVERALL].result) == "m/best"
    for pick in table(board, Needs(commercial=True)).values():
        assert "m/best" not in (spec(pick.result), spec(pick.runner_up))
        assert "m/best" not in pick.reason


def test_a_reason_says_how_many_cells_keep_the_constraints() -> None:
    cells = [cell("m/top", base(0.2), licence="no"), cell("m/a", base()), cell("m/b", base(-0.1)), cell("bm25", base(-0.3), licence="no")]
    alone = table(leaderboard(*cells), Needs(commercial=True))[OVERALL]
    assert alone.reason == (
        "of the 2 of 3 cells that keep your constraints, the only one that can be best: 0.100 (0.100 to 0.100) ahead of m/b @ 64"
    )
    tied = [*cells, cell("m/c", base(0, 0.05), usd_per_million_tokens=1.0)]
    text = table(leaderboard(*tied), Needs(commercial=True))[OVERALL].reason
    assert text.startswith("of the 3 of 4 cells that keep your constraints, the cheapest of 2 that 60 queries can't tell from the best: ")
    only = table(leaderboard(*cells[:2]), Needs(commercial=True))[OVERALL].reason
    assert only == "the only one of 2 cells that keeps your constraints"
    assert "constraints" not in table(leaderboard(*tied))[OVERALL].reason


def test_what_is_better_and_excluded_is_kept_in_mind_row_by_row() -> None:
    rows, ids = np.arange(QUERIES), [f"q{row}" for row in range(QUERIES)]
    best = cell("m/best", base() + np.where(rows < 20, -0.1, 0.3), cost=cost(p95=0.1), licence="no")
    board = leaderboard(best, cell("m/a", base()), cell("m/b", base(-0.1)), tasks={slices.CODE: ids[:20], slices.ENGLISH: ids[20:]})
    found = table(board, Needs(commercial=True, max_p95_ms=50))
    better = found[slices.ENGLISH].held_back
    assert better is not None
    assert (spec(better.result), better.comparison.difference) == ("m/best", pytest.approx(0.3))
    assert better.broken == {"max_p95_ms": "p95 100 ms", "commercial": "licence no is not known to allow commercial use"}
    assert found[OVERALL].held_back is not None
    assert found[slices.CODE].held_back is None  # there it is worse
    assert {pick.held_back for pick in table(board).values()} == {None}
    twins = leaderboard(cell("m/twin", base(), licence="no"), cell("m/a", base()), cell("m/b", base(-0.1)))
    assert {pick.held_back for pick in table(twins, Needs(commercial=True)).values()} == {None}


def test_where_no_model_meets_the_constraints_every_row_says_so() -> None:
    board = leaderboard(cell("m/a", base()), cell("bm25", base()), tasks={slices.ENGLISH: [f"q{n}" for n in range(30)]})
    found = table(board, Needs(max_p95_ms=1))
    for row in (OVERALL, slices.ENGLISH, *CRITICAL):
        nearest = "nothing measured keeps the constraints; the nearest is m/a @ 64: p95 12 ms"
        assert (found[row].result, found[row].reason) == (None, nearest)


def test_without_a_model_every_row_says_so() -> None:
    for board in (leaderboard(), leaderboard(cell("bm25", base()), cell("random", base(-0.3)))):
        assert {(pick.result, pick.reason) for pick in table(board).values()} == {(None, "no embedding model was measured")}


def test_a_row_needs_ten_queries_of_its_kind() -> None:
    ids = [f"q{row}" for row in range(QUERIES)]
    board = leaderboard(cell("m/a", base()), tasks={slices.CODE: ids[:9], slices.LONG: ids[:10]})
    found = table(board)
    assert (found[slices.CODE].reason, found[slices.CODE].queries) == ("this corpus has only 9 such queries; 10 are needed", 9)
    assert (found[slices.MULTILINGUAL].reason, found[slices.MULTILINGUAL].queries) == ("this corpus has no such queries", 0)
    assert (spec(found[slices.LONG].result), found[slices.LONG].queries) == ("m/a", 10)


def test_code_that_nothing_points_out_is_said_to_be() -> None:
    board = leaderboard(cell("m/a", base()))
    mixed = replace(board, dataset={**board.dataset, "tags": ["english", "code"]})
    reason = "this corpus names code beside other things, but no query or document has a tag that says code"
    assert table(mixed)[slices.CODE].reason == reason
    assert table(mixed)[slices.LONG].reason == "this corpus has no such queries"
    unnamed = 'this corpus does not say that it is code; if it is, write tags = ["code"] into dataset.toml'
    assert table(board)[slices.CODE].reason == unnamed


def test_a_row_is_answered_by_its_own_queries() -> None:
    rows, ids = np.arange(QUERIES), [f"q{row}" for row in range(QUERIES)]
    coder = cell("m/coder", base() + np.where(rows < 20, 0.2, -0.2))
    writer = cell("m/writer", base())
    found = table(leaderboard(coder, writer, tasks={slices.CODE: ids[:20], slices.ENGLISH: ids[20:]}))
    assert {row: spec(found[row].result) for row in (OVERALL, slices.CODE, slices.ENGLISH)} == {
        OVERALL: "m/writer",
        slices.CODE: "m/coder",
        slices.ENGLISH: "m/writer",
    }
    assert found[slices.CODE].mean == pytest.approx(coder.scores["ndcg@10"][:20].mean())
    low, high = stats.intervals(coder.scores["ndcg@10"][:20, None])[0]
    assert (found[slices.CODE].low, found[slices.CODE].high) == pytest.approx((low, high))
    assert found[slices.CODE].rough  # 20 queries are few
    assert not found[OVERALL].rough


def test_queries_are_found_by_id_and_not_by_place() -> None:
    one, other = cell("m/a", base(), licence="x"), cell("m/b", base(-0.1))
    turned = replace(other, query_ids=other.query_ids[::-1], scores={"ndcg@10": other.scores["ndcg@10"][::-1]})
    tasks = {slices.CODE: one.query_ids[:20]}
    straight, crooked = (table(leaderboard(one, second, tasks=tasks)) for second in (other, turned))
    assert [(p.reason, p.mean) for p in straight.values() if p.result] == [(p.reason, p.mean) for p in crooked.values() if p.result]


def test_what_is_no_better_than_a_random_order_is_said_to_be() -> None:
    wobble = np.where(np.arange(QUERIES) % 2, 0.1, -0.1)
    said = {}
    for name, gap in (("worse", 0.2), ("same", 0.0)):
        picks = table(leaderboard(cell("m/a", base()), cell("random", base(-gap) + wobble), cell("bm25", base(-0.25))))
        said[name] = picks[OVERALL].caution
        assert picks[OVERALL].reason.endswith(said[name])
    reached = (base() + wobble).mean()
    assert said == {"worse": "", "same": f"that is not shown to be better than a random order, which reaches {reached:.3f}"}


def test_bm25_is_never_picked_but_said_where_it_is_as_good_on_these_queries() -> None:
    rows, ids = np.arange(QUERIES), [f"q{row}" for row in range(QUERIES)]
    bm25 = cell("bm25", base() + np.where(rows < 20, 0.1, -0.2))
    board = leaderboard(cell("m/a", base()), bm25, cell("random", base(-0.3)), tasks={slices.CODE: ids[:20], slices.ENGLISH: ids[20:]})
    found = table(board)
    assert {spec(pick.result) for pick in found.values() if pick.result} == {"m/a"}
    assert found[slices.CODE].reason.endswith(f"; but bm25 reaches {bm25.scores['ndcg@10'][:20].mean():.3f}: use it alone or in a hybrid")
    assert "bm25" not in found[slices.ENGLISH].reason
    assert "random" not in "".join(pick.reason for pick in found.values())


def test_what_is_expected_is_the_mean_of_a_clear_winner_and_never_above_the_mean() -> None:
    clear = table(leaderboard(cell("m/best", base()), cell("m/worse", base(-0.3, 0.02))))[OVERALL]
    assert clear.expected == pytest.approx(clear.mean, abs=0.002)
    for seed in range(2):
        cells = [cell(f"m/{n}", base(0, 0.2, seed * 100 + n), cost=cost(seconds=float(n))) for n in range(6)]
        picks = [pick for pick in table(leaderboard(*cells)).values() if pick.result]
        assert len(picks) == 4
        assert all(pick.expected <= pick.mean for pick in picks)


def test_what_is_expected_of_the_one_picked_among_twenty_equals_is_below_its_mean() -> None:
    cells = [cell(f"m/{n}", base(0, 0.2, n), cost=cost(seconds=float(20 - n))) for n in range(20)]
    pick = table(leaderboard(*cells))[OVERALL]
    assert pick.mean - pick.expected > 0.001


def three() -> Leaderboard:
    """0.1 apart on every query; the best is slow, the worst may not be used commercially."""
    slow = cost(p95=0.100)
    return leaderboard(cell("m/top", base(0.1), cost=slow), cell("m/mid", base()), cell("m/low", base(-0.1), licence="no"))


def test_the_price_of_a_constraint_by_hand() -> None:
    verdict = choose(three(), Needs(max_p95_ms=50, commercial=True))
    latency, licence = verdict.prices
    assert (latency.constraint, latency.excluded, spec(latency.without)) == ("max_p95_ms = 50", 1, "m/top")
    assert (latency.difference, latency.low, latency.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (licence.constraint, licence.excluded, licence.without, licence.difference) == ("commercial", 1, None, 0.0)


def test_a_price_is_for_one_constraint_with_all_others_kept() -> None:
    both = cell("m/both", base(0.3), cost=cost(p95=0.100), licence="no")  # breaks two: no single constraint holds it back
    board = leaderboard(*three().results, both)
    latency, licence, together = choose(board, Needs(max_p95_ms=50, commercial=True)).prices
    assert (latency.excluded, spec(latency.without), latency.difference) == (2, "m/top", pytest.approx(0.1))
    assert (licence.excluded, licence.without) == (2, None)
    assert (together.constraint, together.excluded, spec(together.without)) == ("their combination", 3, "m/both")
    assert together.difference == pytest.approx(0.3)


def test_the_interval_of_a_price_is_that_of_the_paired_difference() -> None:
    top = cell("m/top", base(0.05, 0.1), cost=cost(p95=0.100))
    mid = cell("m/mid", base())
    (price,) = choose(leaderboard(top, mid), Needs(max_p95_ms=50)).prices
    gap = stats.compare(top.scores["ndcg@10"][:, None], mid.scores["ndcg@10"])[0]
    assert (price.difference, price.low, price.high) == (gap.difference, gap.low, gap.high)
    assert price.low < price.difference < price.high


def test_where_one_constraint_excludes_all_its_price_names_what_could_be_chosen_without_it() -> None:
    (price,) = choose(three(), Needs(max_p95_ms=1)).prices
    assert (price.excluded, spec(price.without), price.difference) == (3, "m/top", 0.0)
    assert choose(leaderboard(), Needs(max_p95_ms=1)).prices[0].without is None


def test_a_constraint_counts_models_and_not_floors() -> None:
    board = leaderboard(*three().results, cell("bm25", base(0.9)))  # its latency was not measured
    assert choose(board, Needs(max_p95_ms=50)).prices[0].excluded == 1


def extremes(*cells: Result) -> dict[str, Extreme]:
    return {one.question: one for one in choose(leaderboard(*cells)).extremes}


def test_the_firsts_in_one_respect() -> None:
    full = cell("m/a", np.full(QUERIES, 0.8), dim=256, cost=cost(p95=0.05, seconds=72))
    cut = cell("m/a", np.full(QUERIES, 0.796), dim=64, trained=False, cost=cost(p95=0.02, seconds=72))  # 99.5 %
    tiny = cell("m/a", np.full(QUERIES, 0.7), dim=16, cost=cost(p95=0.01, seconds=72))
    other = cell("m/b", np.full(QUERIES, 0.4), dim=256, cost=cost(p95=0.2, seconds=18))
    found = extremes(full, cut, tiny, other, cell("bm25", np.ones(QUERIES)))
    assert {question: (one.result and one.result.name, one.reason) for question, one in found.items()} == {
        "Highest mean": ("m/a @ 256", "ndcg@10 0.8000"),
        "Smallest dimension within 1 % of it": (
            "m/a @ 64",
            "ndcg@10 0.7960, 99.5 % of the best with 64 of 256 dimensions; the model was not trained for this dimension",
        ),
        "Cheapest": ("m/b @ 256", "18 s to embed the documents; ndcg@10 0.4000, 50.0 % of the best"),
        "Fastest to answer": ("m/a @ 16", "p95 10 ms; ndcg@10 0.7000, 87.5 % of the best"),
    }


def test_a_first_that_nothing_was_measured_for_says_so() -> None:
    unmeasured = extremes(cell("m/a", base(), cost=Cost(bytes=1)))["Fastest to answer"]
    assert (unmeasured.result, unmeasured.reason) == (None, "not measured")
    (nothing,) = choose(leaderboard(cell("bm25", base()))).extremes
    assert (nothing.result, nothing.reason) == (None, "no embedding model was measured")


def test_a_smaller_dimension_that_loses_more_is_not_the_answer() -> None:
    question = "Smallest dimension within 1 % of it"
    best = cell("m/a", np.full(QUERIES, 0.8), dim=256)
    assert extremes(best)[question].reason == "no smaller dimension was measured"
    found = extremes(best, cell("m/a", np.full(QUERIES, 0.79), dim=64))[question]  # 98.75 %
    assert (found.result, found.reason) == (best, "no smaller dimension that was measured keeps 99 % of it")


@pytest.mark.parametrize(("time", "text"), [(1.5, "1.5 h"), (1.0, "1.0 h"), (0.5, "30.0 min"), (1 / 60, "1.0 min"), (0.001, "3.6 s")])
def test_times_are_said_in_the_unit_that_suits_them(time: float, text: str) -> None:
    assert hours(time) == text


def test_latencies_that_differ_by_noise_leave_the_choice_to_the_higher_mean() -> None:
    better, faster = sorted((base(noise=0.05), base(noise=0.05, seed=1)), key=np.mean, reverse=True)
    noise = leaderboard(cell("m/better", better, cost=cost(p95=0.1162)), cell("m/faster", faster, cost=cost(p95=0.1158)))
    assert spec(table(noise)[FAST].result) == "m/better"
    apart = leaderboard(cell("m/better", better, cost=cost(p95=0.1162)), cell("m/faster", faster, cost=cost(p95=0.102)))
    assert spec(table(apart)[FAST].result) == "m/faster"
    assert "p95 100 ms" in table(apart)[FAST].reason
