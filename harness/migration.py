"""What changes when one moves from one model to another: quality, slices, single queries, dimensions, and re-embedding.

Both are cells of measured leaderboards on the same judged data, compared query by query; above 0 is better for the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness import stats
from harness.baseline import CannotCompareError
from harness.errors import OptionError, nearest
from harness.metrics import UNJUDGED, Floats
from harness.result import SUMMARY, Leaderboard, Result, load, score_matrix
from harness.scale import Bill, Needs, bill, broken
from harness.slices import BM25, of_others

Keeps = Literal["yes", "no", "can't tell"]
MARGIN = 0.01
"""The share of the old model's mean that the new one may lose and still keep its quality."""
MOVED = 10
"""How many of the queries that get worse, and of those that get better, are shown."""
HITS = 5
"""How many of the first documents of a moved query are shown."""
_ROUNDING = 1e-12  # a loss of exactly the margin is within it


@dataclass(frozen=True, slots=True)
class Delta:
    """The means before and after on some of the queries, and how they compare; all None where a slice has too few.

    ``slice`` is ``all`` or ``kind: code``; ``p_adjusted`` is adjusted for the number of slices compared (Holm).
    """

    slice: str
    queries: int
    before: float | None
    after: float | None
    comparison: stats.Comparison | None
    p_adjusted: float | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found: its id, its grade (None where nobody judged it), and the beginning of its text."""

    document: str
    grade: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A query whose score changed, with the first documents found before and after."""

    query: str
    text: str
    before: float
    after: float
    found_before: tuple[Hit, ...]
    found_after: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class AtDim:
    """The new model at one of its dimensions, compared with the old cell.

    ``keeps`` is "yes" when it is shown to lose at most 1 % of the old mean (the 95 % interval of the difference lies above
    that margin), "no" when it is shown to lose more, else "can't tell"; ``within`` says the same of the share that the user would
    give up.
    """

    name: str
    dim: int
    mean: float
    comparison: stats.Comparison
    bytes_per_document: float | None
    keeps: Keeps
    within: Keeps


@dataclass(frozen=True, slots=True)
class Reembedding:
    """What the move costs once, for so many documents; None where something it rests on was not measured.

    ``hours`` are those of the machine that measured, ``usd`` is at list price, the bytes are the index's before and after.
    """

    documents: int
    hours: float | None
    usd: float | None
    bytes_before: int | None
    bytes_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """All that changes by ``metric`` when the cell ``new`` takes the place of ``old``, and what must be said beside it.

    ``worse`` and ``better`` are the queries that change most; ``dims`` are all cells of the new model, largest first.
    ``bill_before`` and ``bill_after`` are what the cells cost at the scale of ``needs``; of its limits the new cell keeps ``kept``
    and breaks ``broken``: limit -> why.
    """

    dataset: str
    metric: str
    old: str
    new: str
    overall: Delta
    slices: tuple[Delta, ...]
    worse: tuple[Moved, ...]
    better: tuple[Moved, ...]
    dims: tuple[AtDim, ...]
    cost: Reembedding
    needs: Needs
    bill_before: Bill
    bill_after: Bill
    kept: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def smallest(self) -> AtDim | None:
        """The new model at the smallest dimension that is shown to keep the old one's quality; None if none is."""
        return min((at for at in self.dims if at.keeps == "yes"), key=lambda at: at.dim, default=None)


def find(board: Leaderboard, name: str) -> Result:
    """The cell called ``model @ dim``, or the plain one of the largest dimension of ``model``; raises OptionError if there is none."""
    found = [result for result in board.results if name in (result.name, result.spec)]
    if not found:
        known = {result.name: result.spec for result in board.results}
        failed = "".join(f"; {one.spec} {one.status}: {one.reason}" for one in board.absences if name.startswith(one.spec))
        there = ", ".join(map(repr, known)) or "none"
        raise OptionError(f"no result for {name!r}{failed}; there is {there}{nearest(name, [*known, *known.values()])}")
    return max(found, key=lambda result: (result.plain, result.dim))


