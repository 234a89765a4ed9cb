"""The measures: values worked by hand, and pytrec_eval (trec_eval's own C code) as the oracle over random cases."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
import pytrec_eval

from harness.dataset import Dataset, Document, Query
from harness.errors import OptionError
from harness.index import NOTHING, Ranking
from harness.metrics import MEASURES, UNJUDGED, Judgements, Measure, score

TOLERANCE = 1e-12
CUTOFFS = (1, 2, 5, 10, 50)
ORACLE = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "map": "map_cut", "success": "success"}
ORACLE_MEASURES = {f"{name}.{','.join(map(str, CUTOFFS))}" for name in ORACLE.values()} | {"recip_rank"}
CORPORA = 300
FIRST_LETTERS = "aZé\uffee\U0001f600"


def dataset_of(documents, qrels):
    return Dataset.build("toy", [Document(d, text="x") for d in documents], [Query(q, text="x") for q in qrels], qrels)


def scored(grades, ranked, *measures):
    """Score one query: ``grades`` by document row, ``ranked`` rows."""
    rows = np.array(list(grades), dtype=np.int64)
    judgements = Judgements.build(np.zeros_like(rows), rows, np.array(list(grades.values()), dtype=np.int32), 1)
    wanted = [Measure.parse(measure) for measure in measures]
    vectors = score(judgements, np.array([ranked]), wanted)
    return [float(vectors[measure][0]) for measure in wanted]


def run_of(scores, documents, queries):
    """What pytrec_eval is given: the same scores, less the documents that were not found and queries without any."""
    run = {
        query: {d: float(s) for d, s in zip(documents, line, strict=True) if s != -np.inf}
        for query, line in zip(queries, scores, strict=True)
    }
    return {query: answer for query, answer in run.items() if answer}


def random_ids(rng, count):
    """Ids whose order as strings is not their order as numbers, nor as UTF-16."""
    kinds = (
        [f"d{n}" for n in range(1, count + 1)],
        [str(n) for n in range(1, count + 1)],
        [f"{FIRST_LETTERS[n % 5]}{n}" for n in range(count)],
    )
    return [str(d) for d in rng.permutation(kinds[rng.integers(len(kinds))])]


def random_scores(rng, queries, documents):
    """Few distinct values, gaps of 1e-9 that float32 does not see, documents and whole queries that are not found."""
    scores = rng.integers(-3, 4, (queries, documents)) / 4.0
    scores += rng.integers(0, 2, scores.shape) * 1e-9
    scores[rng.random(scores.shape) < 0.1] = -0.0
    scores[rng.random(scores.shape) < rng.choice([0.0, 0.3])] = -np.inf
    scores[rng.random(queries) < 0.05] = -np.inf
    return scores


def random_qrels(rng, documents, queries):
    """Grades -2..4 for a random part of the documents; some queries get no relevant one."""
    qrels = {}
    for query in range(queries):
        judged = rng.permutation(documents)[: rng.integers(1, len(documents) + 1)]
        highest = 1 if rng.random() < 0.1 else 5
        qrels[f"q{query}"] = {str(d): int(grade) for d, grade in zip(judged, rng.integers(-2, highest, len(judged)), strict=True)}
    qrels["q0"][documents[0]] = 1  # a dataset needs one query that can be scored
    return qrels


def random_case(seed):
    rng = np.random.default_rng(seed)
    documents = random_ids(rng, int(rng.integers(1, 31)))
    qrels = random_qrels(rng, documents, 12)
    dataset = dataset_of(documents, qrels)
    depth = int(rng.choice([len(documents), len(documents) + 7, rng.integers(1, len(documents) + 1)]))
    scores = random_scores(rng, len(dataset.queries), len(documents))
    return dataset, qrels, scores, depth


def oracle_of(dataset, qrels, scores):
    """pytrec_eval's answers: query id -> measure as pytrec_eval names it -> value."""
    documents, queries = [d.id for d in dataset.documents], [q.id for q in dataset.queries]
    asked = {query: qrels[query] for query in queries}
    return pytrec_eval.RelevanceEvaluator(asked, ORACLE_MEASURES).evaluate(run_of(scores, documents, queries))


