"""From measurements to an answer: which cell to choose for what.

This compares means only. Whether two means can be told apart on these queries is not yet tested, and every page
that shows a pick says so (`CAVEAT`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.result import Leaderboard, Result

TOLERANCE = 0.01
"""The share of the best mean that a smaller dimension may lose and still be recommended."""
Value = TypeVar("Value", float, tuple[float, float])
CAVEAT = "Means only, without significance tests: small differences may be chance."


@dataclass(frozen=True, slots=True)
class Pick:
    """One row of the table "choosing a model": a question, the cell that answers it, and why; None if nothing does."""

    question: str
    result: Result | None
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The picks for one leaderboard, and what must be said beside them."""

    headline: str
    picks: tuple[Pick, ...]
    caveat: str = CAVEAT


def choose(board: Leaderboard) -> Verdict:
    """Answer four questions: best, smallest dimension within 1 % of it, cheapest to embed, fastest to answer.

    Floors (BM25, random) are never picked, but the best one is named where it beats the best model. Cheapest means
    the lowest list price and, at equal price, the least time to embed a document here; fastest means the least
    time a query, embedded and searched in one batch.
    """
    cells = [result for result in board.results if not result.floor]
    if not cells:
        return Verdict(board.headline, (Pick("Best model", None, "no embedding model was measured"),))
    headline = board.headline
    best = cells[0]
    enough = [cell for cell in cells if cell.mean(headline) >= (1 - TOLERANCE) * best.mean(headline)]
    smallest = min(enough, key=lambda cell: (cell.dim or best.dim, -cell.mean(headline)))
    return Verdict(
        headline,
        (
            Pick("Best model", best, _best_reason(board, best)),
            Pick("Smallest dimension within 1 % of the best", smallest, _smallest_reason(headline, smallest, best)),
            _least("Cheapest to embed", cells, best, headline, _price, _price_text),
            _least("Fastest to answer", cells, best, headline, query_milliseconds, lambda ms: f"{ms:.3g} ms a query"),
        ),
    )


def query_milliseconds(result: Result) -> float | None:
    """Milliseconds a query, embedding and search, measured over one batch of all queries."""
    cost = result.cost
    if cost.search_seconds is None or (result.dim and cost.query_seconds is None):
        return None
    return 1000 * ((cost.query_seconds or 0.0) + cost.search_seconds) / len(result.query_ids)


def million_documents_hours(result: Result, documents: int) -> float | None:
    """Hours to embed a million documents like these at the speed measured here."""
    seconds = result.cost.document_seconds
    return None if seconds is None else seconds / documents * 1e6 / 3600


def _best_reason(board: Leaderboard, best: Result) -> str:
    headline, mean = board.headline, best.mean(board.headline)
    rival = next((cell for cell in board.results if cell.spec != best.spec), None)
    reason = f"{headline} {mean:.4f}"
    if rival is not None:
        apart = mean - rival.mean(headline)
        reason += f", {abs(apart):.4f} {'above' if apart >= 0 else 'below'} {rival.name}"
        if rival.floor and rival.mean(headline) > mean:
            reason += ": the floor is better than any model measured, so use it alone or in a hybrid"
    return reason


def _smallest_reason(headline: str, smallest: Result, best: Result) -> str:
    if smallest is best:
        return f"no smaller dimension keeps 99 % of {headline} {best.mean(headline):.4f}"
    trained = "" if smallest.trained else "; the model was not trained for this dimension"
    return f"{_share(headline, smallest, best)} with {smallest.dim} of {smallest.native_dim} dimensions{trained}"


def _share(headline: str, cell: Result, best: Result) -> str:
    top = best.mean(headline)
    return f"{headline} {cell.mean(headline):.4f}" + (f", {100 * cell.mean(headline) / top:.1f} % of the best" if top else "")


def _least(
    question: str,
    cells: Sequence[Result],
    best: Result,
    headline: str,
    cost: Callable[[Result], Value | None],
    text: Callable[[Value], str],
) -> Pick:
    measured = [(value, cell) for cell in cells if (value := cost(cell)) is not None]
    if not measured:
        return Pick(question, None, "not measured")
    value, cell = min(measured, key=lambda pair: (pair[0], -pair[1].mean(headline)))
    return Pick(question, cell, f"{text(value)}; {_share(headline, cell, best)}")


def _price(result: Result) -> tuple[float, float] | None:
    cost = result.cost
    return None if cost.usd is None or cost.document_seconds is None else (cost.usd, cost.document_seconds)


def _price_text(value: tuple[float, float]) -> str:
    usd, seconds = value
    return f"{f'{usd:.4f} USD' if usd else 'no price'}, {seconds:.3g} s to embed this corpus"
