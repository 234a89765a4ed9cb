"""The leaderboard of the page: rows, what they can be filtered by, and the figures of each slice."""

from __future__ import annotations

from typing import Any

from harness.result import Leaderboard, Result
from harness.verdict import Duel, SliceMeans, Standing, Verdict
from reports.table import NOTHING, Column, columns, more

FRONT, TIED, REVEALS, EXCLUDED = "front", "best?", "reveals", "excluded"
INTERVAL = "95 %"
_NAMED_COLUMNS = 6  # more columns of models are headed by a number, that of the model's row
_SPOKEN = {"=": "tied for best", "◆": "on the Pareto front"}
_MARKS = frozenset((TIED, FRONT))
_TEXTS = frozenset((EXCLUDED, "model", "kept as", "licence"))
"""Columns of words, which stand to the left."""


def shown_columns(board: Leaderboard, verdict: Verdict) -> list[Column]:
    """The leaderboard's columns with the page's own after the mark of the tied: what shows, the Pareto front, what a cell fails."""
    standings = {one.result.identity: one for one in verdict.standings}
    found = columns(board, verdict)
    meaning = "◆ is on the Pareto front: no other is as good, as fast, as small and as cheap, and better in one of these"
    reveals = "the smallest true difference from the first that these queries reveal with 80 % power"
    own = [Column(REVEALS, reveals, lambda r: standings[r.identity].detectable, 3)]
    own += [Column(FRONT, meaning, lambda r: "◆" if standings[r.identity].front else "")]
    if any(_broken(one) for one in verdict.standings):
        own.append(Column(EXCLUDED, "the constraints that it does not keep", lambda r: _broken(standings[r.identity])))
    at = next((place for place, column in enumerate(found, 1) if column.heading == TIED), len(found))
    return [*found[:at], *own, *found[at:]]


def _broken(standing: Standing) -> str:
    """Why a cell is not to be chosen; a floor never is."""
    return "" if standing.result.floor else "; ".join(f"{name}: {why}" for name, why in standing.broken.items())


def leaderboard(board: Leaderboard, verdict: Verdict) -> dict[str, Any]:
    """Headings, rows, filters, and the data of the slices."""
    shown = shown_columns(board, verdict)
    top = max((standing.high for standing in verdict.standings), default=0.0)
    best = {id(standing) for standing in verdict.best_cells()}
    return {
        "columns": [
            {"heading": c.heading, "meaning": c.meaning, "kind": _kind(c, board), "sorted": c.heading == board.headline} for c in shown
        ],
        "rows": [
            {
                "at": at,
                "cells": [_cell(column, standing, board) for column in shown],
                "tied": standing.tied,
                "floor": standing.result.floor,
                "excluded": bool(_broken(standing)),
                "best": id(standing) in best,
                "dim": standing.result.dim,
                "precision": standing.result.precision if standing.result.dim else "",
                "bar": bar(standing, top),
            }
            for at, standing in enumerate(verdict.standings)
        ],
        "dims": sorted({one.result.dim for one in verdict.standings if one.result.dim}, reverse=True),
        "precisions": sorted({one.result.precision for one in verdict.standings if one.result.dim}),
        "slices": _groups(verdict),
        "data": _data(verdict),
    }


def _kind(column: Column, board: Leaderboard) -> str:
    """How a column is drawn."""
    if column.heading == board.headline:
        return "bar"
    if column.heading in _MARKS:
        return "mark"
    if column.heading == INTERVAL:
        return "number interval"
    return "text" if column.heading in _TEXTS else "number"


def _cell(column: Column, standing: Standing, board: Leaderboard) -> dict[str, Any]:
    result: Result = standing.result
    value = column.value(result)
    number = value if isinstance(value, (int, float)) else (result.dim or None) if column.heading == "dim" else None
    text, kind = column.text(result), _kind(column, board)
    text = "" if text == NOTHING and column.heading in _MARKS | {EXCLUDED} else text
    return {"text": text, "number": number, "kind": kind, "spoken": _SPOKEN.get(text[:1], "")}


def bar(standing: Standing, top: float) -> dict[str, str]:
    """Mean and interval in per cent of the longest bar."""
    scale = 100 / top if top else 0.0
    return {"share": f"{scale * standing.mean:.1f}", "low": f"{scale * standing.low:.1f}", "high": f"{scale * standing.high:.1f}"}


def _numbered(verdict: Verdict) -> list[SliceMeans]:
    return [one for one in verdict.slices if one.means]


def _groups(verdict: Verdict) -> dict[str, list[dict[str, Any]]]:
    """What is sliced by -> the slices with numbers, each with its place in the data."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for at, one in enumerate(_numbered(verdict), 1):
        groups.setdefault(one.name, []).append({"at": at, "value": one.value, "queries": one.queries})
    return groups


def _data(verdict: Verdict) -> list[list[list[Any]]]:
    """All queries, then every slice: for each row mean, low, high and the interval as text."""
    everything = [
        [round(one.mean, 4), round(one.low, 4), round(one.high, 4), f"{one.low:.3f}–{one.high:.3f}{' ~' if one.rough else ''}"]
        for one in verdict.standings
    ]
    slices = [
        [
            [round(mean, 4), round(low, 4), round(high, 4), f"{low:.3f}–{high:.3f}"]
            for mean, (low, high) in zip(one.means or (), one.bounds or (), strict=True)
        ]
        for one in _numbered(verdict)
    ]
    return [everything, *slices]


def heat(verdict: Verdict) -> dict[str, Any]:
    """The slices as a table: groups of lines, a column per model at the dimension where it does best on all queries."""
    best = [at for at, one in enumerate(verdict.standings) if one in verdict.best_cells()]
    groups: dict[str, dict[str, Any]] = {}
    for one in verdict.slices:
        group = groups.setdefault(one.name, {"name": one.name, "lines": [], "few": []})
        if one.means is None:
            group["few"].append(f"{one.value} {one.queries}")
            continue
        means = [one.means[at] for at in best]
        cells = [{"text": f"{mean:.3f}", "best": mean == max(means), "shade": f"{100 * mean:.0f}"} for mean in means]
        group["lines"].append({"value": one.value, "queries": one.queries, "cells": cells})
    return {"names": [verdict.standings[at].result.name for at in best], "groups": list(groups.values())}


def duels(verdict: Verdict) -> dict[str, Any]:
    """Every model against every other: queries won and lost, and which differences are beyond chance."""
    names = [one.result.name for one in verdict.best_cells()]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for duel in verdict.duels:
        c = duel.comparison
        found[duel.one.name, duel.other.name] = _duel(duel, c.wins, c.losses)
        found[duel.other.name, duel.one.name] = _duel(duel, c.losses, c.wins)
    rows = [{"name": one, "cells": [found.get((one, other)) for other in names]} for one in names]
    return {"names": names, "rows": rows if found else [], "numbered": len(names) > _NAMED_COLUMNS}


def _duel(duel: Duel, wins: int, losses: int) -> dict[str, Any]:
    share = (wins - losses) / max(duel.comparison.queries, 1)
    return {
        "text": f"{wins}–{losses}",
        "reveals": f"{duel.comparison.detectable:.3f} {more(duel.more_queries)}".rstrip(),
        "title": f"{wins} better, {duel.comparison.ties} equal, {losses} worse",
        "sure": duel.sure,
        "tone": "win" if share > 0 else "loss" if share < 0 else "even",
        "shade": f"{min(100, 15 + 120 * abs(share)):.0f}" if share else "0",
    }
