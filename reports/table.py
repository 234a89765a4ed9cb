"""The leaderboard as columns of text, the same on the terminal, in the page and in the CSV file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.result import Leaderboard, Result
from harness.verdict import query_milliseconds

NOTHING = "–"
"""What stands in a cell that was not, or could not be, measured."""


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


def columns(board: Leaderboard) -> list[Column]:
    """The columns for this leaderboard, left to right; its headline measure comes right after the identity."""
    measures = list(board.results[0].scores) if board.results else [board.headline]
    return [
        Column("model", "provider/model", lambda r: r.spec),
        Column("dim", "dimensions kept; * the model was not trained to be cut here", _dim),
        *(Column(m, f"mean {m} over all queries, 0 to 1, higher is better", lambda r, m=m: r.mean(m), 4) for m in measures),  # type: ignore[misc]
        Column("docs s", "seconds to embed all documents, on the machine below", lambda r: r.cost.document_seconds),
        Column("cut", "documents longer than the model reads: the rest of them is not embedded", lambda r: r.cost.truncated_documents),
        Column("query ms", "milliseconds a query, embedding and search, all queries in one batch", query_milliseconds),
        Column("MB", "megabytes of vectors in the index", lambda r: None if r.cost.bytes is None else r.cost.bytes / 1e6),
        Column("USD", "price of embedding this corpus and its queries, at the list price", lambda r: r.cost.usd),
        Column("licence", "licence of the weights", lambda r: r.model.get("licence", "")),
    ]


def _dim(result: Result) -> str | int:
    return "" if not result.dim else result.dim if result.trained else f"{result.dim}*"


def csv(board: Leaderboard) -> str:
    """Every column of summary.json as CSV, best first, then the models without a result."""
    return str(board.frame.to_csv(index=False))
