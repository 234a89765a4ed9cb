"""What a cell costs: which queries are embedded by themselves, what is worked out from it, and whose answers are cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset

import harness
import reports
from harness import cells, filling, measuring
from harness.dataset import Dataset, Document, Query
from harness.embedder import Embedded, Item, Role, Settings
from harness.experiment import Grid
from harness.ledger import Ledger
from harness.metrics import Measure
from harness.progress import Silent
from harness.result import Cost, Result
from harness.store import Stored, VectorStore
from providers.hash import HashEmbedder


def test_a_sample_of_the_queries_of_every_length_is_embedded_one_at_a_time() -> None:
    asked: list[list[int]] = []

    def commit(query: int) -> float:
        asked.append([query])
        return 0.01

    rest = filling._ask_alone(list(range(1_000)), commit)
    assert asked == [[query] for query in range(1, 1_000, 10)]
    assert sorted([*rest, *range(1, 1_000, 10)]) == list(range(1_000))
    asked.clear()
    assert filling._ask_alone([7, 8, 9, 10], commit) == [7, 9]  # of few queries, one in two
    assert filling._ask_alone([], commit) == []


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 100), (0.4, 13), (60.0, 8)])
def test_asking_one_at_a_time_stops_after_five_seconds_and_at_least_eight_queries(seconds: float, count: int) -> None:
    asked: list[Sequence[int]] = []
    filling._ask_alone(list(range(1_000)), lambda query: asked.append([query]) or seconds)
    assert len(asked) == count


def test_half_of_a_few_queries_are_embedded_alone_and_the_others_together(tiny: Dataset) -> None:
    sizes: list[int] = []

    class Watched(HashEmbedder):
        def embed(self, items: Sequence[Item], role: Role) -> Embedded:
            if role == "query":
                sizes.append(len(items))
            return super().embed(items, role)

    (result,) = harness.evaluate(tiny, [Watched(128, Settings())], dims=["native"], floors=False).results
    assert sizes == [1, 1, 1, 1, 1, 1, 6]
    assert result.cost.alone_embed_p50 is not None
    assert result.cost.alone_search_p95 is not None


def search_cost(dataset: Dataset, tmp_path: Path, documents: Stored, queries: Stored, monkeypatch: pytest.MonkeyPatch) -> Cost:
    monkeypatch.setattr(cells, "seconds_per_gb", lambda _threads, _precision: 1.5)
    store, measure = VectorStore(tmp_path / "s"), Measure("ndcg", 10)
    run = measuring.Run(
        dataset, store, (measure,), Grid(dims=[8]), 10, 1, None, force=False, progress=Silent(), ledger=Ledger(store, "tiny")
    )
    one = measuring.ModelRun(run, "hash/8", HashEmbedder(8, Settings()))
    one.__dict__["_vectors"] = measuring._Vectors(documents, queries, documents.tokens, {})
    (cell,) = one.cells()
    assert isinstance(cell, Result)
    return cell.cost


def stored(rows: int, seconds: list[float], tokens: list[int], alone: list[bool]) -> Stored:
    matrix = np.random.default_rng(0).random((rows, 8), dtype=np.float32)
    return Stored(matrix, np.array(tokens), np.array(seconds), np.array(alone))


def test_costs_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(documents=10, queries=6)
    documents = stored(10, [0.5] * 10, [7] * 10, [False] * 10)
    queries = stored(6, [0.1, 0.2, 0.3, 0.01, 0.02, 0.03], [1, 2, 3, 4, 5, 6], [True, True, True, False, False, False])
    cost = search_cost(dataset, tmp_path, documents, queries, monkeypatch)
    assert cost.document_seconds == pytest.approx(5.0)
    assert cost.query_seconds == pytest.approx(6 * 0.02)  # as if all had been in batches
    assert (cost.alone_embed_p50, cost.alone_embed_p95) == pytest.approx((0.2, 0.29))
    assert (cost.document_tokens, cost.query_tokens, cost.tokens) == (70, 21, 91)
    assert (cost.bytes, cost.scan_seconds_per_gb) == (10 * 8 * 4, 1.5)
    unknown = stored(6, [0.1] * 6, [1, 2, -1, 4, 5, 6], [False] * 6)
    cost = search_cost(dataset, tmp_path, documents, unknown, monkeypatch)
    assert (cost.document_tokens, cost.query_tokens, cost.tokens, cost.usd) == (70, None, None, None)
    assert (cost.alone_embed_p50, cost.alone_embed_p95) == (None, None)
    assert cost.alone_search_p50 is not None  # searching alone can be measured all the same


class Forgetful(HashEmbedder):
    """Reads four words of a text, its title included."""

    def __init__(self) -> None:
        super().__init__(128, Settings())
        self.model = replace(self.model, max_tokens=4)


def cut_dataset() -> Dataset:
    documents = [Document("short", "one two three four"), Document("long", "one two three four five"), Document("other", "more words " * 9)]
    queries = [Query(f"q{n}", "one " * (n + 1)) for n in range(3)]
    qrels = {"q0": {"short": 2, "other": 1}, "q1": {"short": 1, "long": 1}, "q2": {"other": 1}}
    return Dataset.build("cut", documents, queries, qrels)


def test_a_cut_answer_is_one_of_the_best_that_is_longer_than_the_model_reads(tmp_path: Path) -> None:
    board = harness.evaluate(cut_dataset(), [Forgetful(), "hash/64"], out=tmp_path, dims=["native"])
    cut = {result.spec: result.answer_cut for result in board.results}
    assert cut == {"hash/128": (False, True, True), "hash/64": (False, False, False), "bm25": None, "random": None}
    assert {result.spec: result.answer_cut for result in harness.load(tmp_path).results} == cut
    forgetful = next(result for result in board.results if result.spec == "hash/128")
    assert (forgetful.cost.truncated_documents, forgetful.cost.document_tokens, forgetful.cost.query_tokens) == (2, 4 + 5 + 18, 1 + 2 + 3)
    assert board.slices["answer cut by hash/128"] == {"no": ("q0",), "yes": ("q1", "q2")}


def test_half_a_character_in_a_text_does_not_lose_the_results(tmp_path: Path) -> None:
    data = Dataset.build("odd", [Document("d", "half \ud800 a sign"), Document("e", "whole")], [Query("q", "sign \ud800")], {"q": {"d": 1}})
    board = harness.evaluate(data, ["hash/64"], out=tmp_path)
    page = reports.write(board, tmp_path)["leaderboard.html"]
    assert "sign ?" in page.read_text(encoding="utf-8") or "\\ud800" in page.read_text(encoding="utf-8")
    assert harness.load(tmp_path).queries == board.queries == {"q": "sign \ud800"}
    assert harness.load(tmp_path).documents["d"] == "half \ud800 a sign"
