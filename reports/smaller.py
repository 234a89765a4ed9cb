"""What smaller vectors and quicker indexes keep of each model's quality, and what more documents would take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.result import Leaderboard, Result
from harness.scale import bill, front, milliseconds
from harness.verdict import Verdict
from reports import costs
from reports.table import NOTHING

SCALES = (1, 10, 100, 1000)
HEADINGS = (
    ("kept as", "dimension, precision, index, and xN for shortlists of N times the cut-off that native vectors put in order"),
    ("share", "of the mean of the native vectors in exact float32"),
    ("neighbours", "share of the first 10 of exact float32 search that is found: what the index loses, not the model"),
    ("bytes", "of the index a document; + those of the vectors that shortlists are rescored by"),
    ("by formula", "bytes a document as the index's layout has them"),
    ("built in s", "seconds to build the index"),
    ("p50 ms", "to search for one query alone"),
    ("p95 ms", "to search for one query alone"),
    ("p99 ms", "to search for one query alone"),
    ("queries/s", "searched for in one batch, with the threads that the costs below name"),
)


def smaller(board: Leaderboard) -> list[dict[str, Any]]:
    """For each model with more than plain cells: its native one, and of the others those on its own Pareto front, smallest last."""
    found = []
    for spec in dict.fromkeys(result.spec for result in board.results if not result.plain):
        cells = [result for result in board.results if result.spec == spec]
        whole = next((one for one in cells if one.plain and one.dim == one.native_dim), None)
        kept = front([[-one.mean(board.headline), one.cost.bytes, one.cost.rescore_bytes or 0, _search(one)] for one in cells])
        shown = [one for one, stays in zip(cells, kept, strict=True) if stays or one is whole]
        shown.sort(key=lambda one: (one is not whole, -(one.cost.bytes or 0), -one.mean(board.headline)))
        found.append({"spec": spec, "measured": len(cells), "lines": [_line(board, one, whole) for one in shown]})
    return found


def _search(result: Result) -> float | None:
    """The median of one query alone, in two significant digits: what differs less is noise."""
    return None if result.cost.alone_search_p50 is None else float(f"{result.cost.alone_search_p50:.1e}")


def _line(board: Leaderboard, one: Result, whole: Result | None) -> dict[str, Any]:
    cost, count = one.cost, int(board.dataset["documents"])
    share = one.mean(board.headline) / whole.mean(board.headline) if whole and whole.mean(board.headline) else None
    each = [None if amount is None else amount / count for amount in (cost.bytes, cost.formula_bytes, cost.rescore_bytes)]
    rate = len(one.query_ids) / cost.search_seconds if cost.search_seconds else None
    figures = [
        _text(one.mean(board.headline), "{:.4f}"),
        _text(share, "{:.1%}"),
        _text(one.neighbours, "{:.3f}"),
        _text(each[0], "{:,.0f}") + (f" + {each[2]:,.0f}" if each[2] else ""),
        _text(each[1], "{:,.0f}"),
        _text(cost.build_seconds, "{:.2g}"),
        *(_text(value, "{:.3g}", 1000) for value in (cost.alone_search_p50, cost.alone_search_p95, cost.alone_search_p99)),
        _text(rate, "{:,.0f}"),
    ]
    return {"name": f"{one.dim} {one.way}".rstrip(), "whole": one is whole, "figures": figures}


def _text(value: float | None, form: str, times: float = 1) -> str:
    return NOTHING if value is None else form.format(value * times)


def scaled(board: Leaderboard, verdict: Verdict) -> list[dict[str, Any]]:
    """Index in memory and p95 of one query at 1, 10, 100 and 1,000 times the corpus, for each model's best cell and what was picked.

    Worked out, not measured: bytes by the document, and for exact search the time that scanning them takes on this machine.
    """
    count, lines = int(board.dataset["documents"]), []
    for one in costs.shown(verdict):
        if one.result.floor or one.result.cost.bytes is None:
            continue
        figures = []
        for times in SCALES:
            at = bill(one.result, board.dataset, replace(verdict.needs, documents=count * times))
            figures += [costs.size(at.bytes), NOTHING if at.p95_ms is None else milliseconds(at.p95_ms)]
        lines.append({"name": one.result.name, "figures": figures})
    return lines
