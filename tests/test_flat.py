from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import flat
from harness.codes import import_faiss
from harness.flat import Near, by_faiss, by_products


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of documents and of queries, even in a small corpus."""
    monkeypatch.setattr(flat, "_LINES", 7)
    monkeypatch.setattr(flat, "_WIDTH", 40)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("queries", [1, 7, 30])
@pytest.mark.parametrize("fetch", [1, 13, 90, 500])
@pytest.mark.parametrize("order", ["any", "best last", "best first"])
def test_products_of_blocks_find_the_best_of_all(queries: int, fetch: int, order: str) -> None:
    asked, matrix = unit(queries, 16, 1), unit(500, 16, 2)
    if order != "any":
        by_first = np.argsort(matrix @ asked[0])
        matrix = np.ascontiguousarray(matrix[by_first if order == "best last" else by_first[::-1]])
    scores, rows = by_products(asked, matrix, fetch)
    every = asked @ matrix.T
    np.testing.assert_allclose(scores, -np.sort(-every, axis=1)[:, :fetch], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), scores, rtol=0, atol=1e-6)
    assert all(len(set(line)) == fetch for line in rows.tolist())


@pytest.mark.usefixtures("tiny")
def test_both_ways_propose_the_same() -> None:
    asked, matrix = unit(30, 16, 1), unit(500, 16, 2)
    ours, theirs = by_products(asked, matrix, 20), by_faiss(import_faiss())(asked, matrix, 20)
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-6)


def test_a_large_search_goes_the_way_that_was_faster_when_both_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    faiss, went = import_faiss(), list[str]()

    def way(name: str, seconds: float) -> Any:
        def search(queries: np.ndarray, matrix: np.ndarray, fetch: int) -> Near:
            went.append(name)
            clock[0] += seconds
            return by_products(queries, matrix, fetch)

        return search

    clock = [0.0]
    monkeypatch.setattr(flat.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(flat, "_SMALL", 30 * 500 * 16)
    asked, matrix = unit(30, 16, 1), unit(500, 16, 2)
    for faster, slower in (("products", "faiss"), ("faiss", "products")):
        took = {faster: 1.0, slower: 2.0}
        monkeypatch.setattr(flat, "by_products", way("products", took["products"]))
        monkeypatch.setattr(flat, "by_faiss", lambda _, took=took: way("faiss", took["faiss"]))
        flat.faster.cache_clear()
        flat.way(faiss, 30, matrix.size)(asked, matrix, 5)
        assert went == ["products", "products", "faiss", "faiss", faster]
        went.clear()
        flat.way(faiss, 30, matrix.size)(asked, matrix, 5)
        assert went == [faster]  # tried but once
        went.clear()
        flat.way(faiss, 29, matrix.size)(asked, matrix, 5)  # too small to ask
        assert went == ["products"]
        went.clear()
    flat.faster.cache_clear()
