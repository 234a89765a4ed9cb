"""From measurements to an answer: what can be told apart on these queries, and which cell to choose for what."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from harness import picks, stats
from harness.picks import Extreme, HeldBack, Pick, Price
from harness.result import Leaderboard, Result, score_matrix
from harness.scale import Bill, Needs, bill, broken, on_front

_NAMED = 8  # of those tied for best; the leaderboard marks all
_LATEST: list[tuple[weakref.ref[Leaderboard], Needs, Verdict]] = []
"""The last verdict, for whoever asks the same again: an evaluation writes it down, and the command line shows it."""
_QUICK = 2_000  # resamples where many small comparisons are shown side by side


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one cell stands by the headline measure: its mean, the mean's 95 % interval, and whether it may be the best.

    ``rough`` marks intervals that rest on too little to be taken at their word. ``intervals`` has those of all measures.
    ``behind`` compares the cell with the first of the board over the same queries (below 0 is worse); None for the first.
    ``p`` is adjusted for the whole board. ``bill`` is what it costs at the user's scale, ``broken`` the user's constraints
    that it does not keep (name -> why), ``front`` whether no other is as good, fast, small and cheap and better in one.
    """

    result: Result
    mean: float
    low: float
    high: float
    rough: bool
    tied: bool
    intervals: Mapping[str, tuple[float, float]]
    bill: Bill
    broken: Mapping[str, str]
    front: bool
    behind: stats.Comparison | None = None
    p: float | None = None

    @property
    def detectable(self) -> float | None:
        """The smallest true difference from the first that these queries reveal with 80 % power."""
        return None if self.behind is None else self.behind.detectable

    @property
    def more_queries(self) -> int | None:
        """About how many more judged queries would tell the cell from the first; 0 where these do, None where nothing differs."""
        return None if self.behind is None else self.behind.more_queries if self.tied else 0


@dataclass(frozen=True, slots=True)
class SliceMeans:
    """The headline measure on one slice: a mean and its 95 % interval per standing, None where the slice has too few queries."""

    name: str
    value: str
    queries: int
    means: tuple[float, ...] | None
    bounds: tuple[tuple[float, float], ...] | None


@dataclass(frozen=True, slots=True)
class Duel:
    """Two models at their best cells, query by query; ``p`` is adjusted for all duels."""

    one: Result
    other: Result
    comparison: stats.Comparison
    p: float

    @property
    def sure(self) -> bool:
        """Whether the difference is beyond chance, all duels considered."""
        return self.p <= 1 - stats.LEVEL

    @property
    def more_queries(self) -> int | None:
        """About how many more judged queries would tell the two apart; 0 where these do, None where nothing differs."""
        return 0 if self.sure else self.comparison.more_queries


@dataclass(frozen=True, slots=True)
class Verdict:
    """The standings of a leaderboard, best first, the table "choosing a model", and what these queries can and can't tell.

    ``prices`` says what each constraint of ``needs`` costs; ``extremes`` are the firsts in one respect.
    """

    headline: str
    standings: tuple[Standing, ...]
    picks: tuple[Pick, ...]
    certainty: str
    needs: Needs
    slices: tuple[SliceMeans, ...] = ()
    prices: tuple[Price, ...] = ()
    extremes: tuple[Extreme, ...] = ()
    duels: tuple[Duel, ...] = ()

    def best_cells(self) -> list[Standing]:
        """Each model's highest standing in exact float32: in what else its vectors may be kept is another question."""
        best = {result.identity for result in _models([standing.result for standing in self.standings])}
        return [standing for standing in self.standings if standing.result.identity in best]

    def summary(self) -> dict[str, Any]:
        """The verdict as JSON-able values, for summary.json."""
        return {
            "certainty": self.certainty,
            "needs": asdict(self.needs),
            "choosing": [_pick_summary(pick) for pick in self.picks],
            "constraints": [
                {
                    "constraint": price.constraint,
                    "cells_excluded": price.excluded,
                    "best_without_it": price.without and price.without.name,
                    "costs": price.difference,
                    "interval": [price.low, price.high],
                }
                for price in self.prices
            ],
            "extremes": [{"question": e.question, "cell": e.result and e.result.name, "reason": e.reason} for e in self.extremes],
            "standings": {one.result.identity: _standing_summary(one) for one in self.standings},
            "slices": [
                {
                    "by": one.name,
                    "value": one.value,
                    "queries": one.queries,
                    "means": one.means and {s.result.identity: mean for s, mean in zip(self.standings, one.means, strict=True)},
                }
                for one in self.slices
            ],
            "duels": [
                {
                    "one": duel.one.name,
                    "other": duel.other.name,
                    "difference": duel.comparison.difference,
                    "wins_ties_losses": [duel.comparison.wins, duel.comparison.ties, duel.comparison.losses],
                    "p_adjusted": duel.p,
                    "detectable_difference": duel.comparison.detectable,
                    "more_queries_needed": duel.more_queries,
                }
                for duel in self.duels
            ],
        }


