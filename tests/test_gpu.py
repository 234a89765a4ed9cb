"""Exact search on other devices, run here on the CPU's twin: the ranking is the same, whether vectors fit there or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_codes import clustered

from harness import gpu, vectors
from harness.errors import ModelError
from harness.index import Index

DIM, ROWS = 32, 3000
ORDER = np.arange(ROWS)


@pytest.fixture(scope="module")
def native() -> np.ndarray:
    return clustered(ROWS, DIM, 0)


@pytest.fixture(scope="module")
def asked() -> np.ndarray:
    return vectors.truncate(clustered(20, DIM, 1), DIM)


def on(native: np.ndarray, load: Any) -> tuple[Index, gpu.Resident]:
    """An index whose rows are proposed by a device."""
    index = Index.build(native, DIM)
    device = gpu.Resident(index.codes.matrix, "made", load)
    index._fast = device
    return index, device


def small(fits: int, half_fits: int = 0, searches: bool = True) -> Any:
    """A device of torch on the CPU with room for so many vectors in float32, and in float16."""
    there = gpu._torch_loader("cpu")

    def load(block: np.ndarray, *, half: bool) -> gpu.Search:
        if len(block) > (half_fits if half else fits):
            raise MemoryError
        search = there(block, half=half)

        def tried(queries: np.ndarray, fetch: int) -> gpu.Near:
            if not searches and len(block) == ROWS:
                raise MemoryError
            return search(queries, fetch)

        return tried

    return load


@pytest.mark.parametrize(
    ("load", "rounding"),
    [
        (small(ROWS), 0.0),  # all of it, in float32
        (small(ROWS - 1, ROWS), gpu.HALF),  # in float16
        (small(ROWS // 3), 0.0),  # block by block
        (small(ROWS, searches=False), 0.0),  # the vectors fit, the search does not
    ],
    ids=["whole", "half", "blocks", "search"],
)
def test_the_ranking_is_the_cpu_s(load: Any, rounding: float, native: np.ndarray, asked: np.ndarray) -> None:
    index, device = on(native, load)
    expected, found = Index.build(native, DIM).search(asked, 100, ORDER), index.search(asked, 100, ORDER)
    assert found.rows.tobytes() == expected.rows.tobytes()
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert (index.device, device.rounding) == ("made", rounding)


def test_what_does_not_fit_even_in_small_blocks_is_an_error(native: np.ndarray, asked: np.ndarray) -> None:
    index, _ = on(native, small(10))
    with pytest.raises(ModelError, match=r"made: out of memory with 750 vectors at once"):
        index.search(asked, 10, ORDER)


def test_more_than_a_gpu_can_fetch_is_searched_for_here(native: np.ndarray, asked: np.ndarray) -> None:
    def refuse(block: np.ndarray, *, half: bool) -> gpu.Search:
        def search(queries: np.ndarray, fetch: int) -> gpu.Near:
            raise AssertionError(fetch)

        return search

    index, _ = on(native, refuse)
    assert index.search(asked, 2500, ORDER).rows.tobytes() == Index.build(native, DIM).search(asked, 2500, ORDER).rows.tobytes()


class _Options:  # names are FAISS's
    shard = useFloat16 = False  # noqa: N815


class _Faiss:
    """FAISS with two GPUs; an index of over 1,000 vectors in float32 does not fit them."""

    StandardGpuResources, GpuMultipleClonerOptions = object, _Options

    def __init__(self, faiss: Any, error: str = "out of memory on the device") -> None:
        self._faiss, self._error, self.halves = faiss, error, list[bool]()

    def get_num_gpus(self) -> int:
        return 2

    def IndexFlatIP(self, dim: int) -> Any:  # noqa: N802 - FAISS's name
        return self._faiss.IndexFlatIP(dim)

    def index_cpu_to_all_gpus(self, index: Any, co: _Options) -> Any:
        assert co.shard
        self.halves.append(co.useFloat16)
        if index.ntotal > 1000:
            raise RuntimeError(self._error)
        return index


def test_faiss_keeps_blocks_on_its_gpus_where_the_whole_does_not_fit(native: np.ndarray, asked: np.ndarray) -> None:
    import faiss

    index = Index.build(native, DIM)
    fake = _Faiss(faiss)
    index._fast = gpu.find(fake, index.codes.matrix)
    found = index.search(asked, 50, ORDER)
    assert index.device == "gpu x 2"
    assert fake.halves[:2] == [False, True]  # float32, then float16, then blocks
    assert found.rows.tobytes() == Index.build(native, DIM).search(asked, 50, ORDER).rows.tobytes()


def test_another_error_of_a_gpu_is_not_taken_for_lack_of_memory(native: np.ndarray) -> None:
    import faiss

    with pytest.raises(RuntimeError, match="no kernel image"):
        gpu.find(_Faiss(faiss, "no kernel image"), native)


def test_without_any_device_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    monkeypatch.setattr(gpu.sys, "platform", "linux")
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert gpu.find(faiss, np.eye(3, dtype=np.float32)) is None


@pytest.mark.parametrize(
    ("cuda", "mps", "platform", "device"), [(True, False, "linux", "cuda"), (False, True, "darwin", "mps"), (False, False, "linux", None)]
)
def test_torch_is_asked_where_there_may_be_a_device(
    cuda: bool, mps: bool, platform: str, device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(gpu.sys, "platform", platform)
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert gpu._torch_device() == device
