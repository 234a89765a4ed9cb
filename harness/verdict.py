"""From measurements to an answer: what can be told apart on these queries, and which cell to choose for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from harness import stats
from harness.metrics import Floats
from harness.result import Leaderboard, Result

_SHOWN = 0.00005  # a difference below this is shown as none
TOLERANCE = 0.01
"""The share of the best mean that a smaller dimension may lose and still be recommended."""
Value = TypeVar("Value", float, tuple[float, ...])


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one cell stands by the headline measure: its mean, the mean's 95 % interval, and whether it may be the best.

    ``rough`` marks intervals that rest on too little to be taken at their word. ``behind`` compares the cell with the
    first of the board over the same queries (below 0 is worse); None for the first. ``p`` is adjusted for the whole board.
    """

    result: Result
    mean: float
    low: float
    high: float
    rough: bool
    tied: bool
    behind: stats.Comparison | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """One row of the table "choosing a model": a question, the cell that answers it, and why; None if nothing does."""

    question: str
    result: Result | None
    reason: str


@dataclass(frozen=True, slots=True)
class SliceMeans:
    """The headline measure on one slice of the queries: one mean per standing, None where the slice has too few."""

    name: str
    value: str
    queries: int
    means: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The standings of a leaderboard, best first, the picks, and in words what these queries can and can't tell."""

    headline: str
    standings: tuple[Standing, ...]
    picks: tuple[Pick, ...]
    certainty: str
    slices: tuple[SliceMeans, ...] = ()

    def summary(self) -> dict[str, Any]:
        """The verdict as JSON-able values, for summary.json."""
        return {
            "certainty": self.certainty,
            "choosing": [
                {
                    "question": pick.question,
                    "model": pick.result.spec if pick.result else None,
                    "dim": pick.result.dim or None if pick.result else None,
                    "reason": pick.reason,
                }
                for pick in self.picks
            ],
            "standings": {
                one.result.identity: {
                    "mean": one.mean,
                    "interval": [one.low, one.high],
                    "rough": one.rough,
                    "tied_for_best": one.tied,
                    "difference_to_first": one.behind.difference if one.behind else None,
                    "difference_interval": [one.behind.low, one.behind.high] if one.behind else None,
                    "p_adjusted": one.p,
                    "wins_ties_losses": [one.behind.wins, one.behind.ties, one.behind.losses] if one.behind else None,
                    "effect": None if one.behind is None or np.isnan(one.behind.effect) else one.behind.effect,
                }
                for one in self.standings
            },
            "slices": [
                {
                    "by": one.name,
                    "value": one.value,
                    "queries": one.queries,
                    "means": one.means and {s.result.identity: mean for s, mean in zip(self.standings, one.means, strict=True)},
                }
                for one in self.slices
            ],
        }


def choose(board: Leaderboard) -> Verdict:
    """Say what can be told apart and answer five questions.

    Best; smallest dimension within 1 % of it; cheapest of those tied for best; cheapest; fastest. Floors (BM25, random)
    are never picked, but said where they are tied with the best or beat it. Cheapest means the lowest list price and,
    at equal price, the least time to embed the documents here; fastest means the least time a query, embedded and
    searched in one batch.
    """
    standings = _standings(board)
    cells = [result for result in board.results if not result.floor]
    if not cells:
        nothing = Pick("Best model", None, "no embedding model was measured")
        return Verdict(board.headline, standings, (nothing,), _certainty(board, standings), _slice_means(board))
    headline, best = board.headline, cells[0]
    enough = [cell for cell in cells if cell.mean(headline) >= (1 - TOLERANCE) * best.mean(headline)]
    smallest = min(enough, key=lambda cell: (cell.dim or best.dim, -cell.mean(headline)))
    smaller = any(cell.dim < smallest.dim for cell in cells)
    tied = [one.result for one in standings if one.tied and not one.result.floor] or [best]
    price_text = partial(_price_text, documents=board.dataset["documents"])
    picks = (
        Pick("Best model", best, _best_reason(board, best, standings)),
        Pick(f"Smallest dimension within {100 * TOLERANCE:g} % of the best", smallest, _smallest_reason(headline, smallest, best, smaller)),
        _least("Cheapest of those tied for best", tied, best, headline, _price_then_bytes, price_text),
        _least("Cheapest to embed", cells, best, headline, _price, price_text),
        _least("Fastest to answer", cells, best, headline, query_milliseconds, lambda ms: f"{ms:.3g} ms a query"),
    )
    return Verdict(headline, standings, picks, _certainty(board, standings), _slice_means(board))


def score_matrix(results: Sequence[Result], measure: str) -> Floats:
    """Per-query scores ``(queries, results)``, the queries in the first result's order."""
    if not results:
        return np.empty((0, 0))
    columns = []
    for result in results:
        place = {query: row for row, query in enumerate(result.query_ids)}
        columns.append(result.scores[measure][[place[query] for query in results[0].query_ids]])
    return np.stack(columns, axis=1)


