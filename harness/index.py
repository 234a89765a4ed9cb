"""From vectors or scores to a Ranking: the one place where documents are put in order.

The order is trec_eval's: score as float32, highest first; equal scores by document id, descending. It is settled
before the cut at k, so a ranking never depends on the order of insertion, the thread count, the block size or the
device. For that the index only proposes candidates; their scores are computed again, pair by pair in float64, so
that identical vectors get identical scores wherever they stand.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import gpu, vectors
from harness.codes import PRECISIONS, Codes, Float32, default_threads, import_faiss, use_threads
from harness.errors import ModelError
from harness.flat import Near, Rows

NOTHING = -1
"""The document row where a ranking has no more documents."""
_SCANNED, _SCANNED_DIM, _SCANNED_FOR, _SCANS = 1 << 16, 256, 125, 9  # the index and the searches that show how fast vectors are scanned


@dataclass(frozen=True, slots=True)
class Ranking:
    """Per query the first k documents: ``rows`` ``(queries, k)`` of documents, best first, and their float32 ``scores``.

    Where fewer than k documents were found the rest is row -1 with score -inf.
    """

    rows: Rows
    scores: NDArray[np.float32]

    @classmethod
    def from_scores(cls, blocks: Iterable[NDArray[Any]], tie_order: Rows, k: int) -> Ranking:
        """Rank documents by complete score blocks ``(some queries, documents)``; -inf means not found.

        ``tie_order`` ``(documents,)`` gives each document's place among equal scores, lowest first. Raises
        ModelError for NaN.
        """
        return cls.stack([rank(np.asarray(block, dtype=np.float32), np.arange(len(tie_order)), tie_order, k) for block in blocks])

    @classmethod
    def stack(cls, parts: Iterable[Ranking]) -> Ranking:
        """Join rankings of consecutive queries."""
        parts = list(parts)
        return cls(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))


def _sort_keys(scores: NDArray[np.float32], places: Rows) -> NDArray[np.uint64]:
    """One unsigned number per (score, place), ascending exactly in ranking order: a single sort settles ties too."""
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal 0.0
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    return (~ascending).astype(np.uint64) << np.uint64(32) | places.astype(np.uint64)


def rank(scores: NDArray[np.float32], documents: Rows, tie_order: Rows, k: int) -> Ranking:
    """The best k of ``scores`` ``(queries, n)`` for ``documents`` ``(n,)`` or ``(queries, n)``; -inf means not found.

    Raises ModelError for NaN.
    """
    if np.isnan(scores).any():
        raise ModelError("a document's score is NaN")
    keys = _sort_keys(scores, tie_order[documents])
    width = min(k, scores.shape[1])
    if width < scores.shape[1]:
        kept = np.argpartition(keys, width - 1, axis=1)[:, :width]
    else:
        kept = np.broadcast_to(np.arange(width), scores.shape)
    kept = np.take_along_axis(kept, np.argsort(np.take_along_axis(keys, kept, axis=1), axis=1), axis=1)
    best = np.take_along_axis(scores, kept, axis=1)
    rows = np.take_along_axis(np.broadcast_to(documents, scores.shape), kept, axis=1)
    rows = np.where(np.isneginf(best), NOTHING, rows)
    if width < k:
        pad = ((0, 0), (0, k - width))
        rows, best = np.pad(rows, pad, constant_values=NOTHING), np.pad(best, pad, constant_values=-np.inf)
    return Ranking(rows.astype(np.int64, copy=False), best.astype(np.float32, copy=False))


class Index:
    """An exact inner-product index over unit vectors held in some precision; on GPUs where there are some and it is float32."""

    def __init__(self, codes: Codes, precision: str, threads: int | None = None) -> None:
        faiss = import_faiss()
        self.threads = threads or default_threads()
        use_threads(faiss, self.threads)
        self.codes, self.precision = codes, precision
        self._fast = gpu.find(faiss, codes.matrix) if isinstance(codes, Float32) else None

    @classmethod
    def build(cls, native: vectors.Matrix, dim: int, threads: int | None = None, precision: str = "float32") -> Index:
        """Index the first ``dim`` dimensions of ``(n, native)`` stored vectors, block by block."""
        return cls(PRECISIONS[precision][0](native, dim), precision, threads)

    @property
    def size(self) -> int:
        """How many vectors it holds."""
        return self.codes.size

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors it searches."""
        return self.codes.nbytes

    @property
    def device(self) -> str:
        """Where it searches: ``cpu``, ``gpu x count``, or what torch calls it."""
        return self._fast.device if self._fast else "cpu"

    def prepare(self, queries: int) -> None:
        """Find out what a search for so many queries wants to know of this machine, so that it isn't timed as part of one."""
        if isinstance(self.codes, Float32) and not self._fast:
            self.codes.way(queries)

    def search(self, queries: vectors.Matrix, k: int, tie_order: Rows, owner: Rows | None = None) -> Ranking:
        """Rank documents for unit query vectors ``(queries, dim)``.

        ``owner`` ``(n,)`` is the document row of each vector (its own by default); a document counts with its best
        vector. ``tie_order`` is over documents. More than k candidates are fetched until no unseen vector can tie
        with the k-th document.
        """
        one_each = owner is None
        owner = np.arange(self.size) if owner is None else owner
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        slack = self.codes.slack(queries) + (self._fast.rounding if self._fast else 0.0)
        fetch = min(self.size, k + max(16, k // 4))
        pending = _parts(np.arange(len(queries)), fetch)
        while pending:
            unsettled = []
            for some in pending:
                near, candidates = self._near(queries[some], fetch)
                exact = self.codes.exact(queries[some], candidates)
                documents = owner[candidates]
                if not one_each:
                    exact = _best_of_each(exact, documents)
                ranking = rank(exact, documents, tie_order, k)
                settled = (ranking.scores[:, -1] > near[:, -1] + slack[some]) | (fetch == self.size)
                rows[some[settled]], scores[some[settled]] = ranking.rows[settled], ranking.scores[settled]
                if not settled.all():
                    unsettled.append(some[~settled])
            fetch = min(self.size, fetch * 4)
            pending = [part for some in unsettled for part in _parts(some, fetch)]
        return Ranking(rows, scores)

    def _near(self, queries: vectors.Matrix, fetch: int) -> Near:
        fast = self._fast if fetch <= gpu.MAX_K else None
        return (fast or self.codes).near(queries, fetch)

    def rescore(self, queries: vectors.Matrix, found: Ranking, shortlist: int, tie_order: Rows) -> Ranking:
        """Order the first ``shortlist`` documents of a ranking anew, by these vectors; what lies behind keeps its place.

        A score is a place from there on, counted downwards from -2: below any inner product of unit vectors. Each document has one vector.
        """
        rows, scores = found.rows[:, :shortlist], np.full(found.scores.shape, -np.inf, dtype=np.float32)
        exact = self.codes.exact(queries, np.maximum(rows, 0))
        best = rank(np.where(rows == NOTHING, -np.inf, exact).astype(np.float32), rows, tie_order, rows.shape[1])
        behind = found.rows[:, shortlist:]
        places = -2.0 - np.arange(behind.shape[1], dtype=np.float32)
        scores[:, :shortlist], scores[:, shortlist:] = best.scores, np.where(behind == NOTHING, -np.inf, places)
        return Ranking(np.concatenate([best.rows, behind], axis=1), scores)


def _parts(queries: Rows, fetch: int) -> list[Rows]:
    """Queries in parts that fit memory with so many candidates each."""
    width = max(1, (1 << 22) // max(fetch, 1))
    return [queries[start : start + width] for start in range(0, len(queries), width)]


@lru_cache
def seconds_per_gb(threads: int, precision: str = "float32") -> float:
    """Seconds that an exact search for one query takes for each 1e9 bytes of vectors, once there are many, on this machine.

    The median of scans of an index of 65,536 vectors, less those of a small one: what a search costs however little there is.
    """
    rng, taken = np.random.default_rng(0), []
    for rows in (_SCANNED, 1024):
        index = Index.build(rng.random((rows, _SCANNED_DIM), dtype=np.float32) - np.float32(0.5), _SCANNED_DIM, threads, precision)
        asked = vectors.truncate(rng.random((_SCANS, _SCANNED_DIM), dtype=np.float32) - np.float32(0.5), _SCANNED_DIM)
        seconds = []
        for row in range(_SCANS):
            began = time.perf_counter()
            index._near(asked[row : row + 1], _SCANNED_FOR)  # noqa: SLF001 - how often a search asks is a matter of ties
            seconds.append(time.perf_counter() - began)
        taken.append((float(np.median(seconds)), index.nbytes))
    (large, many), (small, few) = taken
    return max(0.0, large - small) / (many - few) * 1e9


def _best_of_each(scores: NDArray[np.float32], documents: Rows) -> NDArray[np.float32]:
    """Keep each document's best score in every line ``(queries, c)`` and set its others to -inf."""
    order = np.lexsort((-scores, documents), axis=1)
    sorted_documents = np.take_along_axis(documents, order, axis=1)
    again = np.zeros(scores.shape, dtype=bool)
    again[:, 1:] = sorted_documents[:, 1:] == sorted_documents[:, :-1]
    kept = scores.copy()
    np.put_along_axis(kept, order, np.where(again, -np.inf, np.take_along_axis(scores, order, axis=1)), axis=1)
    return kept