def choose(board: Leaderboard, needs: Needs | None = None) -> Verdict:
    """Say what can be told apart, and which cell to take for what under the user's needs.

    Floors (BM25, random) are never picked, but said where they are as good. Cheapest means the least money in the first
    year and, at equal price, the least time to embed the documents here.
    """
    needs = needs or Needs()
    if _LATEST and _LATEST[0][0]() is board and _LATEST[0][1] == needs:
        return _LATEST[0][2]
    standings = _standings(board, needs)
    bills = {one.result.identity: one.bill for one in standings}
    lost = {one.result.identity: one.broken for one in standings}
    verdict = Verdict(
        headline=board.headline,
        standings=standings,
        picks=picks.picks(board, needs, bills, lost),
        certainty=_certainty(standings),
        slices=_slice_means(board),
        needs=needs,
        prices=picks.prices(board, needs, lost),
        extremes=picks.extremes(board, bills),
        duels=_duels(board),
    )
    _LATEST[:] = [(weakref.ref(board), needs, verdict)]
    return verdict


def _standings(board: Leaderboard, needs: Needs) -> tuple[Standing, ...]:
    if not board.results:
        return ()
    scores, strata = score_matrix(board.results, board.headline), picks.strata(board, board.results[0].query_ids)
    bounds = {measure: stats.intervals(score_matrix(board.results, measure), strata) for measure in board.results[0].scores}
    rough, tied = stats.rough(scores), stats.tied_for_best(scores)
    behind = stats.compare(scores[:, 1:], scores[:, 0], strata)
    adjusted = stats.holm(np.array([comparison.p for comparison in behind]))
    bills = [bill(result, board.dataset, needs) for result in board.results]
    front = on_front([result.mean(board.headline) for result in board.results], bills)
    return tuple(
        Standing(
            result=result,
            mean=result.mean(board.headline),
            low=float(bounds[board.headline][at, 0]),
            high=float(bounds[board.headline][at, 1]),
            rough=bool(rough[at]),
            tied=bool(tied[at]),
            intervals={measure: (float(both[at, 0]), float(both[at, 1])) for measure, both in bounds.items()},
            bill=bills[at],
            broken=broken(result, bills[at], needs),
            front=front[at] and not result.floor,
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
            if len(ids) < stats.FEWEST_IN_SLICE:
                found.append(SliceMeans(name, value, len(ids), None, None))
                continue
            part = scores[[place[query] for query in ids]]
            bounds = tuple((float(low), float(high)) for low, high in stats.intervals(part, resamples=_QUICK))
            found.append(SliceMeans(name, value, len(ids), tuple(float(mean) for mean in part.mean(axis=0)), bounds))
    return tuple(found)


def _models(results: Sequence[Result]) -> list[Result]:
    """Of results, best first, the first plain one of each model; where there is none its first."""
    first: dict[str, Result] = {}
    for result in results:
        if result.spec not in first or (result.plain and not first[result.spec].plain):
            first[result.spec] = result
    kept = {result.identity for result in first.values()}
    return [result for result in results if result.identity in kept]


def _duels(board: Leaderboard) -> tuple[Duel, ...]:
    """Every model against every other, each at its best cell, the better one first."""
    cells = _models(board.results)
    if len(cells) < 2:
        return ()
    scores = score_matrix(cells, board.headline)
    pairs = list(combinations(range(len(cells)), 2))
    gaps = np.stack([scores[:, one] - scores[:, other] for one, other in pairs], axis=1)
    compared = stats.compare(gaps, np.zeros(len(gaps)), resamples=_QUICK)
    adjusted = stats.holm(np.array([comparison.p for comparison in compared]))
    return tuple(
        Duel(cells[one], cells[other], comparison, float(p)) for (one, other), comparison, p in zip(pairs, compared, adjusted, strict=True)
    )


def _certainty(standings: Sequence[Standing]) -> str:
    """One paragraph: the tied group, and what more queries would bring, for one pair: best a model's that is tied with the first."""
    if len(standings) < 2:
        return "Nothing was compared: fewer than two systems were measured."
    tied = [one for one in standings if one.tied]
    more = f", and {len(tied) - _NAMED:,} more" if len(tied) > _NAMED + 1 else ""
    names = ", ".join(one.result.name for one in tied[: _NAMED if more else None]) + more
    text = (
        f"Only {names} can be the best: all others are worse beyond chance."
        if len(tied) == 1
        else f"{len(tied)} of {len(standings)} are tied for best: with 95 % probability the truly best is among {names}."
    )
    first = standings[0].result
    rival = min(standings[1:], key=lambda one: (not one.tied, one.result.spec == first.spec))
    behind = rival.behind
    if behind is None or behind.queries < 2:
        return text
    text += (
        f" Between {first.name} and {rival.result.name}, {behind.queries:,} queries reveal a true difference of"
        f" {behind.detectable:.3f} with 80 % power"
    )
    if rival.tied and rival.more_queries:
        apart = -behind.difference
        text += f"; they are {apart:.3f} apart, and about {rival.more_queries:,} more judged queries would tell them apart"
    return text + "."


def query_milliseconds(result: Result) -> float | None:
    """Milliseconds a query, embedding and search, all queries in batches."""
    cost = result.cost
    if cost.search_seconds is None or (result.dim and cost.query_seconds is None):
        return None
    return 1000 * ((cost.query_seconds or 0.0) + cost.search_seconds) / len(result.query_ids)


def _pick_summary(pick: Pick) -> dict[str, Any]:
    found = {"task": pick.task, "queries": pick.queries, "reason": pick.reason, "model": None, "dim": None}
    if pick.result is None:
        return found
    return found | {
        "model": pick.result.spec,
        "dim": pick.result.dim or None,
        "mean": pick.mean,
        "interval": [pick.low, pick.high],
        "rough": pick.rough,
        "expected_on_new_queries": pick.expected,
        "taken_from": pick.tied,
        "runner_up": pick.runner_up and pick.runner_up.name,
        "licence": pick.result.model.get("licence", ""),
        "bill": pick.bill and asdict(pick.bill),
        "better_but_excluded": pick.held_back and _held_back_summary(pick.held_back),
    }


def _held_back_summary(better: HeldBack) -> dict[str, Any]:
    return {
        "cell": better.result.name,
        "difference": better.comparison.difference,
        "interval": [better.comparison.low, better.comparison.high],
        "constraints_not_kept": better.broken,
    }


def _standing_summary(one: Standing) -> dict[str, Any]:
    behind = one.behind
    return {
        "mean": one.mean,
        "interval": [one.low, one.high],
        "intervals": one.intervals,
        "rough": one.rough,
        "tied_for_best": one.tied,
        "difference_to_first": behind and behind.difference,
        "difference_interval": behind and [behind.low, behind.high],
        "p_adjusted": one.p,
        "wins_ties_losses": behind and [behind.wins, behind.ties, behind.losses],
        "detectable_difference": one.detectable,
        "more_queries_needed": one.more_queries,
        "effect": None if behind is None or math.isnan(behind.effect) else behind.effect,
        "bill": asdict(one.bill),
        "constraints_not_kept": one.broken,
        "pareto_front": one.front,
    }
