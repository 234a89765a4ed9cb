"""The grid from one set of vectors: which cells there are, what each finds and costs, and that nothing is embedded or built twice."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset
from test_codes import clustered

import harness
import reports
from harness import cells, flat, result
from harness.approximate import Approximate
from harness.cells import Shelf
from harness.dataset import Dataset
from harness.embedder import Settings
from harness.errors import ModelError, OptionError
from harness.experiment import Grid, Variant
from harness.index import Index
from providers.hash import HashEmbedder
from reports import smaller

NATIVE = 64
WAYS = {"precisions": ["float32", "int8", "binary"], "rescore": [2, 4], "indexes": ["HNSW16?efSearch=8,64", "IVF64,Flat"]}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_dataset(documents=400, queries=20)


@pytest.fixture(scope="module")
def board(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> harness.Leaderboard:
    folder = tmp_path_factory.mktemp("grid")
    return harness.evaluate(data, [HashEmbedder(NATIVE, Settings())], dims=[64, 16], store_folder=folder / "s", out=folder / "o", **WAYS)


def shelf(**changes: int) -> Shelf:
    sizes = {"depth": 50, "cutoff": 10, "threads": 2} | changes
    return Shelf(clustered(500, NATIVE, 0), clustered(30, NATIVE, 1), np.arange(500), **sizes)


def test_the_grid_is_every_dimension_in_every_way_and_plain_vectors_are_not_rescored(board: harness.Leaderboard) -> None:
    names = {one.name.partition("@ ")[2] for one in board.results if one.dim}
    ways = ["int8", "binary", "HNSW16?efSearch=8", "HNSW16?efSearch=64"]
    first = {f"{dim} {way}" for dim in (64, 16) for way in ways} | {"16"}
    assert names == first | {f"{one} x{times}" for one in first for times in (2, 4)} | {"64"}
    assert [(one.spec, one.status) for one in board.absences] == [
        ("hash/64 @ 64 IVF64,Flat", "skipped"),
        ("hash/64 @ 16 IVF64,Flat", "skipped"),
    ]
    assert "IVF64 wants 2,496 vectors" in board.absences[0].reason


def test_everything_is_there_again_without_measuring(board: harness.Leaderboard, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "build", None)
    monkeypatch.setattr(Approximate, "__init__", lambda *_: (_ for _ in ()).throw(ModelError("IVF64 wants more")))
    again = harness.evaluate(
        data, [HashEmbedder(NATIVE, Settings())], dims=[64, 16], store_folder=board.folder.parent / "s", out=board.folder, **WAYS
    )
    assert [one.identity for one in again.results] == [one.identity for one in board.results]
    kept = result.load(board.folder)
    assert [(one.name, one.rescore, one.neighbours, one.cost) for one in kept.results] == [
        (one.name, one.rescore, one.neighbours, one.cost) for one in board.results
    ]


def test_cells_of_one_index_share_it_and_its_first_search(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[int, str]] = []
    whole = Index.build.__func__

    def build(cls: type[Index], native: np.ndarray, dim: int, threads: int | None = None, precision: str = "float32") -> Index:
        built.append((dim, precision))
        return whole(cls, native, dim, threads, precision)

    monkeypatch.setattr(Index, "build", classmethod(build))
    monkeypatch.setattr(cells, "seconds_per_gb", lambda _threads, _precision: 1.0)
    one = shelf()
    for variant in Grid(dims=[64, 16], precisions=["float32", "binary"], rescore=[2, 4]).cells(HashEmbedder(NATIVE, Settings()).model):
        one.measure(variant)
    assert sorted(built) == [(16, "binary"), (16, "float32"), (64, "binary"), (64, "float32"), (64, "float32")]  # the last one rescores


def test_neighbours_are_those_of_exact_search_with_the_vectors_that_rank() -> None:
    one = shelf()
    plain = one.measure(Variant(NATIVE))
    assert plain.neighbours is None
    found = one.measure(Variant(16, "binary"))
    wanted = shelf().measure(Variant(16)).ranking.rows[:, :10]
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(wanted.tolist(), found.ranking.rows[:, :10].tolist(), strict=True)])
    assert found.neighbours == pytest.approx(by_hand)
    rescored = one.measure(Variant(16, "binary", rescore=50))  # a shortlist of all 500 documents
    assert rescored.neighbours == 1.0
    assert (rescored.ranking.rows == plain.ranking.rows).all()
    assert one.measure(Variant(NATIVE, "float16")).neighbours > 0.95


def test_what_a_cell_costs_in_bytes_is_measured_and_known_by_formula() -> None:
    one = shelf()
    exact, stages, graph = (
        one.measure(v).cost for v in (Variant(16, "int8"), Variant(20, "binary", rescore=2), Variant(16, index="HNSW8"))
    )
    assert (exact.bytes, exact.formula_bytes, exact.rescore_bytes) == (500 * 16, 500 * 16, None)
    assert (stages.bytes, stages.formula_bytes, stages.rescore_bytes) == (500 * 3, 500 * 3, 500 * NATIVE * 4)
    assert graph.bytes == pytest.approx(graph.formula_bytes, rel=0.06)
    assert graph.scan_seconds_per_gb is None  # nobody knows how an approximate index slows down
    assert 0 < exact.alone_search_p50 <= exact.alone_search_p95 <= exact.alone_search_p99


def test_an_index_that_does_not_fit_the_memory_is_said_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "free_memory", lambda: 100_000)
    one = shelf()
    assert one.memory(Variant(NATIVE)) == 0  # lies in a file when it is large
    assert one.memory(Variant(NATIVE, "int8")) == 500 * NATIVE
    with pytest.raises(ModelError, match=r"needs about 0\.0 GB of memory, and 0\.0 GB are free"):
        one.memory(Variant(NATIVE, index="HNSW32"))


def test_a_shortlist_may_be_longer_than_the_ranking() -> None:
    found = shelf(depth=10).measure(Variant(16, "binary", rescore=4))
    assert found.ranking.rows.shape == (30, 10)
    assert found.ranking.scores.min() > -1


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        ({"precisions": ["int4"]}, "precision 'int4' is not one of float32, float16, int8.*did you mean 'int8'"),
        ({"rescore": [0]}, "rescore '0' is not a whole number of 1 or more"),
        ({"indexes": ["HNSW32?ef=1"]}, "'ef' is not one of"),
    ],
)
def test_a_wrong_way_is_an_error_before_anything_is_embedded(ways: dict[str, list[object]], said: str, data: Dataset) -> None:
    with pytest.raises(OptionError, match=said):
        harness.evaluate(data, ["hash/64"], **ways)


def test_the_page_shows_what_each_way_keeps_and_the_command_that_measures_it(board: harness.Leaderboard, tmp_path: Path) -> None:
    page = reports.write(board, tmp_path)["leaderboard.html"].read_text(encoding="utf-8")
    assert "Smaller and faster" in page
    assert "With more documents" in page
    for option in ("--precision int8,binary", "--rescore 2,4", "--index &#39;HNSW16?efSearch=8&#39;"):
        assert option in page.replace("binary,int8", "int8,binary")
    assert "400,000 documents" in page
    lines = smaller.scaled(board, harness.choose(board))
    assert {line["name"] for line in lines} >= {"hash/64 @ 64"}
    (plain,) = [line["figures"] for line in lines if line["name"] == "hash/64 @ 64"]
    assert plain[::2] == ["102 kB", "1.02 MB", "10.2 MB", "102 MB"]  # 400 documents of 64 x 4 bytes, and 10, 100 and 1,000 times as many


def test_finding_out_what_is_faster_is_not_timed_as_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    @functools.cache
    def faster(_faiss: object, _threads: int) -> flat.Way:
        clock[0] += 100
        return flat.by_products

    monkeypatch.setattr(flat, "_SMALL", 0)
    monkeypatch.setattr(flat, "_FEW", 2)
    monkeypatch.setattr(flat, "faster", faster)
    monkeypatch.setattr(cells, "seconds_per_gb", lambda _threads, _precision: 1.0)
    monkeypatch.setattr(cells.time, "perf_counter", lambda: clock[0])
    assert shelf().measure(Variant(NATIVE)).cost.search_seconds == 0
    assert clock[0] == 100