def test_ndcg_has_linear_gain_and_a_log2_discount():
    (value,) = scored({0: 3, 1: 1, 2: 2}, [1, 0, 2], "ndcg@10")
    by_hand = (1 / log2(2) + 3 / log2(3) + 2 / log2(4)) / (3 / log2(2) + 2 / log2(3) + 1 / log2(4))
    assert value == pytest.approx(by_hand, abs=TOLERANCE)
    assert value == pytest.approx(0.8175, abs=5e-5)


def test_the_ideal_ranking_is_cut_as_well():
    assert scored({0: 3, 1: 1, 2: 2}, [1, 0, 2], "ndcg@1") == [1 / 3]
    assert scored({0: 3, 1: 1, 2: 2}, [0, 2, 1], "ndcg@1", "ndcg@2", "ndcg@3") == [1, 1, 1]


def test_every_other_measure_by_hand():
    # five relevant documents 0..4, of which ranks 2, 3 and 5 hold three; 8 is judged useless, 9 unjudged
    grades, ranked = {0: 1, 1: 2, 2: 4, 3: 1, 4: 1, 8: 0}, [9, 0, 2, 8, 4]
    assert scored(grades, ranked, "map@5", "map@2", "map@1") == pytest.approx([(1 / 2 + 2 / 3 + 3 / 5) / 5, (1 / 2) / 5, 0])
    assert scored(grades, ranked, "recall@5", "recall@3", "recall@1") == [3 / 5, 2 / 5, 0]
    assert scored(grades, ranked, "precision@5", "precision@3", "precision@1") == [3 / 5, 2 / 3, 0]
    assert scored(grades, ranked, "mrr@5", "mrr@2", "mrr@1") == [1 / 2, 1 / 2, 0]
    assert scored(grades, ranked, "success@5", "success@2", "success@1") == [1, 1, 0]


def test_a_cutoff_beyond_the_ranking_counts_the_missing_ranks_as_misses():
    assert scored({0: 1, 1: 1}, [0], "precision@10", "recall@10", "map@10", "mrr@10", "success@10") == [0.1, 0.5, 0.5, 1, 1]


def test_negative_grades_are_neither_relevant_nor_a_loss():
    assert scored({0: 1, 1: -2}, [1, 0], "ndcg@2") == [pytest.approx(1 / log2(3))]
    assert scored({0: 1, 1: -2}, [1, 0], "recall@2", "map@2", "precision@2") == [1, 0.5, 0.5]


def test_every_measure_equals_trec_evals():
    compared = 0
    for seed in range(CORPORA):
        dataset, qrels, scores, depth = random_case(seed)
        complete = depth >= len(dataset.documents)
        ranking = Ranking.from_scores([scores], dataset.tie_order(), k=depth)
        cutoffs = [cutoff for cutoff in CUTOFFS if complete or cutoff <= depth]
        measures = {Measure(name, cutoff): f"{theirs}_{cutoff}" for name, theirs in ORACLE.items() for cutoff in cutoffs}
        if complete:
            measures[Measure("mrr", depth)] = "recip_rank"
        ours = score(dataset.judgements, ranking.rows, measures)
        theirs = oracle_of(dataset, qrels, scores)
        for measure, name in measures.items():
            expected = [theirs[query.id][name] if query.id in theirs else 0.0 for query in dataset.queries]
            np.testing.assert_allclose(ours[measure], expected, rtol=0, atol=TOLERANCE, err_msg=f"seed {seed}, {measure}")
            compared += len(expected)
    assert compared > 40_000


def test_mrr_at_a_cutoff_is_trec_evals_reciprocal_rank_down_to_that_rank():
    for seed in range(50):
        dataset, qrels, scores, _ = random_case(seed)
        ranking = Ranking.from_scores([scores], dataset.tie_order(), k=len(dataset.documents))
        theirs = oracle_of(dataset, qrels, scores)
        first = np.array([theirs.get(query.id, {"recip_rank": 0.0})["recip_rank"] for query in dataset.queries])
        for cutoff in CUTOFFS:
            ours = score(dataset.judgements, ranking.rows, [Measure("mrr", cutoff)])[Measure("mrr", cutoff)]
            assert ours.tolist() == np.where(first >= 1 / cutoff, first, 0.0).tolist()


