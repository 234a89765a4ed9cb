"""Vectors held in every precision: what is proposed quickly against a product over all rows, and what each code stands for."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl

from harness import codes, vectors
from harness.codes import PRECISIONS
from harness.index import NOTHING, Index, Ranking
from harness.vectors import Ranges

ROWS, QUERIES = 3000, 40


def clustered(count: int, dim: int, seed: int) -> np.ndarray:
    """Vectors about 30 centres, a tenth of them copies: as with texts, many are near, and some equal."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, dim)) + np.linspace(0, 1, dim)  # no dimension is centred
    matrix = centres[rng.integers(30, size=count)] + rng.normal(scale=0.4, size=(count, dim))
    matrix[rng.permutation(count)[: count // 10]] = matrix[0]
    return matrix.astype(np.float32)


def stand_for(precision: str, documents: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents and queries as a precision has them, in float64: the oracle, by the functions of harness.vectors alone."""
    dim = documents.shape[1]
    if precision.startswith("binary"):
        asked = queries if precision.endswith("asymmetric") else vectors.from_signs(vectors.signs(queries), dim)
        return vectors.from_signs(vectors.signs(documents), dim).astype(float), asked.astype(float)
    if precision.startswith("int8"):
        ranges = Ranges.learn(documents)
        asked = queries if precision.endswith("asymmetric") else ranges.decode(ranges.encode(queries))
        return ranges.decode(ranges.encode(documents)).astype(float), asked.astype(float)
    if precision == "float16":
        return vectors.halves(documents).astype(float), vectors.halves(queries).astype(float)
    return documents.astype(float), queries.astype(float)


@pytest.mark.parametrize("dim", [40, 64, 256])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_scores_what_its_codes_stand_for_and_misses_no_row(precision: str, dim: int) -> None:
    native = clustered(ROWS, dim, 0)
    asked = vectors.truncate(clustered(QUERIES, dim, 1), dim)
    held = PRECISIONS[precision][0](native, dim)
    documents, queries = stand_for(precision, vectors.truncate(native, dim), asked)
    truth = queries @ documents.T  # (queries, rows)
    everything = np.broadcast_to(np.arange(ROWS), truth.shape)
    np.testing.assert_allclose(held.exact(asked, everything), truth, atol=3e-6)
    scores, rows = held.near(asked, 60)
    slack = held.slack(asked)[:, None]
    assert (np.abs(scores - held.exact(asked, rows)) <= slack).all()
    assert (scores >= np.sort(truth, axis=1)[:, -60:][:, ::-1] - slack - 3e-6).all()
    assert held.nbytes == ROWS * codes.bytes_each(precision, dim)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_ranking_is_that_of_exact_scores_with_the_tie_rule_whatever_the_blocks(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    native = clustered(ROWS, 48, 2)
    asked, tie_order = vectors.truncate(clustered(QUERIES, 48, 3), 48), np.random.default_rng(0).permutation(ROWS)
    index = Index.build(native, 48, precision=precision)
    scores = index.codes.exact(asked, np.broadcast_to(np.arange(ROWS), (QUERIES, ROWS)))
    expected = np.stack([np.lexsort((tie_order, -line))[:100] for line in scores])
    found = index.search(asked, 100, tie_order)
    assert (found.rows == expected).all()
    monkeypatch.setattr(codes, "_BLOCK_BYTES", 8 * 48 * 14)
    monkeypatch.setattr(codes, "_PAIR_BYTES", 8 * 48 * 7)
    again = Index.build(native, 48, precision=precision).search(asked[:3], 100, tie_order)
    assert again.rows.tobytes() == found.rows[:3].tobytes()
    assert again.scores.tobytes() == found.scores[:3].tobytes()


def test_few_queries_are_searched_for_by_another_way_with_the_same_result() -> None:
    index = Index.build(clustered(ROWS, 32, 4), 32)
    asked, tie_order = vectors.truncate(clustered(QUERIES, 32, 5), 32), np.arange(ROWS)
    together, alone = (
        index.search(asked, 10, tie_order),
        Ranking.stack(index.search(asked[at : at + 1], 10, tie_order) for at in range(QUERIES)),
    )
    assert together.rows.tobytes() == alone.rows.tobytes()
    assert together.scores.tobytes() == alone.scores.tobytes()


def test_ranges_are_the_corpus_s_and_hold_for_queries_too() -> None:
    ranges = Ranges.learn(np.array([[0, -1], [1, 1], [0.5, 0]], dtype=np.float32))
    assert ranges.encode(np.array([[0, -1], [1, 1], [0.75, 0.75], [2, -3]], dtype=np.float32)).tolist() == [
        *([-128, -128], [127, 127]),
        *([63, 95], [127, -128]),  # 191.25 and 223.1 of 255 steps; what is out of range is clipped
    ]
    np.testing.assert_allclose(ranges.decode(np.array([[-128, 127]], dtype=np.int8)), [[0, 1]], atol=1e-7)
    assert vectors.as_uint8(np.array([-128, -1, 0, 127], dtype=np.int8)).tolist() == [0, 127, 128, 255]
    flat = Ranges.learn(np.full((3, 1), 0.25, dtype=np.float32))  # a dimension that never varies divides by nothing
    assert flat.decode(flat.encode(np.full((1, 1), 0.25, dtype=np.float32))).tolist() == [[0.25]]


def test_signs_are_packed_eight_to_a_byte_and_zero_is_not_above_zero() -> None:
    matrix = np.array([[1, -1, 0, 2, -2, 3, 0.5, -0.5, 4, -4]], dtype=np.float32)
    bits = vectors.signs(matrix)
    assert bits.tolist() == [[0b10010110, 0b10000000]]
    np.testing.assert_allclose(vectors.from_signs(bits, 10) * np.sqrt(10), [[1, -1, -1, 1, -1, 1, 1, -1, 1, -1]], rtol=1e-6)
    assert np.linalg.norm(vectors.from_signs(bits, 10)) == pytest.approx(1)


def test_large_float32_vectors_lie_in_a_file_that_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(codes, "_IN_MEMORY", 1000)
    native = np.memmap(tmp_path / "stored", dtype=np.float32, mode="w+", shape=(500, 16))
    native[:] = clustered(500, 16, 6)
    held = codes.Float32(native, 16)
    assert isinstance(held.matrix, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["stored"]
    np.testing.assert_array_equal(held.matrix, vectors.truncate(np.array(native), 16))


def test_a_shortlist_is_put_in_order_by_the_full_vectors_and_the_rest_keeps_its_place() -> None:
    native = clustered(400, 32, 7)
    asked, tie_order = vectors.truncate(clustered(5, 32, 8), 32), np.arange(400)
    first, full = Index.build(native, 8, precision="binary"), Index.build(native, 32)
    found = first.search(vectors.truncate(asked, 8), 50, tie_order)
    best = full.rescore(asked, found, 20, tie_order)
    truth = asked.astype(float) @ vectors.truncate(native, 32).astype(float).T
    for line in range(5):
        shortlist = sorted(found.rows[line, :20], key=lambda row: (-np.float32(truth[line, row]), tie_order[row]))
        assert best.rows[line, :20].tolist() == shortlist
    assert (best.rows[:, 20:] == found.rows[:, 20:]).all()
    assert (np.diff(best.scores, axis=1) <= 0).all()
    assert best.scores[0, 20] == -2  # a place, not a score
    whole = full.rescore(asked, first.search(vectors.truncate(asked, 8), 400, tie_order), 400, tie_order)
    assert (whole.rows == full.search(asked, 400, tie_order).rows).all()  # a shortlist of everything is exact search


def test_where_nothing_was_found_nothing_is_rescored() -> None:
    full = Index.build(np.eye(3, dtype=np.float32), 3)
    found = Ranking(np.array([[1, NOTHING, NOTHING]]), np.array([[0.5, -np.inf, -np.inf]], dtype=np.float32))
    best = full.rescore(np.eye(3, dtype=np.float32)[:1], found, 2, np.arange(3))
    assert best.rows.tolist() == [[1, NOTHING, NOTHING]]
    assert best.scores.tolist() == [[0, -np.inf, -np.inf]]


def test_the_number_of_threads_holds_for_faiss_and_for_numpys_products() -> None:
    faiss = codes.import_faiss()
    try:
        for threads in (1, 2):
            codes.use_threads(faiss, threads)
            blas = [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
            assert (faiss.omp_get_max_threads(), set(blas)) == (threads, {threads})
    finally:
        codes.use_threads(faiss, codes.default_threads())
