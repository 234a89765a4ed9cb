from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.baseline import CannotCompareError, save_baseline
from harness.dataset import Dataset
from harness.result import Leaderboard

pytest_plugins = ["pytester"]


@pytest.fixture
def board(tiny: Dataset) -> Leaderboard:
    return harness.evaluate(tiny, ["hash/128"], metrics=["ndcg@10"], dims=["native"])


def test_a_run_that_holds_passes_and_gives_the_report(board: Leaderboard, tmp_path: Path, retrieval_baseline) -> None:
    save_baseline(board, tmp_path / "b.json")
    assert not retrieval_baseline(board, tmp_path / "b.json").regressed


def test_a_regression_fails_the_test_with_the_rule(board: Leaderboard, tmp_path: Path, retrieval_baseline) -> None:
    save_baseline(board, tmp_path / "b.json")
    worse = replace(board, results=tuple(replace(r, scores={m: v * 0.2 for m, v in r.scores.items()}) for r in board.results))
    with pytest.raises(pytest.fail.Exception, match=r"has regressed(.|\n)*ndcg@10 on all"):
        retrieval_baseline(worse, tmp_path / "b.json")


def test_what_cannot_be_compared_is_an_error(board: Leaderboard, tmp_path: Path, retrieval_baseline) -> None:
    with pytest.raises(CannotCompareError):
        retrieval_baseline(board, tmp_path / "none.json")


def test_baseline_and_rules_are_found_in_the_root_folder(board: Leaderboard, pytester: pytest.Pytester) -> None:
    save_baseline(board, pytester.path / "bakeoff-baseline.json")
    (pytester.path / "bakeoff.toml").write_text('[[rule]]\nmetric = "mrr@10"\n')
    pytester.makepyfile(
        """
        import pytest
        from harness.baseline import CannotCompareError
        from harness.result import Leaderboard

        def test_it(retrieval_baseline):
            board = Leaderboard(dataset={"name": "x", "fingerprint": {}}, headline="ndcg@10", results=())
            with pytest.raises(CannotCompareError, match="no result for 'hash/128 @ 128'"):
                retrieval_baseline(board)
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