def locate(name: str, folder: Path | None = None) -> tuple[Result, Leaderboard]:
    """A cell that a user names, and its leaderboard: the best model of the leaderboard in folder ``name``, or a cell of ``folder``.

    Without ``folder`` it is the only leaderboard in ``out``. Raises OptionError, and ResultError for an unreadable leaderboard.
    """
    if (Path(name) / SUMMARY).exists():
        board = load(name)
        best = next(iter(sorted((r for r in board.results if not r.floor), key=lambda r: not r.plain)), None)
        if best is None:
            raise OptionError(f"{name}: no embedding model was measured there")
        return best, board
    if folder is None:
        there = sorted(path.parent for path in Path("out").glob(f"*/{SUMMARY}"))
        if len(there) != 1:
            names = ", ".join(map(str, there)) or "none; bakeoff eval makes one"
            raise OptionError(f"which leaderboard is {name!r} a cell of? --in says so; there are {names}")
        folder = there[0]
    board = load(folder)
    return find(board, name), board


def migrate(board: Leaderboard, old: Result, new: Result, *, other: Leaderboard | None = None, needs: Needs | None = None) -> Migration:
    """Compare ``old`` with ``new``, a cell of ``board``, by its headline measure.

    ``old`` may come from the leaderboard ``other``, of another run on the same judged data. ``needs`` are the user's scale,
    with the documents that will have to be embedded, and limits. Raises CannotCompareError when the data differ in what was
    judged, ResultError when ``old`` was not scored by that measure.
    """
    metric, source, notes = board.headline, other or board, _check_data(old, new)
    old.mean(metric)  # says what it has instead
    after, before = score_matrix([new, old], metric).T  # (queries,) each
    needs = needs or Needs()
    needs = replace(needs, documents=needs.documents or board.dataset["documents"])
    bills = bill(old, source.dataset, needs), bill(new, board.dataset, needs)
    lost, limits = broken(new, bills[1], needs), needs.limits()
    dims = _dims(board, old, new, needs.give_up)
    own = next(at.comparison for at in dims if at.name == new.name)
    if len(before) < stats.ROUGH_BELOW:
        notes.append(f"{len(before)} queries are few: the intervals and what follows from them are rough")
    texts = {**source.documents, **board.documents}
    return Migration(
        dataset=board.dataset["name"],
        metric=metric,
        old=old.name,
        new=new.name,
        overall=Delta("all", len(before), float(before.mean()), float(after.mean()), own, own.p),
        slices=_slices(board, old, new, before, after),
        worse=_moved(board, old, new, np.minimum(after - before, 0), texts),
        better=_moved(board, old, new, np.maximum(after - before, 0), texts),
        dims=dims,
        cost=_reembedding(*bills),
        needs=needs,
        bill_before=bills[0],
        bill_after=bills[1],
        kept=tuple(text for name, text in limits.items() if name not in lost),
        broken={limits[name]: why for name, why in lost.items()},
        notes=tuple(notes),
    )


def _check_data(old: Result, new: Result) -> list[str]:
    """Raise where the judged part of the data differs; return a note where only documents that nobody judged do."""
    differ = [part for part in new.fingerprint if new.fingerprint[part] != old.fingerprint.get(part)]
    if hard := [part for part in differ if part != "documents"]:
        raise CannotCompareError(
            f"{old.name} was measured on other data, {old.dataset!r}: {', '.join(hard)} differ from those of {new.dataset!r}, "
            f"where {new.name} was measured; evaluate both on the same data"
        )
    return ["documents were added, removed or changed, but none that is judged: the comparison stands"] if differ else []


def _delta(name: str, before: Floats, after: Floats) -> Delta:
    if len(before) < stats.FEWEST_IN_SLICE:
        return Delta(name, len(before), None, None, None, None)
    (comparison,) = stats.compare(after[:, None], before)
    return Delta(name, len(before), float(before.mean()), float(after.mean()), comparison, comparison.p)


