"""The leaderboard as columns of text, the same on the terminal, in the page and in the CSV file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.result import Leaderboard, Result
from harness.verdict import Standing, Verdict, query_milliseconds

NOTHING = "–"
"""What stands in a cell that was not, or could not be, measured."""


_MOST_QUERIES = 99_999  # more that would tell two apart are as good as never


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, what it means, and a cell's value (a number sorts as one; None is "not measured")."""

    heading: str
    meaning: str
    value: Callable[[Result], float | int | str | None]
    digits: int | None = None

    def text(self, result: Result) -> str:
        """A cell as a reader sees it."""
        value = self.value(result)
        if value is None or value == "":
            return NOTHING
        if isinstance(value, float):
            return f"{value:.{self.digits}f}" if self.digits is not None else f"{value:.3g}"
        return f"{value:,}" if isinstance(value, int) else value


def columns(board: Leaderboard, verdict: Verdict) -> list[Column]:
    """The columns for this leaderboard, left to right; its headline measure comes right after the identity."""
    measures = list(board.results[0].scores) if board.results else [board.headline]
    priced = any(result.cost.usd for result in board.results)
    standings = {one.result.identity: one for one in verdict.standings}
    return [
        Column("model", "provider/model", lambda r: r.spec),
        Column("dim", "dimensions kept; * the model was not trained to be cut here", _dim),
        *_ways(board),
        _measure(board.headline),
        Column(
            "95 %",
            f"interval of the mean {board.headline} (BCa bootstrap over queries); ~ rests on little",
            lambda r: _interval(standings[r.identity]),
        ),
        Column(
            "best?",
            "= is tied for best: the truly best is one of these with 95 % probability;"
            " + is about how many more judged queries would tell it from the first",
            lambda r: _best(standings[r.identity]),
        ),
        *(_measure(name) for name in measures if name != board.headline),
        Column(
            "docs s",
            "seconds to embed all documents, as measured when it was done, without loading the model",
            lambda r: r.cost.document_seconds,
        ),
        Column("cut", "documents longer than the model reads: what is beyond is not embedded", lambda r: r.cost.truncated_documents),
        Column(
            "query ms",
            "milliseconds a query: embedding, as measured when it was done, and search, the least of three; all queries in one batch",
            query_milliseconds,
        ),
        Column("MB", "megabytes of vectors in the index", lambda r: None if r.cost.bytes is None else r.cost.bytes / 1e6),
        *([Column("USD", "price of embedding this corpus and its queries", lambda r: r.cost.usd)] if priced else []),
        Column("licence", "licence of the weights", lambda r: r.model.get("licence", "")),
    ]


def _ways(board: Leaderboard) -> list[Column]:
    """How vectors are kept and searched, where that is not the same everywhere."""
    if all(result.plain for result in board.results):
        return []
    way = "how vectors are kept and searched: precision, index, xN for shortlists of N times the cut-off that native vectors put in order"
    near = "share of the first 10 of exact float32 search that is found: what the index loses, not the model"
    return [
        Column("kept as", f"{way}; empty is exact float32", lambda r: r.way),
        Column("neighbours", near, lambda r: r.neighbours, 3),
    ]


def _measure(name: str) -> Column:
    return Column(name, f"mean {name} over all queries, 0 to 1, higher is better", lambda r: r.mean(name), 4)


def _interval(standing: Standing) -> str:
    return f"{standing.low:.3f}–{standing.high:.3f}{' ~' if standing.rough else ''}"


def _best(standing: Standing) -> str:
    return f"= {more(standing.more_queries)}".rstrip() if standing.tied else ""


def more(queries: int | None) -> str:
    """How many more queries would tell two apart, as a short mark; nothing where none would or none are needed."""
    return "" if not queries else f"+{queries:,}" if queries <= _MOST_QUERIES else f"over +{_MOST_QUERIES:,}"


def _dim(result: Result) -> str | int:
    return "" if not result.dim else result.dim if result.trained else f"{result.dim}*"


def csv(board: Leaderboard) -> str:
    """Every column of summary.json as CSV, best first, then the models without a result."""
    return str(board.frame.to_csv(index=False))