def test_a_query_without_an_answer_scores_0_and_stays_where_pytrec_eval_drops_it():
    qrels = {"found": {"a": 1}, "lost": {"b": 1}}
    dataset, scores = dataset_of("ab", qrels), np.array([[0.5, 0.1], [-np.inf, -np.inf]])
    ranking = Ranking.from_scores([scores], dataset.tie_order(), k=2)
    measures = [Measure(name, 2) for name in MEASURES]
    ours = score(dataset.judgements, ranking.rows, measures)
    assert list(oracle_of(dataset, qrels, scores)) == ["found"]
    assert {measure: values.tolist() for measure, values in ours.items()} == {
        Measure(name, 2): [1 / 2 if name == "precision" else 1, 0] for name in MEASURES
    }


def test_queries_without_a_relevant_document_are_left_out_and_counted():
    dataset = dataset_of("ab", {"good": {"a": 1}, "useless": {"a": 0, "b": -1}, "empty": {}})
    assert [query.id for query in dataset.queries] == ["good"]
    assert dataset.left_out == 2


def test_scoring_a_query_without_a_relevant_document_is_refused():
    judgements = Judgements.build(np.array([0, 1]), np.array([0, 0]), np.array([1, 0], dtype=np.int32), 2)
    with pytest.raises(ValueError, match="query row 1 has no relevant document"):
        score(judgements, np.array([[0], [0]]), [Measure("ndcg", 1)])
    with pytest.raises(ValueError, match="3 rankings for 2 judged queries"):
        score(judgements, np.array([[0], [0], [0]]), [Measure("ndcg", 1)])


def test_judgements_are_looked_up_whatever_order_they_came_in():
    judgements = Judgements.build(np.array([1, 0, 1, 0]), np.array([7, 5, 2, 0]), np.array([4, -1, 3, 2], dtype=np.int32), 3)
    ranked = np.array([[0, 5, 7, NOTHING], [0, 2, 7, NOTHING], [0, 2, 5, NOTHING]])
    assert judgements.grade(ranked).tolist() == [[2, -1, UNJUDGED, UNJUDGED], [UNJUDGED, 3, 4, UNJUDGED], [UNJUDGED] * 4]
    assert judgements.relevant().tolist() == [1, 2, 0]
    assert judgements.ideal(3).tolist() == [[2, 0, 0], [4, 3, 0], [0, 0, 0]]


def test_a_row_beyond_the_judged_ones_never_finds_another_querys_grade():
    judgements = Judgements.build(np.array([0, 1]), np.array([0, 1]), np.array([1, 2], dtype=np.int32), 2)
    assert judgements.grade(np.array([[2, 3], [0, 9]])).tolist() == [[UNJUDGED, UNJUDGED], [UNJUDGED, UNJUDGED]]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("cutoff", [1, 10, 1000])
def test_the_text_of_a_measure_is_its_identity(name, cutoff):
    assert Measure.parse(f"{name}@{cutoff}") == Measure(name, cutoff)
    assert str(Measure.parse(f"{name}@{cutoff}")) == f"{name}@{cutoff}"


def test_an_unknown_measure_is_named_with_the_known_and_the_nearest():
    with pytest.raises(OptionError) as error:
        Measure.parse("ngdc@10")
    assert all(word in str(error.value) for word in ("'ngdc@10'", *MEASURES, "did you mean 'ndcg'?"))


@pytest.mark.parametrize(
    "text",
    ["ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@1.5", "ndcg@ten", "ndcg@²", "ndcg@10@5", "ndcg@ 10", "ndcg@010", "ndcg@" + "9" * 5000],
)
def test_a_cutoff_that_is_no_whole_number_is_named_with_an_example(text):
    with pytest.raises(OptionError) as error:
        Measure.parse(text)
    assert repr(text) in str(error.value)
    assert "cut-off between 1 and 999999, as in ndcg@10" in str(error.value)


@pytest.mark.parametrize("text", ["", "@10", "NDCG@10", " ndcg@10", "ndcg10"])
def test_a_measure_is_written_in_one_way_only(text):
    with pytest.raises(OptionError, match="is not one of ndcg"):
        Measure.parse(text)