def _slices(board: Leaderboard, old: Result, new: Result, before: Floats, after: Floats) -> tuple[Delta, ...]:
    """Every slice in the leaderboard's order; ``before`` and ``after`` are ``(queries,)`` in the order of ``new``."""
    place = {query: row for row, query in enumerate(new.query_ids)}
    deltas = []
    for by, values in board.slices.items():
        if of_others(by, {old.spec, new.spec}) or (by == BM25 and (old.floor or new.floor)):
            continue  # what BM25 misses was chosen by its own score: anything looks better there
        for value, ids in values.items():
            rows = [place[query] for query in ids]
            deltas.append(_delta(f"{by}: {value}", before[rows], after[rows]))
    adjusted = iter(stats.holm(np.array([delta.p_adjusted for delta in deltas if delta.p_adjusted is not None])))
    return tuple(delta if delta.p_adjusted is None else replace(delta, p_adjusted=float(next(adjusted))) for delta in deltas)


def _moved(board: Leaderboard, old: Result, new: Result, change: Floats, texts: Mapping[str, str]) -> tuple[Moved, ...]:
    """The queries with the largest ``change`` ``(queries,)`` of the score, up or down, in the order of ``new``."""
    place, metric = {query: row for row, query in enumerate(old.query_ids)}, board.headline
    rows = sorted(np.flatnonzero(np.abs(change) > _ROUNDING), key=lambda row: (-abs(change[row]), new.query_ids[row]))
    return tuple(
        Moved(
            query=(query := new.query_ids[row]),
            text=board.queries.get(query, ""),
            before=float(old.scores[metric][place[query]]),
            after=float(new.scores[metric][row]),
            found_before=_hits(old, place[query], texts),
            found_after=_hits(new, int(row), texts),
        )
        for row in rows[:MOVED]
    )


def _hits(result: Result, row: int, texts: Mapping[str, str]) -> tuple[Hit, ...]:
    pairs = zip(result.documents[row][:HITS], result.grades[row][:HITS], strict=True)
    return tuple(Hit(str(document), None if grade == UNJUDGED else int(grade), texts.get(document, "")) for document, grade in pairs)


def _dims(board: Leaderboard, old: Result, new: Result, give_up: float) -> tuple[AtDim, ...]:
    others = [result for result in board.results if (result.spec, result.way) == (new.spec, new.way) and result.identity != new.identity]
    cells = sorted([new, *others], key=lambda result: -result.dim)
    scores = score_matrix([old, *cells], board.headline)  # (queries, 1 + cells)
    mean, found = float(scores[:, 0].mean()), []
    for cell, comparison in zip(cells, stats.compare(scores[:, 1:], scores[:, 0]), strict=True):
        size = None if cell.cost.bytes is None else cell.cost.bytes / board.dataset["documents"]
        keeps, within = (_keeps(comparison, share * mean) for share in (MARGIN, give_up))
        found.append(AtDim(cell.name, cell.dim, cell.mean(board.headline), comparison, size, keeps, within))
    return tuple(found)


def _keeps(comparison: stats.Comparison, margin: float) -> Keeps:
    """Non-inferiority by the interval; nothing is shown by fewer queries than a slice needs."""
    if comparison.queries < stats.FEWEST_IN_SLICE:
        return "can't tell"
    if comparison.low >= -margin - _ROUNDING:
        return "yes"
    return "no" if comparison.high < -margin - _ROUNDING else "can't tell"


def _reembedding(old: Bill, new: Bill) -> Reembedding:
    return Reembedding(
        documents=new.documents,
        hours=new.embed_hours,
        usd=new.embed_usd,
        bytes_before=None if old.bytes is None else round(old.bytes),
        bytes_after=None if new.bytes is None else round(new.bytes),
    )
