"""From vectors or scores to a Ranking: the one place where documents are put in order.

The order is trec_eval's: score as float32, highest first; equal scores by document id, descending. It is settled
before the cut at k, so a ranking never depends on the order of insertion, the thread count, the block size or the
device. For that the index only proposes candidates; their scores are computed again, pair by pair in float64, so
that identical vectors get identical scores wherever they stand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import vectors
from harness.errors import ModelError, OptionError

Rows = NDArray[np.int64]
NOTHING = -1
"""The document row where a ranking has no more documents."""
_BLOCK = 1 << 16  # rows added to an index at once
_RESCORE_BYTES = 32 << 20  # float64 workspace of one rescoring block
_SUM = 4096  # terms of one sum of products
_SCANNED, _SCANNED_DIM, _SCANS = 1 << 17, 256, 9  # the index and the searches that show how fast vectors are scanned
_GPU_MAX_K = 2048  # FAISS: largest k of a search on a GPU


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
        return cls.stack([_top(np.asarray(block, dtype=np.float32), np.arange(len(tie_order)), tie_order, k) for block in blocks])

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


def _top(scores: NDArray[np.float32], documents: Rows, tie_order: Rows, k: int) -> Ranking:
    """The best k of ``scores`` ``(queries, n)`` for ``documents`` ``(n,)`` or ``(queries, n)``."""
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
    pad = ((0, 0), (0, k - width))
    return Ranking(
        np.pad(rows, pad, constant_values=NOTHING).astype(np.int64),
        np.pad(best, pad, constant_values=-np.inf).astype(np.float32),
    )


def import_faiss() -> Any:
    """Import faiss; raises OptionError with the fix where none, or both, of its two distributions are installed."""
    both = [name for name in ("faiss-cpu", "faiss-gpu") if _installed(name)]
    if len(both) == 2:
        fix = "pip uninstall faiss-cpu faiss-gpu, then install bakeoff[cpu] or bakeoff[gpu]"
        raise OptionError(f"faiss-cpu and faiss-gpu are both installed and break each other: {fix}")
    try:
        import faiss
    except ImportError as error:
        raise OptionError(f"no usable faiss ({error}): install bakeoff[cpu], or bakeoff[gpu] on Linux with CUDA 12") from error
    return faiss


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def default_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Index:
    """An exact inner-product index (FAISS Flat) over unit vectors, on all GPUs where faiss has some, else on the CPU."""

    def __init__(self, dim: int, threads: int | None = None) -> None:
        faiss = import_faiss()
        self.threads = threads or default_threads()
        faiss.omp_set_num_threads(self.threads)
        self._faiss = faiss
        self._flat = faiss.IndexFlatIP(dim)
        self._gpus = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
        self._fast = self._flat

    @classmethod
    def build(cls, native: vectors.Matrix, dim: int, threads: int | None = None) -> Index:
        """Index the first ``dim`` dimensions of ``(n, native)`` stored vectors, block by block."""
        index = cls(dim, threads)
        for start in range(0, len(native), _BLOCK):
            index._flat.add(vectors.truncate(native[start : start + _BLOCK], dim, first_row=start))
        if index._gpus:
            options = index._faiss.GpuMultipleClonerOptions()
            options.shard = True
            index._fast = index._faiss.index_cpu_to_all_gpus(index._flat, co=options)
        return index

    @property
    def size(self) -> int:
        """How many vectors it holds."""
        return int(self._flat.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors it searches."""
        return self.size * int(self._flat.d) * 4

    @property
    def device(self) -> str:
        """Where it searches: ``cpu`` or ``gpu x count``."""
        return f"gpu x {self._gpus}" if self._gpus else "cpu"

    @property
    def _matrix(self) -> vectors.Matrix:
        """The vectors inside FAISS, ``(n, dim)``, without a copy."""
        flat = self._faiss.rev_swig_ptr(self._flat.get_xb(), self.size * self._flat.d)
        return np.asarray(flat, dtype=np.float32).reshape(self.size, self._flat.d)

    def search(self, queries: vectors.Matrix, k: int, tie_order: Rows, owner: Rows | None = None) -> Ranking:
        """Rank documents for unit query vectors ``(queries, dim)``.

        ``owner`` ``(n,)`` is the document row of each vector (its own by default); a document counts with its best
        vector. ``tie_order`` is over documents. More than k candidates are fetched until no unseen vector can tie
        with the k-th document: float32 sums of ``dim`` products of unit vectors are off by at most dim * 2**-24.
        """
        one_each = owner is None
        owner = np.arange(self.size) if owner is None else owner
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        slack = queries.shape[1] * 2.0**-24
        fetch = min(self.size, k + max(16, k // 4))
        block = max(1, (1 << 22) // max(fetch, 1))
        pending = [np.arange(start, min(start + block, len(queries))) for start in range(0, len(queries), block)]
        while pending:
            unsettled = []
            for some in pending:
                near, candidates = (self._fast if fetch <= _GPU_MAX_K else self._flat).search(queries[some], fetch)
                exact = self._rescore(queries[some], candidates)
                documents = owner[candidates]
                if not one_each:
                    exact = _best_of_each(exact, documents)
                ranking = _top(exact, documents, tie_order, k)
                settled = (ranking.scores[:, -1] > near[:, -1] + slack) | (fetch == self.size)
                rows[some[settled]], scores[some[settled]] = ranking.rows[settled], ranking.scores[settled]
                if not settled.all():
                    unsettled.append(some[~settled])
            fetch = min(self.size, fetch * 4)
            width = max(1, (1 << 22) // max(fetch, 1))
            pending = [some[at : at + width] for some in unsettled for at in range(0, len(some), width)]
        return Ranking(rows, scores)

    def _rescore(self, queries: vectors.Matrix, candidates: Rows) -> NDArray[np.float32]:
        """Exact inner products ``(queries, c)``, each pair summed in the same order in float64, rounded to float32."""
        matrix, (count, width) = self._matrix, candidates.shape
        exact = np.empty((count, width), dtype=np.float32)
        columns = max(1, min(width, _RESCORE_BYTES // (8 * queries.shape[1])))
        lines = max(1, _RESCORE_BYTES // (8 * queries.shape[1] * columns))
        for top in range(0, count, lines):
            wanted = queries[top : top + lines].astype(np.float64)
            for left in range(0, width, columns):
                part = matrix[candidates[top : top + lines, left : left + columns]].astype(np.float64)
                exact[top : top + lines, left : left + columns] = _products(part, wanted)
        return exact


@lru_cache
def seconds_per_gb(threads: int) -> float:
    """Seconds that an exact search for one query takes for each 1e9 bytes of vectors, once there are many, on this machine.

    The median of searches of an index of 128 MB, less those of a small one: what a search costs however little there is.
    """
    rng, taken = np.random.default_rng(0), []
    for rows in (_SCANNED, 1024):
        index = Index.build(rng.random((rows, _SCANNED_DIM), dtype=np.float32), _SCANNED_DIM, threads)
        tie_order = np.arange(rows)
        asked = vectors.truncate(rng.random((_SCANS, _SCANNED_DIM), dtype=np.float32), _SCANNED_DIM)
        seconds = []
        for row in range(_SCANS):
            began = time.perf_counter()
            index.search(asked[row : row + 1], 100, tie_order)
            seconds.append(time.perf_counter() - began)
        taken.append((float(np.median(seconds)), index.nbytes))
    (large, many), (small, few) = taken
    return max(0.0, large - small) / (many - few) * 1e9


def _products(documents: NDArray[np.float64], queries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of ``(q, c, d)`` and ``(q, d)``, ``(q, c)``: einsum keeps one order of summing up to 8,192 terms."""
    pieces = range(0, queries.shape[1], _SUM)
    return sum((np.einsum("qcd,qd->qc", documents[..., at : at + _SUM], queries[:, at : at + _SUM]) for at in pieces), np.zeros(()))


def _best_of_each(scores: NDArray[np.float32], documents: Rows) -> NDArray[np.float32]:
    """Keep each document's best score in every line ``(queries, c)`` and set its others to -inf."""
    order = np.lexsort((-scores, documents), axis=1)
    sorted_documents = np.take_along_axis(documents, order, axis=1)
    again = np.zeros(scores.shape, dtype=bool)
    again[:, 1:] = sorted_documents[:, 1:] == sorted_documents[:, :-1]
    kept = scores.copy()
    np.put_along_axis(kept, order, np.where(again, -np.inf, np.take_along_axis(scores, order, axis=1)), axis=1)
    return kept
