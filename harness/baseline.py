"""The baseline of the gate: a small JSON file that is meant to be committed and reviewed.

It holds, for one or more cells, every query's scores and first documents, what made them, and what data they were measured on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harness.errors import HarnessError, OptionError
from harness.files import whole_or_nothing
from harness.result import Leaderboard, Result
from harness.slices import BM25, of_others

SCHEMA = 1
KEPT = 10
"""How many documents of each ranking a baseline keeps."""
Score = Annotated[float, msgspec.Meta(ge=0, le=1)]


class CannotCompareError(HarnessError):
    """The new run and the baseline cannot be compared; never taken for a pass."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """One cell as it was saved: what made it, measure -> query -> score, and query -> the first documents found."""

    cell: str
    model: dict[str, Any]
    index: str
    precision: str
    scores: dict[str, dict[str, Score]]
    found: dict[str, tuple[str, ...]]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The file: ``slices`` is what is sliced by -> value -> query ids, ``queries`` is query id -> text."""

    schema: int
    dataset: str
    split: str
    fingerprint: dict[str, str]
    slices: dict[str, dict[str, tuple[str, ...]]]
    queries: dict[str, str]
    cells: tuple[Saved, ...]


class _Head(msgspec.Struct):
    schema: int


def save_baseline(board: Leaderboard, path: Path, cells: Sequence[str] = ()) -> list[str]:
    """Write the named cells (``model @ dim``; by default the best model's best) as a baseline; returns their names.

    Raises CannotCompareError for a cell that is not there, OptionError where ``path`` cannot be written.
    """
    chosen = [find_cell(board, name) for name in cells] or sorted((r for r in board.results if not r.floor), key=lambda r: not r.plain)[:1]
    if not chosen:
        raise CannotCompareError("no embedding model was measured, so there is nothing to save")
    baseline = Baseline(
        schema=SCHEMA,
        dataset=board.dataset["name"],
        split=board.dataset["split"],
        fingerprint=board.dataset["fingerprint"],
        slices={
            by: {value: tuple(ids) for value, ids in values.items()}
            for by, values in board.slices.items()
            if by != BM25 and not of_others(by, {result.spec for result in chosen})
        },
        queries={query: board.queries.get(query, "") for query in chosen[0].query_ids},
        cells=tuple(_saved(result) for result in chosen),
    )
    text = json.dumps(msgspec.to_builtins(baseline), indent=1, ensure_ascii=False) + "\n"
    try:
        with whole_or_nothing(path) as half:
            half.write_text(text, encoding="utf-8", errors="replace")  # UTF-8 has no half surrogate pairs
    except OSError as error:
        raise OptionError(f"{path}: cannot be written ({error.strerror}); name another file") from error
    return [result.name for result in chosen]


def _saved(result: Result) -> Saved:
    return Saved(
        cell=result.name,
        model=dict(result.model),
        index=result.index,
        precision=result.precision,
        scores={
            measure: {query: round(float(score), 6) for query, score in zip(result.query_ids, values, strict=True)}
            for measure, values in result.scores.items()
        },
        found={query: tuple(map(str, ids[:KEPT])) for query, ids in zip(result.query_ids, result.documents, strict=True)},
    )


def find_cell(board: Leaderboard, name: str) -> Result:
    """The cell of a leaderboard that is called so; raises CannotCompareError where there is none."""
    names = {result.name: result for result in board.results}
    if name not in names:
        failed = {absence.spec: absence.reason for absence in board.absences}
        why = next((f"; {spec}: {reason}" for spec, reason in failed.items() if name.startswith(spec)), "")
        known = ", ".join(repr(known) for known in names) or "none"
        raise CannotCompareError(f"the new run has no result for {name!r}{why}; it has {known}; --cell says which one to compare")
    return names[name]


def read(path: Path) -> Baseline:
    """Read a baseline; raises CannotCompareError for what is none, is of another schema, or does not agree with itself."""
    try:
        content = path.read_bytes()
        schema = msgspec.json.decode(content, type=_Head).schema
        if schema != SCHEMA:
            raise CannotCompareError(f"{path}: schema {schema}, this bakeoff reads {SCHEMA}; save the baseline again")
        baseline = msgspec.json.decode(content, type=Baseline)
    except FileNotFoundError as error:
        raise CannotCompareError(f"{path}: not a readable baseline, there is no such file; bakeoff baseline save makes one") from error
    except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise CannotCompareError(f"{path}: not a readable baseline ({error}); bakeoff baseline save makes one") from error
    if wrong := _disagreement(baseline):
        raise CannotCompareError(f"{path}: {wrong}; save the baseline again")
    return baseline


def _disagreement(baseline: Baseline) -> str:
    """What in a baseline is missing or contradicts the rest, else nothing."""
    queries = baseline.queries.keys()
    if not queries or not baseline.cells or not all(cell.scores for cell in baseline.cells):
        return "holds no scores"
    for cell in baseline.cells:
        for name, held in [("found", cell.found.keys()), *((measure, scores.keys()) for measure, scores in cell.scores.items())]:
            if odd := sorted(queries ^ held):
                return f"{name!r} of {cell.cell!r} is not of the same queries as 'queries': {len(odd)} are in one only, as {odd[0]!r} is"
    for by, values in baseline.slices.items():
        for value, ids in values.items():
            if len(set(ids)) < len(ids) or not queries >= set(ids):
                return f"slice {f'{by}: {value}'!r} names a query twice, or one that is not in 'queries'"
    return ""
