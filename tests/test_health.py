"""What the page says of the corpus and its judgements, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pages import made

import harness
from harness.metrics import UNJUDGED
from harness.result import Leaderboard
from reports import health

U = UNJUDGED


def board(**grades: list[list[int]]) -> Leaderboard:
    """Two queries; the grades of what each system found for them, by spec."""
    whole = made(2, specs=("one", "other"), dims=(64,))
    found = {spec: tuple(np.array(row, dtype=np.int32) for row in rows) for spec, rows in grades.items()}
    ids = np.array([f"d{at}" for at in range(12)], dtype=object)
    results = [
        replace(one, grades=found[one.spec], documents=tuple(ids[: len(row)] for row in found[one.spec]))
        for one in whole.results
        if one.spec in found
    ]
    return replace(whole, results=tuple(results))


def notes(of: Leaderboard) -> dict[str, health.Note]:
    made_of: dict[str, Any] = health.health(of, harness.choose(of))
    return {note.what: note for note in made_of["notes"]}


def test_the_unjudged_are_counted_among_the_first_ten_hits_only() -> None:
    cells = {r.spec: r for r in board(one=[[U, 1, 0, U], [U] * 6], other=[[0] * 10 + [U, U], []]).results}
    assert health.unjudged_share(cells["one"]) == pytest.approx(8 / 10)
    assert health.unjudged_share(cells["other"]) == 0.0


def test_unequal_shares_of_unjudged_hits_are_a_warning() -> None:
    equal = notes(board(one=[[1, U, 0, 0]] * 2, other=[[0, U, 0, 0]] * 2))["of the first ten hits were never judged"]
    assert (equal.figure, equal.warn) == ("25 %", False)
    apart = notes(board(one=[[1, U, 0, 0]] * 2, other=[[0, U, U, U]] * 2))["of the first ten hits were never judged"]
    assert (apart.figure, apart.warn) == ("25 to 75 %", True)
    assert "other @ 64 int8 may be better than it looks" in apart.meaning


def test_a_query_is_failed_by_all_when_no_model_finds_it_whatever_the_floor_does() -> None:
    whole = board(one=[[U, 0], [0] * 10 + [2]], other=[[1], [U, 0]], bm25=[[U], [2]])
    assert health.failed_by_all(harness.choose(whole)) == {"q1"}  # the eleventh hit does not count
    note = notes(whole)["queries have no relevant document among the first 10 hits of any model"]
    assert note.figure == "1 of 2"
    assert "bm25 answers 1 of them" in note.meaning


def test_what_the_corpus_lacks_is_said_and_what_an_old_board_does_not_know_is_not() -> None:
    whole = board(one=[[1], [1]], other=[[1], [1]])
    found = notes(whole)
    assert found["documents have the text of another"].figure == "3"
    assert found["queries have only one relevant document"].figure == "2 of 2"
    assert found["queries without a relevant document were left out"].warn  # 1, of 2 that were kept
    old = {name: value for name, value in whole.dataset.items() if name != "queries_with_one_relevant"}
    assert "queries have only one relevant document" not in notes(replace(whole, dataset=old))
    none = notes(replace(whole, dataset=old | {"queries_with_one_relevant": 0}))["queries have only one relevant document"]
    assert none.meaning == "No score hangs on a single hit."


def test_many_cut_documents_are_a_warning() -> None:
    whole = board(one=[[1], [1]], other=[[1], [1]])
    cut = replace(
        whole, results=tuple(replace(r, cost=replace(r.cost, truncated_documents=n)) for r, n in zip(whole.results, (100, 0), strict=True))
    )
    note = notes(cut)[f"documents are longer than {whole.results[0].name} reads"]
    assert (note.figure, note.warn) == ("100 of 400", True)