def _standings(board: Leaderboard) -> tuple[Standing, ...]:
    if not board.results:
        return ()
    scores = score_matrix(board.results, board.headline)
    bounds, rough, tied = stats.intervals(scores), stats.rough(scores), stats.tied_for_best(scores)
    behind = stats.compare(scores[:, 1:], scores[:, 0])
    adjusted = stats.holm(np.array([comparison.p for comparison in behind]))
    return tuple(
        Standing(
            result=result,
            mean=result.mean(board.headline),
            low=float(bounds[at, 0]),
            high=float(bounds[at, 1]),
            rough=bool(rough[at]),
            tied=bool(tied[at]),
            behind=behind[at - 1] if at else None,
            p=float(adjusted[at - 1]) if at else None,
        )
        for at, result in enumerate(board.results)
    )


def _slice_means(board: Leaderboard) -> tuple[SliceMeans, ...]:
    if not board.results:
        return ()
    scores = score_matrix(board.results, board.headline)
    place = {query: row for row, query in enumerate(board.results[0].query_ids)}
    found = []
    for name, values in board.slices.items():
        for value, ids in values.items():
            means = scores[[place[query] for query in ids]].mean(axis=0) if len(ids) >= stats.FEWEST_IN_SLICE else None
            found.append(SliceMeans(name, value, len(ids), None if means is None else tuple(float(mean) for mean in means)))
    return tuple(found)


def _certainty(board: Leaderboard, standings: Sequence[Standing]) -> str:
    """One paragraph: the tied group, and what more queries would bring."""
    if len(standings) < 2:
        return "Nothing was compared: fewer than two systems were measured."
    count = len(board.results[0].query_ids)
    tied = [one for one in standings if one.tied]
    names = ", ".join(one.result.name for one in tied)
    text = (
        f"Only {names} can be the best: all others are worse beyond chance."
        if len(tied) == 1
        else f"{len(tied)} of {len(standings)} are tied for best: with 95 % probability the truly best is among {names}."
    )
    first = standings[0].result
    others = [one for one in standings if one.result.spec != first.spec]
    if not others or count < 2:
        return text
    rival = next((one for one in others if one.tied), others[0])
    scores = score_matrix([first, rival.result], board.headline)
    spread = float((scores[:, 0] - scores[:, 1]).std(ddof=1))
    seen = stats.detectable_difference(spread, count)
    text += f" Between {first.name} and {rival.result.name}, {count:,} queries reveal a true difference of {seen:.3f} with 80 % power"
    apart = float(scores[:, 0].mean() - scores[:, 1].mean())
    needed = stats.queries_needed(spread, apart)
    if rival.tied and needed is not None and needed > count:
        text += f"; they are {apart:.3f} apart, and about {needed - count:,} more judged queries would tell them apart"
    return text + "."


def query_milliseconds(result: Result) -> float | None:
    """Milliseconds a query, embedding and search, measured over one batch of all queries."""
    cost = result.cost
    if cost.search_seconds is None or (result.dim and cost.query_seconds is None):
        return None
    return 1000 * ((cost.query_seconds or 0.0) + cost.search_seconds) / len(result.query_ids)


def _best_reason(board: Leaderboard, best: Result, standings: Sequence[Standing]) -> str:
    headline, own = board.headline, next(one for one in standings if one.result is best)
    reason = f"{headline} {own.mean:.4f} ({own.low:.3f} to {own.high:.3f}{', rough' if own.rough else ''})"
    rival = next((one for one in standings if one.result.spec != best.spec), None)
    if rival is None:
        return reason
    apart = own.mean - rival.mean
    level = f"{abs(apart):.4f} {'above' if apart > 0 else 'below'}" if abs(apart) >= _SHOWN else "level with"
    reason += f", {level} {rival.result.name}"
    if rival.result.floor and apart < 0:
        reason += ": the floor is better than any model measured, so use it alone or in a hybrid"
    elif rival.tied and own.tied:
        reason += ", which is tied with it"
    return reason


def _smallest_reason(headline: str, smallest: Result, best: Result, smaller: bool) -> str:
    if smallest is best:
        return "no smaller dimension that was measured keeps 99 % of it" if smaller else "no smaller dimension was measured"
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


def _price(result: Result) -> tuple[float, ...] | None:
    cost = result.cost
    return None if cost.usd is None or cost.document_seconds is None else (cost.usd, cost.document_seconds)


def _price_then_bytes(result: Result) -> tuple[float, ...] | None:
    price = _price(result)
    return None if price is None else (*price, float(result.cost.bytes or 0))


def _price_text(value: tuple[float, ...], documents: int) -> str:
    usd, seconds, *_ = value
    hours = seconds / documents * 1e6 / 3600
    return f"{f'{usd:.4f} USD' if usd else 'no price'}, {seconds:.3g} s to embed this corpus, {hours:.2g} h for a million such documents"
