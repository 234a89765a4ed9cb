"""The order of documents: brute force as the oracle, ties by id, and nothing else that may change an order."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from harness import codes, vectors
from harness import index as index_module
from harness.errors import ModelError, OptionError
from harness.index import NOTHING, Index, Ranking

DIM = 48


def unit(matrix):
    return vectors.truncate(np.asarray(matrix, dtype=np.float32), np.shape(matrix)[1])


def clustered(count, seed=0, clusters=25):
    """Unit vectors in clusters closer than float32 sums can tell apart, a third of them exact copies of others."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, DIM))
    matrix = centres[rng.integers(clusters, size=count)] + rng.normal(scale=1e-7, size=(count, DIM))
    copies = rng.permutation(count)[: count // 3]
    matrix[copies] = matrix[rng.integers(count, size=len(copies))]
    return unit(matrix)


def names(count, seed=0):
    return [f"d{n}" for n in np.random.default_rng(seed).permutation(count)]


def places(ids):
    """The tie rule: each document's place among all ids, descending as strings."""
    descending = {name: place for place, name in enumerate(sorted(ids, reverse=True))}
    return np.array([descending[name] for name in ids])


def exact_scores(queries, documents):
    indexed = unit(documents).astype(np.float64)  # as Index.build does; of a few dimensions a unit vector may move by a last bit
    return np.stack([(indexed * query.astype(np.float64)).sum(axis=1) for query in queries]).astype(np.float32)


def brute_force(scores, ids, k):
    """Rows of the first k documents per query: highest float32 score first, then the highest id."""
    return [sorted(range(len(ids)), key=lambda row: (line[row], ids[row]), reverse=True)[:k] for line in scores.tolist()]


def same(one, two):
    return one.rows.tobytes() == two.rows.tobytes() and one.scores.tobytes() == two.scores.tobytes()


def shapes_of(kept):
    return kept.rows.shape, kept.scores.shape, kept.rows.dtype, kept.scores.dtype


@pytest.fixture(scope="module")
def documents():
    return clustered(3000)


@pytest.fixture(scope="module")
def queries():
    return clustered(300, seed=0, clusters=40)


@pytest.fixture(scope="module")
def ids(documents):
    return names(len(documents))


@pytest.fixture(scope="module")
def built(documents):
    return Index.build(documents, DIM)


@pytest.mark.parametrize("k", [1, 10, 130, 3000])
def test_search_is_brute_force_with_the_tie_rule(built, documents, queries, ids, k):
    ranking = built.search(queries[:40], k, places(ids))
    scores = exact_scores(queries[:40], documents)
    assert ranking.rows.tolist() == brute_force(scores, ids, k)
    assert ranking.scores.tolist() == np.take_along_axis(scores, ranking.rows, axis=1).tolist()
    assert shapes_of(ranking) == ((40, k), (40, k), np.int64, np.float32)


def test_search_cuts_the_dimensions_it_was_built_for(documents, queries, ids):
    ranking = Index.build(documents, 8).search(vectors.truncate(queries, 8)[:20], 10, places(ids))
    scores = exact_scores(vectors.truncate(queries, 8)[:20], vectors.truncate(documents, 8))
    assert ranking.rows.tolist() == brute_force(scores, ids, 10)


def test_the_order_of_insertion_changes_nothing(built, documents, queries, ids):
    names_of = np.array(ids)
    before = built.search(queries, 10, places(ids))
    for seed in range(3):
        turned = np.random.default_rng(seed).permutation(len(documents))
        after = Index.build(documents[turned], DIM).search(queries, 10, places(names_of[turned].tolist()))
        assert names_of[turned][after.rows].tolist() == names_of[before.rows].tolist()
        assert after.scores.tobytes() == before.scores.tobytes()


def test_the_number_of_threads_changes_nothing(documents, queries, ids):
    one, two = (Index.build(documents, DIM, threads=threads).search(queries, 10, places(ids)) for threads in (1, 2))
    assert same(one, two)


def test_the_batch_a_query_comes_in_changes_nothing(built, queries, ids):
    together = built.search(queries, 10, places(ids))
    assert same(together, Ranking.stack(built.search(queries[at : at + 1], 10, places(ids)) for at in range(300)))
    assert same(together, Ranking.stack(built.search(queries[at : at + 23], 10, places(ids)) for at in range(0, 300, 23)))
    backwards = built.search(queries[::-1].copy(), 10, places(ids))
    assert same(together, Ranking(backwards.rows[::-1], backwards.scores[::-1]))


def test_the_size_of_the_blocks_changes_nothing(built, documents, queries, ids, monkeypatch):
    together = built.search(queries, 10, places(ids))
    monkeypatch.setattr(codes, "_BLOCK_BYTES", 8 * DIM * 10)  # ten rows
    monkeypatch.setattr(codes, "_PAIR_BYTES", 8 * DIM * 5)  # five pairs at a time
    assert same(together, Index.build(documents, DIM).search(queries, 10, places(ids)))


def test_queries_in_several_blocks_are_ranked_like_one_by_one():
    small = unit(np.random.default_rng(1).normal(size=(2000, 4)))
    asked = unit(np.random.default_rng(2).normal(size=(3000, 4)))  # 1,625 candidates each: two blocks of queries
    built, order = Index.build(small, 4), places(names(2000))
    ranking = built.search(asked, 1300, order)
    for at in (0, 2500, 2579, 2580, 2581, 2582, 2999):
        alone = built.search(asked[at : at + 1], 1300, order)
        assert same(alone, Ranking(ranking.rows[at : at + 1], ranking.scores[at : at + 1]))


def test_identical_vectors_get_bit_identical_scores(built, documents, queries, ids):
    _, group = np.unique(documents, axis=0, return_inverse=True)
    assert len(set(group.tolist())) < 2500  # there are many copies
    ranking = built.search(queries, len(documents), places(ids))
    scores = np.empty_like(ranking.scores)
    np.put_along_axis(scores, ranking.rows, ranking.scores, axis=1)
    first = np.array([np.flatnonzero(group == g)[0] for g in group])
    assert scores.tobytes() == scores[:, first].tobytes()


@pytest.mark.parametrize("twins", [2000, 2050])
def test_ties_beyond_the_first_candidates_still_obey_the_id_rule(twins):
    matrix = unit(np.random.default_rng(3).normal(size=(2100, DIM)))
    matrix[:twins] = matrix[0]
    ids = names(2100)
    ranking = Index.build(matrix, DIM).search(matrix[:1], 10, places(ids))
    assert [ids[row] for row in ranking.rows[0]] == sorted(ids[:twins], reverse=True)[:10]
    assert len(set(ranking.scores[0].tolist())) == 1


def test_a_tie_group_below_the_best_document_is_cut_by_the_id_rule():
    matrix = np.tile(np.float32([[0, 1, 0]]), (500, 1))
    matrix[7] = [1, 0, 0]
    ids = names(500)
    ranking = Index.build(matrix, 3).search(unit([[2, 1, 0]]), 4, places(ids))
    assert [ids[row] for row in ranking.rows[0]] == [ids[7], *sorted(set(ids) - {ids[7]}, reverse=True)[:3]]


def test_a_k_beyond_the_corpus_pads_with_nothing():
    ranking = Index.build(np.eye(3, dtype=np.float32), 3).search(unit([[3, 2, 1]]), 5, places(["a", "b", "c"]))
    assert ranking.rows.tolist() == [[0, 1, 2, NOTHING, NOTHING]]
    assert ranking.scores[0, :3].tolist() == unit([[3, 2, 1]])[0].tolist()
    assert ranking.scores[0, 3:].tolist() == [-np.inf, -np.inf]


def test_no_queries_give_an_empty_ranking(built, ids):
    assert shapes_of(built.search(np.empty((0, DIM), np.float32), 10, places(ids))) == ((0, 10), (0, 10), np.int64, np.float32)


@pytest.mark.parametrize("k", [1, 10, 200, 1000])
def test_a_document_of_several_vectors_counts_once_with_its_best(built, documents, queries, k):
    owner = np.random.default_rng(4).integers(0, 700, len(documents))
    owner[:700] = np.arange(700)
    ids = names(700)
    best = np.full((40, 700), -np.inf, dtype=np.float32)
    for line, scores in zip(best, exact_scores(queries[:40], documents), strict=True):
        np.maximum.at(line, owner, scores)
    ranking = built.search(queries[:40], k, places(ids), owner)
    assert ranking.rows[:, :700].tolist() == brute_force(best, ids, k)
    assert (ranking.rows[:, 700:] == NOTHING).all()


def test_a_document_with_more_copies_than_the_first_candidates_leaves_room_for_others():
    matrix = np.tile(np.float32([[1, 0, 0]]), (300, 1))
    matrix[298:] = [[0, 1, 0], [0, 0, 1]]
    owner = np.array([0] * 298 + [1, 2])
    ranking = Index.build(matrix, 3).search(unit([[3, 2, 1]]), 3, places(["a", "b", "c"]), owner)
    assert ranking.rows.tolist() == [[0, 1, 2]]


def test_a_document_counts_once_even_where_there_are_as_many_documents_as_vectors():
    owner = np.array([0, 0, 1])  # document 2 has no vector
    ranking = Index.build(unit([[1, 0], [3, 1], [0, 1]]), 2).search(unit([[1, 0]]), 3, places(["a", "b", "c"]), owner)
    assert ranking.rows.tolist() == [[0, 1, NOTHING]]


def test_scores_are_ranked_by_float32_value_and_then_by_id():
    ids = ["10", "9", "a", "B"]
    scores = [[0.5, 0.5, 0.5 + 1e-9, 0.5], [-1, -2, 0, 3], [-1e-45, 0, 1e-45, -1e-45]]
    ranking = Ranking.from_scores([np.array(scores)], places(ids), k=4)
    assert [[ids[row] for row in line] for line in ranking.rows] == [["a", "B", "9", "10"], ["B", "a", "10", "9"], ["a", "9", "B", "10"]]
    assert ranking.scores[1].tolist() == [3, 0, -1, -2]


@pytest.mark.parametrize("k", [1, 5, 20, 60])
def test_complete_scores_are_ranked_like_brute_force(k):
    rng, ids = np.random.default_rng(5), names(60)
    scores = (rng.integers(-5, 6, (80, 60)) / np.float32(7)).astype(np.float32)
    ranking = Ranking.from_scores([scores[:30], scores[30:31], scores[31:]], places(ids), k)
    assert ranking.rows.tolist() == brute_force(scores, ids, k)


def test_a_minus_zero_ties_with_zero():
    ranking = Ranking.from_scores([np.array([[0.0, -0.0, 0.0, -0.0]])], places(["a", "b", "c", "d"]), k=3)
    assert ranking.rows.tolist() == [[3, 2, 1]]


def test_a_score_of_minus_infinity_is_not_found():
    ranking = Ranking.from_scores([np.array([[-np.inf, -9.0, -np.inf], [-np.inf] * 3])], places(["a", "b", "c"]), k=4)
    assert ranking.rows.tolist() == [[1, NOTHING, NOTHING, NOTHING], [NOTHING] * 4]
    assert ranking.scores.tolist() == [[-9, -np.inf, -np.inf, -np.inf], [-np.inf] * 4]


def test_a_score_that_is_not_a_number_is_an_error():
    with pytest.raises(ModelError, match="a document's score is NaN"):
        Ranking.from_scores([np.zeros((1, 2)), np.array([[0.5, np.nan]])], places(["a", "b"]), k=1)


def test_an_index_says_what_it_holds(built):
    assert (built.size, built.nbytes) == (3000, 3000 * DIM * 4)
    cut = Index.build(clustered(70), 8, threads=1)
    assert (cut.size, cut.nbytes, cut.threads) == (70, 70 * 8 * 4, 1)


def test_a_vector_without_direction_is_named_by_its_own_row_in_any_block(monkeypatch):
    monkeypatch.setattr(codes, "_BLOCK_BYTES", 8 * 2 * 4)  # four rows
    matrix = np.ones((10, 3), dtype=np.float32)
    matrix[6, :2] = 0
    with pytest.raises(ModelError, match="vector 6 is all zeros in its first 2 of 3 dimensions"):
        Index.build(matrix, 2)


def test_both_distributions_of_faiss_are_an_error_with_the_fix(monkeypatch):
    monkeypatch.setattr(codes, "_installed", lambda name: True)
    with pytest.raises(OptionError) as error:
        codes.import_faiss()
    assert "faiss-cpu and faiss-gpu are both installed" in str(error.value)
    assert "pip uninstall faiss-cpu faiss-gpu, then install bakeoff[cpu] or bakeoff[gpu]" in str(error.value)


@pytest.mark.parametrize("only", ["faiss-cpu", "faiss-gpu"])
def test_one_distribution_of_faiss_is_enough(monkeypatch, only):
    monkeypatch.setattr(codes, "_installed", lambda name: name == only)
    assert codes.import_faiss().__name__ == "faiss"


def test_no_faiss_at_all_is_an_error_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(OptionError, match=r"install bakeoff\[cpu\], or bakeoff\[gpu\]"):
        codes.import_faiss()


def test_what_a_scan_costs_is_the_slope_from_a_small_index_to_a_large_one(monkeypatch):
    clock, near = [0.0], Index._near

    def timed(self, queries, fetch):
        clock[0] += 0.001 + 0.5 * self.nbytes / 1e9
        return near(self, queries, fetch)

    monkeypatch.setattr(index_module, "_SCANNED", 2048)
    monkeypatch.setattr(index_module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(Index, "_near", timed)
    index_module.seconds_per_gb.cache_clear()
    try:
        assert index_module.seconds_per_gb(1, "int8") == pytest.approx(0.5)
    finally:
        index_module.seconds_per_gb.cache_clear()
