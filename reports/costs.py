"""What each model costs at the user's scale, where it was measured, and the command that measures it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from harness.experiment import default_dims
from harness.picks import hours
from harness.result import Leaderboard, Result
from harness.scale import Needs
from harness.verdict import Standing, Verdict
from reports import choosing
from reports.table import NOTHING

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def costs(verdict: Verdict) -> list[dict[str, Any]]:
    """A line for each cell that is shown."""
    picked = _picked(verdict)
    return [_line(one, picked.get(one.result.identity, [])) for one in shown(verdict)]


def shown(verdict: Verdict) -> list[Standing]:
    """Each model's best cell and every cell that was picked, best first."""
    chosen = {one.result.identity for one in verdict.best_cells()} | _picked(verdict).keys()
    return [one for one in verdict.standings if one.result.identity in chosen]


def _picked(verdict: Verdict) -> dict[str, list[str]]:
    """By identity, the rows of the table that a cell was picked for."""
    picked: dict[str, list[str]] = {}
    for pick in verdict.picks:
        if pick.result is not None:
            picked.setdefault(pick.result.identity, []).append(pick.task)
    return picked


def _line(one: Standing, tasks: list[str]) -> dict[str, Any]:
    bill = one.bill
    figures = [
        size(bill.bytes),
        choosing.p95(bill),
        _usd(bill.embed_usd),
        NOTHING if bill.embed_hours is None else hours(bill.embed_hours),
        _usd(bill.month_usd),
        _usd(bill.year_usd),
    ]
    return {"name": one.result.name, "floor": one.result.floor, "tasks": ", ".join(tasks), "figures": figures}


def paid(board: Leaderboard) -> list[tuple[str, ...]]:
    """A line for each model behind an API, under :data:`PAID`: what was expected and what its replies say."""
    lines: dict[str, tuple[str, ...]] = {}
    for result in board.results:
        cost = result.cost
        if cost.requests is None:
            continue
        lost = NOTHING if not cost.lost_requests else f"{cost.lost_requests:,}"
        maybe = NOTHING if not cost.lost_requests else _money(cost.lost_usd)
        figures = (_count(cost.estimated_tokens), _count(cost.tokens), _money(cost.estimated_usd), _money(cost.usd))
        lines.setdefault(result.spec, (result.spec, *figures, f"{cost.requests:,}", lost, maybe))
    return list(lines.values())


PAID = ("model", "tokens expected", "tokens used", "USD expected", "USD", "requests", "lost", "USD for the lost, at most")


def _count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _money(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.4f}"


def size(count: float | None) -> str:
    """Bytes in the unit that suits them."""
    if count is None:
        return NOTHING
    return next((f"{count / unit:,.3g} {name}" for name, unit in _UNITS if count >= unit), f"{count:,.0f} B")


def _usd(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.2f}"


def environment(board: Leaderboard) -> list[tuple[str, str]]:
    """Each fact of where the cells were measured; several values where cells came from several runs."""
    seen: dict[str, list[str]] = {}
    for result in board.results:
        for name, value in [*result.environment.items(), ("device of the search", result.device)]:
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            if text not in seen.setdefault(name, []):
                seen[name].append(text)
    times = sorted(seen.pop("measured", []))
    shown = [(name.replace("_", " "), "; ".join(texts)) for name, texts in seen.items()]
    return [*shown, ("measured", times[0] if times[:1] == times[-1:] else f"{times[0]} to {times[-1]}")] if times else shown


def reproduce(board: Leaderboard, verdict: Verdict) -> dict[str, Any]:
    """The command that measures the same cells, and what they are."""
    specs = list(dict.fromkeys([*(one.spec for one in board.results if not one.floor), *(one.spec for one in board.absences)]))
    words = ["bakeoff eval DATA", *(f"--model {shlex.quote(spec)}" for spec in specs), f"--split {shlex.quote(board.dataset['split'])}"]
    if board.results:
        words.append(f"--metric {','.join(board.results[0].scores)}")
    cells: dict[str, list[Result]] = {}
    for result in sorted(board.results, key=lambda one: -one.dim):
        if result.dim and result.dim not in (one.dim for one in cells.get(result.spec, ())):
            cells.setdefault(result.spec, []).append(result)
    command = [*words, *_dims(list(cells.values())), *_ways(board.results), *_options(verdict.needs)]
    dims = {spec: ", ".join(str(one.dim) for one in found) for spec, found in cells.items()}
    return {"command": " \\\n  ".join(command), "dims": dims}


def _dims(models: Sequence[Sequence[Result]]) -> list[str]:
    """The option that measures these cells, by model, where one list of dimensions does and no list would measure others."""
    if all({one.dim for one in cells} == default_dims(cells[0].native_dim, cells[0].model.get("mrl_dims", ())) for cells in models):
        return []
    numbers = {tuple(str(one.dim) for one in cells) for cells in models}
    words = {tuple("native" if one.dim == one.native_dim else str(one.dim) for one in cells) for cells in models}
    shared = next((found.pop() for found in (numbers, words) if len(found) == 1), None)
    return [f"--dims {','.join(shared)}"] if shared else []


def _ways(cells: Sequence[Result]) -> list[str]:
    """The options that measure these precisions, rescoring depths and indexes."""
    precisions = list(dict.fromkeys(one.precision for one in cells if one.dim and one.precision != "float32"))
    times = sorted({one.rescore for one in cells if one.rescore})
    indexes = dict.fromkeys(one.index for one in cells if one.dim and one.index != "Flat")
    return [
        *([f"--precision {','.join(precisions)}"] if precisions else []),
        *([f"--rescore {','.join(map(str, times))}"] if times else []),
        *(f"--index {shlex.quote(index)}" for index in indexes),
    ]


def _options(needs: Needs) -> list[str]:
    """The user's needs as options, those that differ from their defaults."""
    found = []
    for field in fields(needs):
        value = getattr(needs, field.name)
        if value != field.default:
            option = f"--{field.name.replace('_', '-')}"
            found.append(option if value is True else f"{option} {value:.15g}")
    return found
