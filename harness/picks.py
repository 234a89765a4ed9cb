"""The table "choosing a model": which cell to take for which kind of work, and what each of the user's constraints costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.metrics import Floats
from harness.result import Leaderboard, Result, score_matrix
from harness.scale import Bill, Needs
from harness.slices import CODE, TASKS, names_code, tag_slice

OVERALL, FAST, SMALL, VALUE = "Overall", "Latency-critical", "Storage-critical", "Best value for money"
TOGETHER = "their combination"
TOLERANCE = 0.01
"""The share of the best mean that a smaller dimension may lose and still be recommended."""
Tied = dict[tuple[str, ...], NDArray[np.bool_]]
_SMALLEST_STRATUM = 20  # queries: kinds with fewer are one stratum together
_EQUAL = 1e-12  # means closer than this are equal
_NO_QUERIES = "this corpus has no such queries"
_NO_CODE = 'this corpus does not say that it is code; if it is, write tags = ["code"] into dataset.toml'
_UNTAGGED_CODE = "this corpus names code beside other things, but no query or document has a tag that says code"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The best of all cells, where the user's constraints exclude it: how it compares with the pick, and constraint -> why."""

    result: Result
    comparison: stats.Comparison
    broken: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One row of the table: of those tied for best on the queries that belong to the row, the one that costs least.

    ``mean`` (with its 95 % interval) is what was measured of it on these queries; ``expected`` is what is left on other such
    queries, when the mean is not flattered by having been picked. ``tied`` counts the
    cells it was taken from. ``held_back`` is what would be better on these queries but is excluded. Without a result there
    are only a reason and the number of queries.
    """

    task: str
    queries: int
    reason: str
    result: Result | None = None
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rough: bool = False
    expected: float = math.nan
    tied: int = 0
    runner_up: Result | None = None
    bill: Bill | None = None
    held_back: HeldBack | None = None
    caution: str = ""
    """That BM25 is at least as good, or a random order not shown to be worse, where that is so."""


@dataclass(frozen=True, slots=True)
class Extreme:
    """A cell that is first in one respect, whatever it is in others; None where nothing was measured."""

    question: str
    result: Result | None
    reason: str


@dataclass(frozen=True, slots=True)
class Price:
    """What one constraint costs: how much better the best would be without it, all others kept; ``low`` to ``high`` in 95 %."""

    constraint: str
    excluded: int
    without: Result | None
    difference: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class _Cost:
    """One kind of cost: its value, and that as text."""

    value: Callable[[Bill], float | None]
    text: str

    def of(self, bill: Bill) -> float:
        """The value; infinite where it was not measured."""
        value = self.value(bill)
        return math.inf if value is None else value

    def said(self, bill: Bill) -> str:
        """The value as a reader sees it."""
        return "not measured" if math.isinf(self.of(bill)) else self.text.format(self.of(bill), time=hours(self.of(bill)))


_YEAR = _Cost(lambda bill: bill.year_usd, "{:,.2f} USD in the first year")
_HOURS = _Cost(lambda bill: bill.embed_hours, "{time} to embed the documents")
_BYTES = _Cost(lambda bill: None if bill.all_bytes is None else bill.all_bytes / bill.documents, "{:,.0f} bytes a document")
_LATENCY = _Cost(lambda bill: bill.p95_level, "p95 {:,.15g} ms")
_MONEY = (_YEAR, _HOURS, _BYTES, _LATENCY)


@dataclass(frozen=True, slots=True)
class _Aim:
    """What is to be least: the first of ``costs``, where that is equal the next, where all are the higher mean; and its superlative.

    ``give_up`` is the share of the best mean that may be lost for it.
    """

    superlative: str
    costs: tuple[_Cost, ...]
    give_up: float = 0.0

    def of(self, bill: Bill) -> tuple[float, ...]:
        """All costs, in the order in which they matter."""
        return tuple(cost.of(bill) for cost in self.costs)

    def telling(self, bill: Bill, other: Bill) -> _Cost:
        """The first cost in which two bills differ; where none does, the first that is not nothing."""
        differing = (cost for cost in self.costs if cost.of(bill) != cost.of(other))
        return next(differing, next((cost for cost in self.costs if cost.of(bill)), self.costs[0]))


def strata(board: Leaderboard, ids: Sequence[str]) -> stats.Strata | None:
    """The kind of each query of ``ids`` by all of the user's tags together, ``(queries,)``; None where there are no two kinds.

    Kinds with under 20 queries are one stratum together.
    """
    kinds: dict[str, tuple[str, ...]] = dict.fromkeys(ids, ())
    for name in map(tag_slice, board.dataset["query_tags"]):
        for value, members in board.slices.get(name, {}).items():
            for query in set(members) & kinds.keys():
                kinds[query] = (*kinds[query], f"{name}: {value}")
    names, places, counts = np.unique([", ".join(kind) for kind in kinds.values()], return_inverse=True, return_counts=True)
    large = counts >= _SMALLEST_STRATUM
    return np.where(large[places], places, -1) if len(names) > 1 and large.any() else None


def picks(board: Leaderboard, needs: Needs, bills: Mapping[str, Bill], broken: Mapping[str, Mapping[str, str]]) -> tuple[Pick, ...]:
    """Answer every row of the table from the cells that keep all constraints.

    By identity, ``bills`` are the costs and ``broken`` the constraints that a cell does not keep, with the reason.
    """
    money = _Aim("cheapest", _MONEY)
    aims = {OVERALL: money, **dict.fromkeys(TASKS, money)} | {
        FAST: _Aim("fastest", (_LATENCY,), needs.give_up),
        SMALL: _Aim("smallest", (_BYTES,), needs.give_up),
        VALUE: _Aim("cheapest", _MONEY, needs.give_up),
    }
    everything = board.results[0].query_ids if board.results else ()
    queries = {task: tuple(board.tasks.get(task, ())) if task in TASKS else everything for task in aims}
    tied: Tied = {}
    return tuple(_pick(board, task, aim, queries[task], bills, broken, tied) for task, aim in aims.items())


def _pick(
    board: Leaderboard,
    task: str,
    aim: _Aim,
    ids: tuple[str, ...],
    bills: Mapping[str, Bill],
    broken: Mapping[str, Mapping[str, str]],
    known: Tied,
) -> Pick:
    """Answer one row; ``known`` keeps the tied groups for the next row that asks the same queries."""
    models = [result for result in board.results if not result.floor]
    eligible = [result for result in models if not broken[result.identity]]
    if not models:
        return Pick(task=task, queries=len(ids), reason="no embedding model was measured")
    if len(ids) < stats.FEWEST_IN_SLICE:
        return Pick(task=task, queries=len(ids), reason=_few(board, task, len(ids)))
    if not eligible:
        nearest = min(models, key=lambda result: len(broken[result.identity]))
        why = "; ".join(broken[nearest.identity].values())
        return Pick(task=task, queries=len(ids), reason=f"nothing measured keeps the constraints; the nearest is {nearest.name}: {why}")
    scores = _on(ids, eligible, board.headline)
    own = [bills[result.identity] for result in eligible]
    means, costs = scores.mean(axis=0), [aim.of(bill) for bill in own]
    if ids not in known:
        known[ids] = stats.tied_for_best(scores)
    tied = known[ids]
    group = tied | stats.shown_to_lose_at_most(scores, aim.give_up)
    inside = sorted(np.flatnonzero(group), key=lambda at: (costs[at], -means[at]))
    others = [*inside[1:], *(at for at in np.argsort(-means, kind="stable") if at != inside[0])]
    chosen, ranks = int(inside[0]), sorted(set(costs))
    low, high = stats.intervals(scores[:, [chosen]], strata(board, ids))[0]
    caution = _floors(board, ids, scores[:, chosen])
    return Pick(
        task=task,
        queries=len(ids),
        reason=_reason(aim, eligible, own, scores, len(inside), chosen, len(models)) + (caution and f"; but {caution}"),
        result=eligible[chosen],
        mean=float(means[chosen]),
        low=float(low),
        high=float(high),
        rough=bool(stats.rough(scores[:, [chosen]])[0]),
        expected=float(means[chosen]) - stats.optimism(scores, [ranks.index(cost) for cost in costs], tied, aim.give_up),
        tied=len(inside),
        runner_up=eligible[others[0]] if others else None,
        bill=own[chosen],
        held_back=_held_back(board, ids, models, eligible[chosen], broken),
        caution=caution,
    )


def _few(board: Leaderboard, task: str, count: int) -> str:
    """Why a row with too few queries is not answered."""
    if count:
        return f"this corpus has only {count} such queries; {stats.FEWEST_IN_SLICE} are needed"
    if task != CODE:
        return _NO_QUERIES
    return _UNTAGGED_CODE if names_code(board.dataset) else _NO_CODE


def _on(ids: Sequence[str], cells: Sequence[Result], measure: str) -> Floats:
    """Per-query scores ``(len(ids), cells)`` on some of the queries."""
    place = {query: row for row, query in enumerate(cells[0].query_ids)}
    return score_matrix(cells, measure)[[place[query] for query in ids]]


def _reason(aim: _Aim, cells: Sequence[Result], bills: Sequence[Bill], scores: Floats, tied: int, chosen: int, measured: int) -> str:
    """Why ``chosen``, one of ``tied`` cells, in one sentence made from the numbers; ``scores`` are ``(queries, cells)``.

    ``cells`` are those that keep the constraints, ``measured`` counts all.
    """
    means = scores.mean(axis=0)
    best, *_ = order = [int(at) for at in np.argsort(-means, kind="stable")]
    if len(cells) == 1:
        return "the only one to choose from" if measured == 1 else f"the only one of {measured} cells that keeps your constraints"
    among = "" if len(cells) == measured else f"of the {len(cells)} of {measured} cells that keep your constraints, "
    if tied == 1:
        gap = stats.compare(scores[:, [chosen]], scores[:, order[1]])[0]
        return (
            f"{among}the only one that can be best: {gap.difference:.3f} ({gap.low:.3f} to {gap.high:.3f}) ahead of {cells[order[1]].name}"
        )
    cost = aim.telling(bills[chosen], bills[best])
    lose = f", or that lose at most {100 * aim.give_up:g} %" if aim.give_up else ""
    text = f"{among}the {aim.superlative} of {tied} that {len(scores):,} queries can't tell from the best{lose}: {cost.said(bills[chosen])}"
    if best == chosen:
        return text
    return f"{text}; {cells[best].name} is {means[best] - means[chosen]:.3f} ahead, with {cost.said(bills[best])}"


def _held_back(
    board: Leaderboard, ids: Sequence[str], models: Sequence[Result], chosen: Result, broken: Mapping[str, Mapping[str, str]]
) -> HeldBack | None:
    """The best of ``models`` on these queries, where no cell that keeps the constraints is as good."""
    scores = _on(ids, models, board.headline)
    means = scores.mean(axis=0)
    first = int(means.argmax())
    if means[first] - max(mean for cell, mean in zip(models, means, strict=True) if not broken[cell.identity]) <= _EQUAL:
        return None
    comparison = stats.compare(scores[:, [first]], scores[:, models.index(chosen)], strata(board, ids))[0]
    return HeldBack(models[first], comparison, broken[models[first].identity])


def _floors(board: Leaderboard, ids: Sequence[str], chosen: Floats) -> str:
    """What to say where a floor is as good as the chosen cell, whose scores are ``(queries,)``; nothing where none is."""
    for floor in sorted((result for result in board.results if result.floor), key=lambda result: result.spec != "random"):
        scores = _on(ids, [floor], board.headline)[:, 0]
        if floor.spec == "random":
            if stats.one_sided(chosen - scores) > 1 - stats.LEVEL:
                return f"that is not shown to be better than a random order, which reaches {scores.mean():.3f}"
        elif scores.mean() >= chosen.mean():
            return f"{floor.name} reaches {scores.mean():.3f}: use it alone or in a hybrid"
    return ""


def prices(board: Leaderboard, needs: Needs, broken: Mapping[str, Mapping[str, str]]) -> tuple[Price, ...]:
    """What each constraint costs in the headline measure, all others kept, and what several cost together.

    ``broken`` is by identity: constraint -> why it is not kept.
    """
    models = [result for result in board.results if not result.floor]
    kept = [result for result in models if not broken[result.identity]]
    found = []
    for name, text in needs.limits().items():
        excluded = sum(name in broken[result.identity] for result in models)
        freed = [result for result in models if set(broken[result.identity]) <= {name}]
        found.append(_price(text, excluded, freed, kept, board.headline))
    if len(found) > 1 and kept and all(price.without is not models[0] for price in found) and kept[0] is not models[0]:
        found.append(_price(TOGETHER, len(models) - len(kept), models, kept, board.headline))
    return tuple(found)


def _price(constraint: str, excluded: int, freed: Sequence[Result], kept: Sequence[Result], measure: str) -> Price:
    """The price of a constraint without which ``freed`` could be chosen, and not only ``kept``, both best first."""
    if not freed or not kept or freed[0] is kept[0]:
        return Price(constraint, excluded, freed[0] if freed and not kept else None)
    scores = score_matrix([freed[0], kept[0]], measure)
    gap = stats.compare(scores[:, :1], scores[:, 1])[0]
    return Price(constraint, excluded, freed[0], gap.difference, gap.low, gap.high)


def extremes(board: Leaderboard, bills: Mapping[str, Bill]) -> tuple[Extreme, ...]:
    """The highest mean, the smallest dimension within 1 % of it, the cheapest and the fastest of all, floors left out.

    Cheapest means the least money in the first year and, where that is equal, the least time to embed; the reason says which.
    """
    cells, headline = [result for result in board.results if not result.floor], board.headline
    if not cells:
        return (Extreme("Highest mean", None, "no embedding model was measured"),)
    best = cells[0]
    enough = [cell for cell in cells if cell.mean(headline) >= (1 - TOLERANCE) * best.mean(headline)]
    smallest = min([best, *(cell for cell in enough if cell.plain)], key=lambda cell: (cell.dim or best.dim, -cell.mean(headline)))
    smaller = any(cell.dim < smallest.dim for cell in cells)
    return (
        Extreme("Highest mean", best, f"{headline} {best.mean(headline):.4f}"),
        Extreme(f"Smallest dimension within {100 * TOLERANCE:g} % of it", smallest, _smallest_reason(headline, smallest, best, smaller)),
        _least("Cheapest", cells, best, headline, bills, _Aim("cheapest", _MONEY)),
        _least("Fastest to answer", cells, best, headline, bills, _Aim("fastest", (_LATENCY,))),
    )


def _smallest_reason(headline: str, smallest: Result, best: Result, smaller: bool) -> str:
    if smallest is best:
        return "no smaller dimension that was measured keeps 99 % of it" if smaller else "no smaller dimension was measured"
    trained = "" if smallest.trained else "; the model was not trained for this dimension"
    return f"{_share(headline, smallest, best)} with {smallest.dim} of {smallest.native_dim} dimensions{trained}"


def _share(headline: str, cell: Result, best: Result) -> str:
    top = best.mean(headline)
    return f"{headline} {cell.mean(headline):.4f}" + (f", {100 * cell.mean(headline) / top:.1f} % of the best" if top else "")


def _least(question: str, cells: Sequence[Result], best: Result, headline: str, bills: Mapping[str, Bill], aim: _Aim) -> Extreme:
    cell = min(cells, key=lambda cell: (aim.of(bills[cell.identity]), -cell.mean(headline)))
    own = bills[cell.identity]
    if math.isinf(aim.of(own)[0]):
        return Extreme(question, None, "not measured")
    return Extreme(question, cell, f"{aim.telling(own, bills[best.identity]).said(own)}; {_share(headline, cell, best)}")


def hours(value: float) -> str:
    """A time given in hours, in the unit that suits it."""
    return f"{value:.1f} h" if value >= 1 else f"{60 * value:.1f} min" if value >= 1 / 60 else f"{3600 * value:.2g} s"
