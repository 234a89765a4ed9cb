"""What the terminal says, read as a person reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from boards import COST, cell, leaderboard

from harness import console
from harness.result import Leaderboard
from harness.scale import Needs
from harness.verdict import choose
from reports import choosing
from reports.table import columns

SCORES = np.random.default_rng(0).uniform(0.3, 0.7, 60)


def shown(board: Leaderboard, needs: Needs, capsys: pytest.CaptureFixture[str]) -> str:
    verdict = choose(board, needs)
    console.show(board, verdict, columns(board, verdict))
    return capsys.readouterr().out


def row_of(task: str, text: str) -> list[str]:
    """The cells of one row of the table "choosing a model", each on one line."""
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(f"│ {task}"))
    last = next(at for at in range(first, len(lines)) if not lines[at].startswith("│"))
    parts = [line.split("│")[1:-1] for line in lines[first:last]]
    return [" ".join(" ".join(column).split()) for column in zip(*parts, strict=True)]


def test_a_row_of_the_choice_has_all_that_choosing_md_has(capsys: pytest.CaptureFixture[str]) -> None:
    slow = cell("m/top", SCORES + 0.1, cost=replace(COST, alone_embed_p95=0.2))
    board = leaderboard(slow, cell("m/mid", SCORES, usd_per_million_tokens=2.0, licence="Apache-2.0"), cell("m/low", SCORES - 0.1))
    needs = Needs(max_p95_ms=50)
    text = shown(board, needs, capsys)
    assert max(map(len, text.splitlines())) <= 160
    verdict = choose(board, needs)
    _, name, measured, expected, runner_up, usd, size, p95, licence, why = choosing.row(verdict.picks[0])
    assert row_of("Overall", text) == [
        "Overall",
        f"{name} runner-up: {runner_up}",
        f"{measured.replace('(', '').replace(')', '')} expected {expected}",
        f"{usd} USD per million documents {size} bytes a document p95 {p95} ms licence {licence}",
        why,
    ]
    assert (usd, size, p95, licence, runner_up) == ("100.00", "256", "12", "Apache-2.0", "m/low @ 64")
    assert choosing.held_back(verdict)[0] in " ".join(text.split())


def test_a_row_without_an_answer_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(leaderboard(cell("m/a", SCORES)), Needs(), capsys)
    assert row_of("Multilingual", text) == ["Multilingual", "nothing", "–", "", "this corpus has no such queries"]
