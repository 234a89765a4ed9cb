"""A pytest fixture, ``retrieval_baseline``: retrieval is a test like any other.

    def test_retrieval_holds(retrieval_baseline):
        retrieval_baseline(harness.evaluate("mycorpus", ["st/org/name"]))

pytest finds it by itself where bakeoff is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.check import Report, Rule, check, read_rules
from harness.result import Leaderboard, load


@pytest.fixture
def retrieval_baseline(pytestconfig: pytest.Config) -> Callable[..., Report]:
    """A function that holds a leaderboard, or its folder, against a baseline, and fails the test on a regression.

    The baseline is ``bakeoff-baseline.json`` and the rules are those of ``bakeoff.toml`` in pytest's root folder, unless
    given. What cannot be compared raises CannotCompareError: an error is no pass either.
    """

    def hold(
        board: Leaderboard | str | Path, baseline: str | Path | None = None, rules: tuple[Rule, ...] = (), cell: str | None = None
    ) -> Report:
        from reports import gate

        made = board if isinstance(board, Leaderboard) else load(board)
        own = pytestconfig.rootpath / "bakeoff.toml"
        chosen = rules or (read_rules(own) if own.exists() else ())
        report = check(made, Path(baseline or pytestconfig.rootpath / "bakeoff-baseline.json"), chosen, cell)
        if report.regressed:
            broken = [gate.sentence(outcome) for outcome in report.outcomes if outcome.regressed]
            pytest.fail("\n".join([gate.verdict(report), *broken]), pytrace=False)
        return report

    return hold
