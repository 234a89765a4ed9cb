from __future__ import annotations

from pathlib import Path

import harness
from harness.dataset import Dataset, Document, Query
from harness.slices import slices
from harness.stats import FEWEST_IN_SLICE
from harness.verdict import choose


def corpus() -> Dataset:
    documents = [Document("short", "a harbour"), Document("middle", "sea " * 300), Document("long", "sky " * 1001)]
    queries = [
        Query("q1", "harbour", tags={"kind": "noun", "language": "en"}),
        Query("q2", "how wide is the open sea", tags={"kind": "question"}),
        Query("q3", "xyzzy", tags={"kind": "noun"}),
    ]
    qrels = {"q1": {"short": 1}, "q2": {"middle": 1, "long": 2}, "q3": {"middle": 1}}
    return Dataset.build("slices", documents, queries, qrels)


def test_slices_by_tag_length_and_bm25() -> None:
    data = corpus()
    bm25 = next(r for r in harness.evaluate(data, ["bm25"]).results if r.spec == "bm25")
    assert slices(data, bm25) == {
        "kind": {"noun": ("q1", "q3"), "question": ("q2",)},
        "query length": {"1 to 4 words": ("q1", "q3"), "5 to 12 words": ("q2",)},
        "answer length": {"up to 256 words": ("q1",), "over 1,000 words": ("q2",), "257 to 1,000 words": ("q3",)},
        "BM25": {"finds it in 10": ("q1", "q2"), "misses it in 10": ("q3",)},
    }  # one value of a tag (language) is no slice
    assert "BM25" not in slices(data)


def test_a_slice_has_its_own_means_or_says_that_it_has_too_few() -> None:
    documents = [Document(f"d{n}", f"word{n} common") for n in range(30)]
    queries = [Query(f"q{n}", f"word{n}", tags={"half": "first" if n < FEWEST_IN_SLICE else "rest"}) for n in range(FEWEST_IN_SLICE + 3)]
    data = Dataset.build("halves", documents, queries, {q.id: {f"d{q.id[1:]}": 1} for q in queries})
    board = harness.evaluate(data, ["hash/256"], metrics=["ndcg@10"])
    found = {(one.name, one.value): one for one in choose(board).slices}
    first, rest = found["half", "first"], found["half", "rest"]
    assert (first.queries, rest.queries) == (FEWEST_IN_SLICE, 3)
    assert rest.means is None
    assert first.means is not None
    for standing, mean in zip(choose(board).standings, first.means, strict=True):
        by_id = dict(zip(standing.result.query_ids, standing.result.scores["ndcg@10"], strict=True))
        assert mean == sum(by_id[f"q{n}"] for n in range(FEWEST_IN_SLICE)) / FEWEST_IN_SLICE


def test_slices_are_read_back(tmp_path: Path) -> None:
    board = harness.evaluate(corpus(), ["hash/64"], out=tmp_path)
    assert harness.load(tmp_path).slices == board.slices
    assert board.slices["kind"]["noun"] == ("q1", "q3")
