"""A pytest fixture, ``retrieval_baseline``: retrieval is a test like any other.

    def test_retrieval_holds(retrieval_baseline):
        retrieval_baseline(harness.evaluate("mycorpus", ["st/org/name"]))

pytest finds it by itself where bakeoff is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import config
from harness.check import Report, Rule, check, rules_in_force
from harness.result import Leaderboard, load


@pytest.fixture
def retrieval_baseline(pytestconfig: pytest.Config) -> Callable[..., Report]:
    """A function that holds a leaderboard, or its folder, against a baseline, and fails the test on a regression.

    Baseline, rules and cell are, unless given, those of ``bakeoff.toml`` in pytest's root folder (``[check]`` and ``[[rule]]``,
    paths from that folder), else ``bakeoff-baseline.json`` there and the built-in rules. What cannot be compared raises
    CannotCompareError: an error is no pass either.
    """

    def hold(
        board: Leaderboard | str | Path, baseline: str | Path | None = None, rules: tuple[Rule, ...] = (), cell: str | None = None
    ) -> Report:
        from reports import gate

        root, made = pytestconfig.rootpath, board if isinstance(board, Leaderboard) else load(board)
        settings, own = _settings(root)
        chosen = rules or rules_in_force(root / settings["rules"] if "rules" in settings else None, own)
        path = Path(baseline) if baseline else root / settings.get("baseline", "bakeoff-baseline.json")
        report = check(made, path, chosen, cell or settings.get("cell"))
        if report.regressed:
            pytest.fail("\n".join([gate.verdict(report), *gate.lines(report)]), pytrace=False)
        return report

    return hold


def _settings(root: Path) -> tuple[dict[str, Any], Path | None]:
    """``[check]`` of the settings file in ``root``, and the file; None where there is none. Raises OptionError."""
    from harness.cli import main

    own = root / config.DEFAULT
    if not own.exists():
        return {}, None
    settings: dict[str, Any] = config.read(own, main)["check"]
    return settings, own
