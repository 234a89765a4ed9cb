"""Measures the cells of one model: rankings, and the seconds and bytes that each way to search takes, from one set of vectors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness import approximate, vectors
from harness.approximate import Approximate
from harness.codes import bytes_each
from harness.environment import free_memory
from harness.errors import ModelError
from harness.experiment import Variant
from harness.filling import ALONE, ALONE_SECONDS, FEWEST_ALONE
from harness.flat import Rows
from harness.index import Index, Ranking, seconds_per_gb
from harness.result import Cost
from harness.vectors import Matrix

_CELL_SECONDS = 0.15  # when to stop searching for one query at a time, for a cell of the grid that is not the plain search
_SEARCHES, _SLOW_SEARCH = 3, 0.5  # repeats; seconds from which a search is not repeated
_NEIGHBOURS = 10
Seconds = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one cell. ``cost`` is that of searching; ``neighbours`` is None for the plain search."""

    ranking: Ranking
    device: str
    neighbours: float | None
    cost: Cost


class _Stage(NamedTuple):
    """A ranking of all queries, the seconds of all in one batch, and of some one at a time."""

    ranking: Ranking
    batch: float
    alone: Seconds


class Shelf:
    """The indexes of one model's vectors, each built when a cell first needs it and kept while cells that share it follow."""

    def __init__(
        self, documents: Matrix, queries: Matrix, tie_order: Rows, *, depth: int, cutoff: int, threads: int, alone: Rows | None = None
    ) -> None:
        """``documents`` ``(n, native)`` and ``queries`` are as they are stored; rankings are ``depth`` long, and shortlists multiples of
        ``cutoff``. ``alone`` are the rows of queries to search for one at a time, of all by default.
        """
        self._documents, self._queries, self._tie_order = documents, queries, tie_order
        self._depth, self._cutoff, self._threads = depth, cutoff, threads
        rows = np.arange(len(queries)) if alone is None or not len(alone) else alone
        self._alone = rows[:: max(1, len(rows) // ALONE)][:ALONE]
        self._native = documents.shape[1]
        self._held: dict[str, tuple[Any, Any]] = {}
        self._nearest: dict[int, Rows] = {}

    def memory(self, variant: Variant) -> int:
        """About how many bytes of memory a cell's index will take; raises ModelError where so many are not free.

        Float32 vectors that are searched exactly take none: when they are many they lie in a file.
        """
        if (variant.precision, variant.index) == ("float32", "Flat"):
            return 0
        needed, free = self._formula(variant) or 0, free_memory()
        if free is not None and needed > free:
            raise ModelError(f"needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")
        return needed

    def measure(self, variant: Variant) -> Measured:
        """Measure one cell; raises ModelError where its index cannot be built."""
        shortlist = variant.rescore * self._cutoff
        index, build = self._index(variant)
        stage = self._first(variant, index, max(self._depth, shortlist))
        ranking, rescored = stage.ranking, self._rescored(stage, shortlist) if shortlist else None
        if rescored is not None:
            stage = _Stage(rescored.ranking, stage.batch + rescored.batch, stage.alone + rescored.alone)
            ranking = Ranking(stage.ranking.rows[:, : self._depth], stage.ranking.scores[:, : self._depth])
        plain = (variant.precision, variant.index, shortlist) == ("float32", "Flat", 0)
        if plain:
            self._nearest[variant.dim] = ranking.rows[:, :_NEIGHBOURS]
        cost = Cost(
            build_seconds=build,
            search_seconds=stage.batch,
            alone_search_p50=percentile(stage.alone, 50),
            alone_search_p95=percentile(stage.alone, 95),
            alone_search_p99=percentile(stage.alone, 99),
            scan_seconds_per_gb=seconds_per_gb(self._threads, variant.precision) if variant.index == "Flat" else None,
            bytes=index.nbytes,
            formula_bytes=self._formula(variant),
            rescore_bytes=len(self._documents) * self._native * 4 if shortlist else None,
        )
        near = None if plain else self._neighbours(self._native if shortlist else variant.dim, ranking)
        return Measured(ranking, index.device, near, cost)

    def _formula(self, variant: Variant) -> int | None:
        count = len(self._documents)
        if variant.index == "Flat":
            return count * bytes_each(variant.precision, variant.dim)
        each = approximate.formula(variant.index.partition("?")[0], variant.dim, count)
        return None if each is None else round(count * each)

    def _index(self, variant: Variant) -> tuple[Index | Approximate, float]:
        """The index of a cell, and the seconds that it took to build."""
        factory = variant.index.partition("?")[0]
        key = (variant.dim, variant.precision, factory)

        def build() -> tuple[Index | Approximate, float]:
            began = time.perf_counter()
            made: Index | Approximate = (
                Index.build(self._documents, variant.dim, self._threads, variant.precision)
                if factory == "Flat"
                else Approximate(self._documents, variant.dim, factory, self._threads)
            )
            return made, time.perf_counter() - began

        return self._kept("index", key, build)

    def _first(self, variant: Variant, index: Index | Approximate, depth: int) -> _Stage:
        """The first, or only, stage of a cell."""
        parameters = variant.index.partition("?")[2]
        key = (variant.dim, variant.precision, variant.index, depth)

        def search(asked: Matrix) -> Ranking:
            if isinstance(index, Index):
                return index.search(asked, depth, self._tie_order)
            return index.search(asked, depth, self._tie_order, parameters)

        def run() -> _Stage:
            asked = vectors.truncate(self._queries, variant.dim)
            if isinstance(index, Index):
                index.prepare(len(asked))
            ranking, batch = _timed(lambda: search(asked))
            plain = (variant.precision, variant.index) == ("float32", "Flat")
            return _Stage(ranking, batch, self._each(lambda row: search(asked[row : row + 1]), ALONE_SECONDS if plain else _CELL_SECONDS))

        return self._kept("stage", key, run)

    def _rescored(self, stage: _Stage, shortlist: int) -> _Stage:
        """The second stage alone: the native vectors order the shortlist of the first."""
        exact = self._kept("native", self._native, lambda: Index.build(self._documents, self._native, self._threads))
        asked, found = vectors.truncate(self._queries, self._native), stage.ranking
        ranking, batch = _timed(lambda: exact.rescore(asked, found, shortlist, self._tie_order))

        def one(row: int) -> Ranking:
            line = Ranking(found.rows[row : row + 1, :shortlist], found.scores[row : row + 1, :shortlist])
            return exact.rescore(asked[row : row + 1], line, shortlist, self._tie_order)

        return _Stage(ranking, batch, self._each(one, np.inf, most=len(stage.alone)))

    def _neighbours(self, dim: int, ranking: Ranking) -> float:
        """The share of the first ten of exact float32 search that a ranking has among its first ten."""
        if dim not in self._nearest:
            exact = Index.build(self._documents, dim, self._threads)
            self._nearest[dim] = exact.search(vectors.truncate(self._queries, dim), _NEIGHBOURS, self._tie_order).rows
        wanted, found = self._nearest[dim], ranking.rows[:, :_NEIGHBOURS]
        among = (wanted[:, :, None] == found[:, None, :]).any(axis=2) & (wanted >= 0)
        return float(among.sum() / (wanted >= 0).sum())

    def _each(self, answer: Callable[[int], Ranking], seconds: float, most: int = ALONE) -> Seconds:
        """The seconds of one query by itself, for a sample of the queries; the first only warms up."""
        taken: list[float] = []
        for row in (self._alone[0], *self._alone[:most]):
            began = time.perf_counter()
            answer(int(row))
            taken.append(time.perf_counter() - began)
            if sum(taken) > seconds and len(taken) > FEWEST_ALONE:
                break
        return np.array(taken[1:])

    def _kept(self, kind: str, key: object, make: Callable[[], T]) -> T:
        """The last one of a kind, if it has the same key, else a new one in its place."""
        if self._held.get(kind, (None,))[0] != key:
            self._held.pop(kind, None)  # before the next is made: both at once may not fit
            self._held[kind] = (key, make())
        kept: T = self._held[kind][1]
        return kept


def percentile(seconds: Seconds, share: float) -> float | None:
    """The percentile of some times; None without any."""
    return float(np.percentile(seconds, share)) if len(seconds) else None


def _timed(search: Callable[[], Ranking]) -> tuple[Ranking, float]:
    """The ranking, and the least seconds of three searches: the first one starts threads. Slow ones are run once."""
    best = float("inf")
    for _ in range(_SEARCHES):
        began = time.perf_counter()
        ranking = search()
        best = min(best, time.perf_counter() - began)
        if best > _SLOW_SEARCH:
            break
    return ranking, best
