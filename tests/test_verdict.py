from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import COST, METRIC, cell, leaderboard

import harness
from harness import stats
from harness.dataset import Dataset
from harness.result import Cost, Result
from harness.scale import Needs, bill
from harness.stats import FEWEST_IN_SLICE
from harness.verdict import choose, query_milliseconds, score_matrix

QUERIES = 120
IDS = [f"q{row}" for row in range(QUERIES)]


def base(shift: float = 0.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    return np.clip(np.random.default_rng(0).uniform(0.2, 0.8, QUERIES) + shift + rng.normal(0, noise, QUERIES), 0, 1)


def turned(result: Result) -> Result:
    """The same result with its queries in reverse order."""
    scores = {measure: values[::-1] for measure, values in result.scores.items()}
    return replace(result, scores=scores, query_ids=result.query_ids[::-1])


def test_one_clear_winner_is_said_to_be_alone() -> None:
    verdict = choose(leaderboard(cell("m/a", base()), cell("m/b", base(-0.15, 0.05)), cell("bm25", base(-0.15, 0.05, 2))))
    assert [one.tied for one in verdict.standings] == [True, False, False]
    assert verdict.certainty.startswith("Only m/a @ 64 can be the best")
    assert "more judged" not in verdict.certainty


def test_what_chance_could_explain_is_tied_and_the_price_of_certainty_is_named() -> None:
    verdict = choose(leaderboard(cell("m/a", base(0.01, 0.2)), cell("m/b", base(0, 0.2, 2))))
    assert [one.tied for one in verdict.standings] == [True, True]
    assert "2 of 2 are tied for best" in verdict.certainty
    assert "more judged queries would tell them apart" in verdict.certainty
    first, second = verdict.standings
    assert (first.behind, first.p) == (None, None)
    assert second.behind is not None
    assert second.behind.low < 0 < second.behind.high
    assert second.p is not None
    assert second.p > 0.05


def test_two_tied_cells_of_one_model_are_told_what_more_queries_would_bring() -> None:
    cells = [cell("m/a", base(0.02, 0.2), dim=64), cell("m/a", base(0, 0.2, 2), dim=32), cell("bm25", base(-0.3, 0.05))]
    verdict = choose(leaderboard(*cells))
    first, second, floor = verdict.standings
    assert [one.tied for one in verdict.standings] == [True, True, False]
    gap = first.result.scores[METRIC] - second.result.scores[METRIC]
    reach = (1.959964 + 0.841621) * gap.std(ddof=1)
    more = math.ceil((reach / gap.mean()) ** 2) - QUERIES
    assert more > 0
    assert (second.detectable, second.more_queries) == (pytest.approx(reach / math.sqrt(QUERIES)), more)
    assert verdict.certainty.endswith(
        f" Between {first.result.name} and {second.result.name}, 120 queries reveal a true difference of {second.detectable:.3f} with 80 % power;"
        f" they are {gap.mean():.3f} apart, and about {more:,} more judged queries would tell them apart."
    )
    assert (first.detectable, first.more_queries, floor.more_queries) == (None, None, 0)
    (duel,) = verdict.duels
    assert (duel.sure, duel.more_queries) == (True, 0)


def test_a_tied_cell_of_another_model_goes_before_one_of_the_same() -> None:
    cells = [cell("m/a", base(0.1, 0.2), dim=64), cell("m/a", base(0.09, 0.2, 2), dim=32), cell("m/b", base(0.05, 0.2, 8))]
    verdict = choose(leaderboard(*cells))
    assert [(one.result.spec, one.tied) for one in verdict.standings] == [("m/a", True), ("m/a", True), ("m/b", True)]
    assert f" Between {verdict.standings[0].result.name} and m/b @ 64, 120 queries" in verdict.certainty


def test_cells_that_never_differ_need_no_number_of_queries() -> None:
    verdict = choose(leaderboard(cell("m/a", base()), cell("m/b", base())))
    assert (verdict.standings[1].detectable, verdict.standings[1].more_queries, verdict.duels[0].more_queries) == (0.0, None, None)
    assert "more judged" not in verdict.certainty


def test_scores_are_paired_by_query_id_and_not_by_place() -> None:
    one, other = cell("m/a", base()), cell("m/b", base(-0.01))
    assert (score_matrix([one, other], METRIC) == score_matrix([one, turned(other)], METRIC)).all()
    assert [standing.tied for standing in choose(leaderboard(one, turned(other))).standings] == [True, False]


def test_a_board_of_one_compares_nothing() -> None:
    verdict = choose(leaderboard(cell("m/a", base())))
    assert verdict.certainty == "Nothing was compared: fewer than two systems were measured."
    assert verdict.standings[0].tied
    assert verdict.duels == ()


def test_an_empty_board_has_an_empty_verdict() -> None:
    verdict = choose(leaderboard())
    assert (verdict.standings, verdict.slices, verdict.duels) == ((), (), ())
    assert verdict.summary()["standings"] == {}


def test_milliseconds_a_query_are_those_of_all_in_batches() -> None:
    result = cell("m/a", base(), cost=Cost(query_seconds=1.0, search_seconds=0.2))
    assert query_milliseconds(result) == pytest.approx(1_200 / QUERIES)
    assert query_milliseconds(replace(result, cost=Cost(query_seconds=1.0))) is None
    assert query_milliseconds(replace(result, cost=Cost(search_seconds=1.0))) is None
    assert query_milliseconds(replace(cell("bm25", base()), cost=Cost(search_seconds=0.2))) == pytest.approx(200 / QUERIES)


def test_every_measure_has_its_interval() -> None:
    one, other = (replace(cell(f"m/{n}", base()), scores={METRIC: base(), "mrr@10": base(-0.1, 0.1, n)}) for n in (0, 1))
    for standing in choose(leaderboard(one, other)).standings:
        for measure, (low, high) in standing.intervals.items():
            expected = stats.intervals(standing.result.scores[measure][:, None])[0]
            assert (low, high) == pytest.approx(tuple(expected), abs=1e-12)
        assert set(standing.intervals) == {METRIC, "mrr@10"}
        assert standing.intervals[METRIC] == (standing.low, standing.high)


HARD = np.arange(QUERIES) % 2 == 0
TAGS = {"kind": {"hard": [id_ for id_, hard in zip(IDS, HARD, strict=True) if hard], "easy": IDS[1::2]}}


def test_intervals_are_stratified_by_the_users_tags() -> None:
    scores = base(-0.2, 0.1) + 0.5 * ~HARD
    cells = cell("m/a", scores), cell("m/b", base(-0.1, 0.2))
    plain, narrow = (choose(leaderboard(*cells, tags=tags)).standings for tags in ({}, TAGS))
    assert narrow[0].high - narrow[0].low < 0.75 * (plain[0].high - plain[0].low)
    assert (narrow[0].low, narrow[0].high) == pytest.approx(tuple(stats.intervals(scores[:, None], HARD * 1)[0]), abs=1e-12)
    assert narrow[1].behind is not None
    assert plain[1].behind is not None
    assert narrow[1].behind.high - narrow[1].behind.low < plain[1].behind.high - plain[1].behind.low
    assert [one.tied for one in narrow] == [one.tied for one in plain]


def test_strata_are_all_tags_together_and_kinds_with_under_20_queries_are_one() -> None:
    scores = base(-0.2, 0.1)
    tags = {"kind": {"a": IDS[:60], "b": IDS[60:]}, "half": {"x": IDS[:50], "y": IDS[70:]}}
    strata = np.repeat([0, 9, 2], [50, 20, 50])  # a x; a alone and b alone, of 10 queries each; b y
    expected = stats.intervals(scores[:, None], np.where(strata == 9, -1, strata))[0]
    (standing,) = choose(leaderboard(cell("m/a", scores), tags=tags)).standings
    assert (standing.low, standing.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_tags_that_make_no_large_kind_change_nothing() -> None:
    each = {"number": {str(row): [id_] for row, id_ in enumerate(IDS)}}
    one, other = (choose(leaderboard(cell("m/a", base()), tags=tags)).standings[0] for tags in ({}, each))
    assert (one.low, one.high) == (other.low, other.high)


def test_a_slice_has_means_with_bounds_in_the_order_of_the_standings() -> None:
    few, rest = IDS[: FEWEST_IN_SLICE - 1], IDS[FEWEST_IN_SLICE - 1 :]
    a, b = cell("m/a", base()), cell("m/b", base(-0.2, 0.05))
    small, large = choose(leaderboard(b, turned(a), tags={"kind": {"few": few, "rest": rest}})).slices
    assert (small.name, small.value, small.queries, small.means, small.bounds) == ("kind", "few", 9, None, None)
    assert large.means == pytest.approx([a.scores[METRIC][9:].mean(), b.scores[METRIC][9:].mean()])
    assert large.bounds is not None
    for one, (low, high) in zip((a, b), large.bounds, strict=True):
        expected = stats.intervals(one.scores[METRIC][9:, None])[0]
        assert (low, high) == pytest.approx(tuple(expected), abs=0.005)  # from fewer resamples


def test_duels_pit_every_model_at_its_best_cell_against_every_other() -> None:
    cells = [cell("m/a", base(), dim=64), cell("m/a", base(-0.1), dim=32), cell("m/b", base(-0.05, 0.1)), cell("bm25", base(-0.2, 0.05, 3))]
    duels = choose(leaderboard(*cells)).duels
    assert [(duel.one.name, duel.other.name) for duel in duels] == [
        ("m/a @ 64", "m/b @ 64"),
        ("m/a @ 64", "bm25"),
        ("m/b @ 64", "bm25"),
    ]
    gap = duels[0].one.scores[METRIC] - duels[0].other.scores[METRIC]
    found = duels[0].comparison
    assert found.difference == pytest.approx(gap.mean())
    assert (found.wins, found.ties, found.losses) == ((gap > 0).sum(), 0, (gap < 0).sum())
    raw = np.array([duel.comparison.p for duel in duels])
    assert [duel.p for duel in duels] == stats.holm(raw).tolist()
    assert duels[1].p == pytest.approx(3 * raw[1])


def test_a_standing_says_which_constraints_it_breaks_and_what_it_costs() -> None:
    needs = Needs(commercial=True, documents=5_000)
    free, bound = cell("m/free", base()), cell("m/bound", base(0.1), licence="cc-by-nc-4.0")
    board = leaderboard(free, bound, cell("bm25", base(-0.1), licence=""))
    verdict = choose(board, needs)
    assert verdict.needs is needs
    found = {one.result.spec: one for one in verdict.standings}
    assert {spec: list(one.broken) for spec, one in found.items()} == {"m/bound": ["commercial"], "m/free": [], "bm25": ["commercial"]}
    assert found["m/free"].bill == bill(free, board.dataset, needs)
    assert found["m/free"].bill.documents == 5_000


def test_the_front_leaves_out_what_is_beaten_and_every_floor() -> None:
    cheap = replace(COST, bytes=1_000)
    cells = [cell("m/best", base()), cell("m/small", base(-0.1), cost=cheap), cell("m/beaten", base(-0.2)), cell("bm25", base(0.1))]
    standings = choose(leaderboard(*cells)).standings
    assert {one.result.spec for one in standings if one.front} == {"m/best", "m/small"}


def test_the_summary_is_plain_json_with_the_numbers_of_the_verdict() -> None:
    cells = [cell("m/a", base()), cell("m/b", base(-0.1), licence="no"), cell("bm25", base()), cell("m/same", base())]
    verdict = choose(leaderboard(*cells, tags=TAGS, tasks={"Code search": IDS[:5]}), Needs(commercial=True, max_p95_ms=1e6))
    summary = verdict.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == json.loads(json.dumps(summary))
    overall = summary["choosing"][0]
    pick = verdict.picks[0]
    assert overall["task"] == "Overall"
    assert (overall["model"], overall["dim"], overall["mean"]) == ("m/a", 64, pick.mean)
    assert (overall["interval"], overall["expected_on_new_queries"]) == ([pick.low, pick.high], pick.expected)
    assert (overall["taken_from"], overall["runner_up"], overall["licence"]) == (2, "m/same @ 64", "MIT")
    code = next(row for row in summary["choosing"] if row["task"] == "Code search")
    assert code == {
        "task": "Code search",
        "queries": 5,
        "reason": "this corpus has only 5 such queries; 10 are needed",
        "model": None,
        "dim": None,
    }
    assert [one["constraint"] for one in summary["constraints"]] == ["max_p95_ms = 1e+06", "commercial"]
    assert (summary["needs"]["commercial"], summary["needs"]["max_p95_ms"], summary["needs"]["give_up"]) == (True, 1e6, 0.02)
    assert summary["standings"]["m/b 64"]["constraints_not_kept"] == {"commercial": "licence no is not known to allow commercial use"}
    assert summary["standings"]["m/same 64"]["effect"] is None  # without any difference there is none
    assert summary["slices"][0]["means"]["m/a 64"] == pytest.approx(cells[0].scores[METRIC][HARD].mean())
    assert len(summary["duels"]) == 6
    duel = next(one for one in summary["duels"] if one["other"] == "m/same @ 64")
    standing = summary["standings"]["m/b 64"]
    assert (duel["detectable_difference"], duel["more_queries_needed"]) == (0.0, None)
    assert (standing["detectable_difference"], standing["more_queries_needed"]) == (pytest.approx(0, abs=1e-9), 0)
    best = summary["standings"][verdict.standings[0].result.identity]
    assert (best["detectable_difference"], best["more_queries_needed"]) == (None, None)


def test_the_verdict_stands_in_summary_json(tiny: Dataset, tmp_path: Path) -> None:
    needs = Needs(max_p95_ms=1e6)
    made = harness.evaluate(tiny, ["hash/64"], out=tmp_path, needs=needs)
    written = json.loads((tmp_path / "summary.json").read_text())["verdict"]
    assert written == json.loads(json.dumps(choose(made, needs).summary()))
    assert written["constraints"][0]["constraint"] == "max_p95_ms = 1e+06"


def test_models_are_compared_by_their_plain_cells_whatever_else_was_measured() -> None:
    one, other = base(), base() - 0.01
    quantised = replace(cell("m/b", other + 0.02, dim=32), precision="int8")
    board = leaderboard(cell("m/a", one), cell("m/b", other), quantised)
    verdict = choose(board)
    assert [standing.result.name for standing in verdict.best_cells()] == ["m/a @ 64", "m/b @ 64"]
    assert [(duel.one.name, duel.other.name) for duel in verdict.duels] == [("m/a @ 64", "m/b @ 64")]
    alone = choose(leaderboard(cell("m/a", one), quantised))
    assert [standing.result.name for standing in alone.best_cells()] == ["m/b @ 32 int8", "m/a @ 64"]


def test_the_same_question_is_answered_once_and_another_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    board = leaderboard(cell("m/a", base()), cell("m/b", base() - 0.1))
    first = choose(board)
    assert choose(board) is first
    assert choose(board, Needs(documents=5)) is not first
    assert choose(replace(board)) is not choose(board)
