from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from boards import written

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


def worse(board: Leaderboard) -> Leaderboard:
    return replace(board, results=tuple(replace(r, scores={m: v * 0.2 for m, v in r.scores.items()}) for r in board.results))


def test_a_regression_fails_the_test_with_the_rule_and_the_queries_that_fell(
    board: Leaderboard, tmp_path: Path, retrieval_baseline
) -> None:
    save_baseline(board, tmp_path / "b.json")
    with pytest.raises(pytest.fail.Exception) as failed:
        retrieval_baseline(worse(board), tmp_path / "b.json")
    first, *rest = str(failed.value).splitlines()
    assert first == "Retrieval on tiny has regressed: 1 of 1 rules are broken."
    assert rest[0].startswith("REGRESSED ndcg@10 on all (12 queries) of hash/128 @ 128: ")
    assert [line.split()[0] for line in rest[1:4]] == ["fell:", "before:", "now:"]
    assert len(rest) == 1 + 3 * 10


def test_what_cannot_be_compared_is_an_error(board: Leaderboard, tmp_path: Path, retrieval_baseline) -> None:
    with pytest.raises(CannotCompareError):
        retrieval_baseline(board, tmp_path / "none.json")


def outcomes(pytester: pytest.Pytester, board: Leaderboard, settings: str, call: str = "retrieval_baseline(board)") -> dict[str, int]:
    """How a test in pytester's folder ends that holds this board, with these settings in bakeoff.toml, to what is there."""
    written(board, pytester.path / "out")
    (pytester.path / "bakeoff.toml").write_text(settings)
    pytester.makepyfile(
        f"""
        from harness.check import Rule
        from harness.result import load

        def test_it(retrieval_baseline):
            board = load({str(pytester.path / "out")!r})
            report = {call}
            print(*[(outcome.cell, outcome.metric) for outcome in report.outcomes])
        """
    )
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-s").parseoutcomes()


def test_baseline_and_rules_are_found_in_the_root_folder(board: Leaderboard, pytester: pytest.Pytester, capsys) -> None:
    save_baseline(board, pytester.path / "bakeoff-baseline.json")
    assert outcomes(pytester, worse(board), "") == {"failed": 1}
    assert outcomes(pytester, worse(board), '[[rule]]\nmetric = "ndcg@10"\nallowed = 1\nhard = 1\n') == {"passed": 1}
    assert outcomes(pytester, board, '[[rule]]\nmetric = "mrr@10"\n') == {"failed": 1}
    assert "CannotCompareError: mrr@10 was not measured in both runs" in capsys.readouterr().out


def test_the_settings_of_check_hold_and_arguments_overrule_them(board: Leaderboard, pytester: pytest.Pytester, capsys) -> None:
    (pytester.path / "ci").mkdir()
    save_baseline(board, pytester.path / "ci" / "b.json", ["hash/128 @ 128"])
    (pytester.path / "ci" / "rules.toml").write_text('[[rule]]\nmetric = "ndcg@10"\nallowed = 1\nhard = 1\n')
    elsewhere = '[check]\nbaseline = "ci/b.json"\n'
    assert outcomes(pytester, worse(board), elsewhere) == {"failed": 1}
    assert outcomes(pytester, worse(board), elsewhere + 'rules = "ci/rules.toml"\n') == {"passed": 1}
    assert outcomes(pytester, board, elsewhere + 'cell = "hash/128 @ 9"\n') == {"failed": 1}
    assert "no result for 'hash/128 @ 9'" in capsys.readouterr().out
    assert outcomes(pytester, board, elsewhere + 'cell = "hash/128 @ 9"\n', "retrieval_baseline(board, cell='hash/128 @ 128')") == {
        "passed": 1
    }
    loose = "retrieval_baseline(board, rules=(Rule(metric='ndcg@10', allowed=1, hard=1),))"
    assert outcomes(pytester, worse(board), elsewhere, loose) == {"passed": 1}
    assert outcomes(pytester, board, "[check]\nbaselin = 'x'\n") == {"failed": 1}
    assert "unknown key 'baselin'" in capsys.readouterr().out
    (pytester.path / "ci" / "rules.toml").write_text("")
    assert outcomes(pytester, board, elsewhere + 'rules = "ci/rules.toml"\n') == {"failed": 1}
    assert "rules.toml: holds no rule" in capsys.readouterr().out
