"""The queries one by one, as data for the page: what is judged, what each model found, and how each query scored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.metrics import UNJUDGED
from harness.result import Leaderboard, Result
from harness.verdict import Verdict
from reports import health

MOST_JUDGED = 20
"""Judged documents shown of a query, the highest grade first."""
_LONGEST_QUERY = 1_000  # characters
LADDER = ((True, 200), (True, 100), (False, 200), (False, 100), (False, 60))
"""How the data is made smaller until it fits: all cells or each model's best, and characters of a document's beginning."""


def data(board: Leaderboard, verdict: Verdict, every_cell: bool = True, characters: int = 200) -> dict[str, Any]:
    """Everything the drill-down shows; documents, cells and labels are named by their place in a list.

    A query's ``cells`` hold, in the order of ``cells``, its score and the documents it found; ``grades`` is document,
    grade, document, grade of whatever is judged and shown.
    """
    cells, shown = _cells(verdict, every_cell)
    picked, models = verdict.picks[0].result, health.compared(verdict)
    known, labels = _Places(), _labels(board)
    failed, places = health.failed_by_all(verdict), [{id_: at for at, id_ in enumerate(cell.query_ids)} for cell in cells]
    label_place = {label: at for at, label in enumerate(dict.fromkeys(label for found in labels.values() for label in found))}
    queries, seen = [], board.pictures.get("queries", {})
    for query in cells[0].query_ids if cells else ():
        found = [_found(cell, place[query], board.headline, known) for cell, place in zip(cells, places, strict=True)]
        queries.append(
            {
                "id": query,
                "text": _clip(board.queries.get(query, ""), _LONGEST_QUERY),
                "labels": [label_place[label] for label in labels.get(query, ())],
                **({"picture": seen[query]} if query in seen else {}),
                "failed": int(query in failed),
                "cells": [one for one, _ in found],
                **_judged(board, query, known, (grades for _, grades in found)),
            }
        )
    return {
        "measure": board.headline,
        "cells": [cell.name for cell in cells],
        "shown": shown,
        "picked": cells.index(picked) if picked in cells else 0,
        "models": [cells.index(model) for model in models],
        "labels": list(label_place),
        "documents": [_document(board, id_, characters) for id_ in known.place],
        "queries": queries,
    }


def _document(board: Leaderboard, id_: str, characters: int) -> list[str]:
    """Id, beginning and, where there is one, thumbnail."""
    picture = board.pictures.get("documents", {}).get(id_)
    return [id_, _clip(board.documents.get(id_, ""), characters), *([picture] if picture else [])]


def _cells(verdict: Verdict, every_cell: bool) -> tuple[list[Result], int]:
    """The picked cell, each model's best, then the others; and how many come before the others. Random order is one of these."""
    best = {one.result.identity: one.result for one in verdict.best_cells() if one.result.spec != "random"}
    if verdict.picks and verdict.picks[0].result is not None:
        picked = verdict.picks[0].result
        best = {picked.identity: picked} | best
    chosen = {pick.result.identity for pick in verdict.picks if pick.result}
    others = [one.result for one in verdict.standings if one.result.identity not in best]
    others = [one for one in others if one.plain or one.identity in chosen]
    return [*best.values(), *(others if every_cell or not best else [])], len(best) or len(others)


class _Places:
    """Gives each document id its place in a list, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}

    def __getitem__(self, id_: str) -> int:
        return self.place.setdefault(id_, len(self.place))


def _found(cell: Result, at: int, measure: str, known: _Places) -> tuple[list[Any], dict[int, int]]:
    """Score and first ten documents of one query, and the grades of those that are judged."""
    documents = [known[str(id_)] for id_ in cell.documents[at][: health.FIRST]]
    grades = zip(documents, cell.grades[at], strict=False)
    return [round(float(cell.scores[measure][at]), 3), documents], {one: int(grade) for one, grade in grades if grade != UNJUDGED}


def _judged(board: Leaderboard, query: str, known: _Places, found: Iterable[dict[int, int]]) -> dict[str, Any]:
    judged = sorted(board.judgements.get(query, {}).items(), key=lambda pair: (-pair[1], pair[0]))
    shown = {known[id_]: grade for id_, grade in judged[:MOST_JUDGED]}
    grades = dict(shown)
    for one in found:
        grades |= one
    return {
        "judged": list(shown),
        "more": max(len(judged) - MOST_JUDGED, 0),
        "grades": [number for pair in grades.items() for number in pair],
    }


def _labels(board: Leaderboard) -> dict[str, list[str]]:
    """Query id -> the slices that it is in."""
    found: dict[str, list[str]] = {}
    for name, values in board.slices.items():
        for value, ids in values.items():
            for query in ids:
                found.setdefault(query, []).append(f"{name}: {value}")
    return found


def _clip(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
