"""Indexes in FAISS's factory language: how they are written, refused, built, measured and searched."""

from __future__ import annotations

import numpy as np
import pytest
from test_codes import clustered

from harness import approximate, vectors
from harness.approximate import Approximate, Recipe, auto, expand, formula, refusal
from harness.errors import ModelError, OptionError
from harness.index import Index

DIM, ROWS = 32, 2000


@pytest.fixture(scope="module")
def native() -> np.ndarray:
    return clustered(ROWS, DIM, 0)


@pytest.fixture(scope="module")
def asked() -> np.ndarray:
    return vectors.truncate(clustered(50, DIM, 1), DIM)


@pytest.fixture(scope="module")
def nearest(native: np.ndarray, asked: np.ndarray) -> np.ndarray:
    return Index.build(native, DIM).search(asked, 10, np.arange(ROWS)).rows


def share(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found.tolist(), wanted.tolist(), strict=True)]))


def test_an_index_and_its_search_parameters_are_read() -> None:
    assert Recipe.parse("HNSW32?efSearch=16,64") == Recipe("HNSW32", (("efSearch", (16, 64)),))
    assert Recipe.parse(" IVF64, Flat").factory == "IVF64,Flat"
    assert Recipe.parse("IVF64(HNSW16),PQ8x4fs?nprobe=2,2,1&ht=3").settings() == [
        *("IVF64(HNSW16),PQ8x4fs?nprobe=2&ht=3", "IVF64(HNSW16),PQ8x4fs?nprobe=1&ht=3"),
    ]
    assert Recipe.parse("SQ8").settings() == ["SQ8"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not written as FAISS's index factory wants it"),
        ("IVF64,,Flat", "is not written as"),
        ("8PQ", "is not written as"),
        ("HNSW32?efsearch=16", "'efsearch' is not one of nprobe, efSearch.*did you mean 'efSearch'"),
        ("HNSW32?efSearch=x", "efSearch should be whole numbers of 1 or more"),
        ("HNSW32?efSearch=0", "efSearch should be whole numbers of 1 or more"),
        ("HNSW32?efSearch", "efSearch should be whole numbers"),
    ],
)
def test_what_is_no_index_is_an_error_that_says_what_is(text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        Recipe.parse(text)


def test_what_cannot_be_trained_is_refused_with_the_reason_and_a_way_out() -> None:
    assert refusal("IVF64,Flat", 64 * 39) == refusal("HNSW32", 1) == refusal("PQ8x4", 16 * 39) == ""
    assert refusal("IVF64,Flat", 64 * 39 - 1) == (
        "IVF64 wants 2,496 vectors to learn 64 centroids, 39 for each; there are 2,495: IVF63 can be trained"
    )
    assert refusal("IVF8,PQ8", 1000).endswith(
        "PQ8 wants 9,984 vectors to learn 256 centroids, 39 for each; there are 1,000: PQ with 4 bits (as in PQ16x4) can be trained"
    )
    assert refusal("CAGRA", 10**9).startswith("CAGRA needs a GPU and a FAISS with cuVS")
    assert refusal("PQ8x4", 100).endswith("there are 100: HNSW32 or SQ8 can be trained")


@pytest.mark.parametrize("documents", [50, 500, 5_000, 50_000, 5_000_000])
@pytest.mark.parametrize("dim", [2, 30, 384])
def test_the_sweep_is_one_that_can_be_trained(documents: int, dim: int) -> None:
    found = auto(documents, dim)
    assert not [recipe for recipe in found if refusal(recipe.factory, documents)]
    assert {"HNSW32", "SQ8"} <= {recipe.factory for recipe in found}
    assert all(Recipe.parse(setting) for recipe in found for setting in recipe.settings())
    product = [recipe.factory for recipe in found if "PQ" in recipe.factory]
    assert all(dim % int(factory.rpartition("PQ")[2].partition("x")[0]) == 0 for factory in product)
    assert any(factory.startswith("IVF") for factory in product) == (documents >= 256 * 39)


def test_everything_asked_for_is_expanded_once() -> None:
    assert expand(["HNSW16?efSearch=8,4", "HNSW16?efSearch=4"], 1000, 8) == ["HNSW16?efSearch=8", "HNSW16?efSearch=4"]
    assert expand(["auto"], 1000, 8)[:3] == ["HNSW32?efSearch=16", "HNSW32?efSearch=64", "HNSW32?efSearch=256"]


@pytest.mark.parametrize("factory", ["HNSW16", "IVF16,Flat", "SQ8", "SQfp16", "PQ8x4", "IVF16,PQ8x4", "RaBitQ", "HNSW16,SQ8"])
def test_the_formula_is_what_faiss_writes(factory: str, native: np.ndarray) -> None:
    built = Approximate(native, DIM, factory, 2)
    assert built.size == ROWS
    assert built.nbytes == pytest.approx(ROWS * (formula(factory, DIM, ROWS) or 0), rel=0.06)


def test_an_unknown_layout_has_no_formula() -> None:
    assert formula("OPQ8,IVF16,PQ8", DIM, ROWS) is None
    assert formula("ZnLattice3x10_6", DIM, ROWS) is None


def test_parameters_vary_without_building_again(native: np.ndarray, asked: np.ndarray, nearest: np.ndarray) -> None:
    order = np.arange(ROWS)
    clusters = Approximate(native, DIM, "IVF16,Flat", 2)
    shares = [share(clusters.search(asked, 10, order, f"nprobe={probes}").rows, nearest) for probes in (1, 4, 16)]
    assert shares[0] < shares[1] <= shares[2] >= 0.98  # all clusters are all documents; of copies another one may be found
    graph = Approximate(native, DIM, "HNSW16", 2)
    assert share(graph.search(asked, 10, order, "efSearch=400").rows, nearest) > 0.9
    with pytest.raises(ModelError, match="this index takes no nprobe"):
        graph.search(asked, 10, order, "nprobe=2")


def test_equal_scores_that_were_found_are_in_the_order_of_ids() -> None:
    native = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # rows 0 to 4 are equal
    order = np.random.default_rng(0).permutation(20)
    found = Approximate(native, 4, "HNSW8", 1).search(native[:1], 5, order, "efSearch=64")
    assert found.rows[0].tolist() == sorted(range(5), key=lambda row: order[row])


def test_what_faiss_does_not_build_is_an_error_with_its_reason(native: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"FAISS does not build PQ7x4 for 32 dimensions: .+"):
        Approximate(native, DIM, "PQ7x4", 1)
    with pytest.raises(ModelError, match="FAISS does not build Nonsense for 32 dimensions: "):
        Approximate(native, DIM, "Nonsense", 1)
    with pytest.raises(ModelError, match="IVF64 wants 2,496 vectors"):
        Approximate(native, DIM, "IVF64,Flat", 1)


class _Faiss:
    """FAISS with two GPUs on which only some kinds can be searched."""

    class GpuMultipleClonerOptions:
        shard = False

    StandardGpuResources = object

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses

    def get_num_gpus(self) -> int:
        return 2

    def index_cpu_to_all_gpus(self, index: str, co: object) -> str:
        if self.refuses:
            raise RuntimeError("not implemented")
        return f"{index} there"


def test_an_index_moves_to_the_gpus_where_faiss_can_search_its_kind_there() -> None:
    assert approximate._on_gpus(_Faiss(refuses=False), "ivf") == ("ivf there", "gpu x 2")
    assert approximate._on_gpus(_Faiss(refuses=True), "hnsw") == ("hnsw", "cpu")
