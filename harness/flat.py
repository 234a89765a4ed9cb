"""The nearest of float32 vectors by inner product: two ways that propose the same rows, and which one this machine is faster at.

FAISS brings kernels of its own, NumPy a library of matrix products; which is faster differs threefold from one processor to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.vectors import Matrix

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
Near = tuple[Scores, Rows]
Way = Callable[[Matrix, Matrix, int], Near]
_FEW = 20  # queries below which FAISS scans for each with one thread
_LINES, _WIDTH = 1024, 8192  # queries and documents of one product
_SMALL = 4 << 30  # products of two numbers below which it is not worth finding out what is faster
_TRIAL, _TRIAL_DIM = (256, 16_384), 256  # queries and documents to find out with


def way(faiss: Any, queries: int, values: int) -> Way:
    """How to search for so many queries among documents of so many values in all.

    A way gives the best ``fetch`` of ``(n, dim)`` for each of ``(queries, dim)``, best first: scores and rows, both ``(queries, fetch)``.
    """
    if queries < _FEW or queries * values < _SMALL:
        return by_products
    return faster(faiss, faiss.omp_get_max_threads())


def by_faiss(faiss: Any) -> Way:
    """FAISS's own search without an index."""

    def search(queries: Matrix, matrix: Matrix, fetch: int) -> Near:
        found: Near = faiss.knn(queries, matrix, fetch, metric=faiss.METRIC_INNER_PRODUCT)
        return found

    return search


def by_products(queries: Matrix, matrix: Matrix, fetch: int) -> Near:
    """Products of blocks; of each block only what beats the ``fetch`` best of those before it is looked at."""
    scores, rows = np.empty((len(queries), fetch), dtype=np.float32), np.empty((len(queries), fetch), dtype=np.int64)
    width = max(_WIDTH, fetch, _LINES * _WIDTH // max(len(queries), 1))
    for start in range(0, len(matrix), width):
        block = matrix[start : start + width].T
        for top in range(0, len(queries), _LINES):
            some = slice(top, top + _LINES)
            found = queries[some] @ block  # (queries, width)
            if start:
                scores[some], rows[some] = _merged(scores[some], rows[some], found, start)
            else:
                scores[some], rows[some] = _best(found, np.broadcast_to(np.arange(found.shape[1]), found.shape), fetch)
    order = np.argsort(-scores, axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _merged(scores: Scores, rows: Rows, found: Scores, first: int) -> Near:
    """The best of what there was and of a block's scores, whose first column is document ``first``."""
    query, column = np.divmod(np.flatnonzero(found > scores.min(axis=1, keepdims=True)), found.shape[1])
    counts = np.bincount(query, minlength=len(found))
    if not len(query):
        return scores, rows
    more = np.full((len(found), counts.max()), -np.inf, dtype=np.float32)  # those of each query side by side
    documents = np.zeros(more.shape, dtype=np.int64)
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    more[query, place], documents[query, place] = found[query, column], column + first
    return _best(np.concatenate([scores, more], axis=1), np.concatenate([rows, documents], axis=1), scores.shape[1])


def _best(scores: Scores, rows: Rows, fetch: int) -> Near:
    """The ``fetch`` best columns of each line, in any order."""
    if fetch == scores.shape[1]:
        return scores, rows
    kept = np.argpartition(scores, scores.shape[1] - fetch, axis=1)[:, scores.shape[1] - fetch :]
    return np.take_along_axis(scores, kept, axis=1), np.take_along_axis(rows, kept, axis=1)


@lru_cache
def faster(faiss: Any, threads: int) -> Way:
    """The faster way on this machine with so many threads, each tried twice on made-up vectors: a fraction of a second, once."""
    del threads  # those that are set; one answer for each number
    rng = np.random.default_rng(0)
    queries, matrix = (rng.standard_normal((count, _TRIAL_DIM), dtype=np.float32) for count in _TRIAL)

    def seconds(tried: Way) -> float:
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            tried(queries, matrix, 100)
            taken.append(time.perf_counter() - began)
        return min(taken)

    return min((by_products, by_faiss(faiss)), key=seconds)
