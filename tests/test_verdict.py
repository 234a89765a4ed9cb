from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_dataset

import harness
from harness.dataset import Dataset
from harness.result import Leaderboard, sort_results
from harness.verdict import choose, query_milliseconds, score_matrix

QUERIES = 200


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    store = tmp_path_factory.mktemp("store")
    return harness.evaluate(make_dataset(), ["hash/64", "hash/32"], metrics=["ndcg@10"], dims=["native"], store_folder=store)


def with_scores(board: Leaderboard, scores: dict[str, np.ndarray], turned: str = "") -> Leaderboard:
    """The board with other scores; the queries of ``turned`` stand in reverse order."""
    ids = tuple(f"q{n}" for n in range(QUERIES))
    results = [
        replace(
            result,
            scores={"ndcg@10": scores[result.spec][::-1] if result.spec == turned else scores[result.spec]},
            query_ids=ids[::-1] if result.spec == turned else ids,
        )
        for result in board.results
        if result.spec in scores
    ]
    return replace(board, results=sort_results(results, "ndcg@10"))


def base(shift: float = 0.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    return np.clip(np.random.default_rng(0).uniform(0.2, 0.8, QUERIES) + shift + rng.normal(0, noise, QUERIES), 0, 1)


def test_one_clear_winner_is_said_to_be_alone(board: Leaderboard) -> None:
    verdict = choose(with_scores(board, {"hash/64": base(), "hash/32": base(-0.15, 0.05), "bm25": base(-0.15, 0.05, 2)}))
    assert [one.tied for one in verdict.standings] == [True, False, False]
    assert verdict.certainty.startswith("Only hash/64 @ 64 can be the best")
    assert "more judged" not in verdict.certainty


def test_what_chance_could_explain_is_tied_and_the_price_of_certainty_is_named(board: Leaderboard) -> None:
    verdict = choose(with_scores(board, {"hash/64": base(0.01, 0.2), "hash/32": base(0, 0.2, 2)}))
    assert [one.tied for one in verdict.standings] == [True, True]
    assert "2 of 2 are tied for best" in verdict.certainty
    assert "more judged queries would tell them apart" in verdict.certainty
    first, second = verdict.standings
    assert (first.behind, first.p) == (None, None)
    assert second.behind is not None
    assert second.behind.low < 0 < second.behind.high
    assert second.p is not None
    assert second.p > 0.05


def test_a_floor_that_wins_or_ties_is_named_but_never_picked(board: Leaderboard) -> None:
    wins = choose(with_scores(board, {"bm25": base(0.1), "hash/64": base(0, 0.02)}))
    assert wins.picks[0].result is not None
    assert wins.picks[0].result.spec == "hash/64"
    assert "below bm25: the floor is better than any model measured" in wins.picks[0].reason
    assert wins.picks[2].result is not None  # none of the models is tied with the floor: the best one is the answer
    ties = choose(with_scores(board, {"bm25": base(0, 0.2), "hash/64": base(0.01, 0.2, 2)}))
    assert "tied with it" in ties.picks[0].reason or "the floor is better" in ties.picks[0].reason


def test_the_cheapest_of_the_tied_is_the_cheapest_of_them_only(board: Leaderboard) -> None:
    made = with_scores(board, {"hash/64": base(), "hash/32": base(-0.2, 0.05)})
    picks = {pick.question: pick.result.spec for pick in choose(made).picks if pick.result}
    assert picks["Cheapest of those tied for best"] == "hash/64"
    cheap = {r.spec: replace(r, cost=replace(r.cost, usd=0.0 if r.spec == "hash/32" else 1.0)) for r in made.results}
    picks = {p.question: p.result.spec for p in choose(replace(made, results=tuple(cheap.values()))).picks if p.result}
    assert picks["Cheapest of those tied for best"] == "hash/64"
    assert picks["Cheapest to embed"] == "hash/32"


def test_scores_are_paired_by_query_id_and_not_by_place(board: Leaderboard) -> None:
    scores = {"hash/64": base(), "hash/32": base(-0.01)}
    assert (
        score_matrix(with_scores(board, scores).results, "ndcg@10")
        == score_matrix(with_scores(board, scores, "hash/32").results, "ndcg@10")
    ).all()
    assert [one.tied for one in choose(with_scores(board, scores, turned="hash/32")).standings] == [True, False]


def test_the_verdict_stands_in_summary_json(tiny: Dataset, tmp_path: pytest.TempPathFactory) -> None:
    made = harness.evaluate(tiny, ["hash/64"], out=str(tmp_path))
    summary = json.loads((made.folder / "summary.json").read_text())["verdict"]  # type: ignore[operator]
    assert summary["certainty"] == choose(made).certainty
    assert summary["choosing"][0] == {"question": "Best model", "model": "hash/64", "dim": 64, "reason": choose(made).picks[0].reason}
    assert set(summary["standings"]) == {result.identity for result in made.results}
    assert summary["standings"][made.results[0].identity]["tied_for_best"] is True


def test_costs_that_were_not_measured_are_none(board: Leaderboard) -> None:
    (result,) = (r for r in board.results if r.spec == "hash/64")
    assert query_milliseconds(replace(result, cost=replace(result.cost, search_seconds=None))) is None
    known = replace(result, cost=replace(result.cost, document_seconds=0.36, query_seconds=0.1, search_seconds=0.02))
    cheapest = choose(replace(board, results=(known,))).picks[3]  # 60 documents
    assert "0.36 s to embed this corpus, 1.7 h for a million such documents" in cheapest.reason
    assert query_milliseconds(known) == pytest.approx(120 / len(known.query_ids))


def test_a_board_of_one_compares_nothing(board: Leaderboard) -> None:
    verdict = choose(with_scores(board, {"hash/64": base()}))
    assert verdict.certainty == "Nothing was compared: fewer than two systems were measured."
    assert verdict.standings[0].tied
