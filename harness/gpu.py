"""Exact search on what accelerates it: all GPUs through faiss-gpu, else one device of torch. Each proposes rows as ``Float32.near`` does.

Vectors are kept there in float32, in float16 where they do not fit, and else sent block by block, smaller ones until they fit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.codes import merge
from harness.errors import ModelError
from harness.flat import Near
from harness.vectors import Matrix

MAX_K = 2048
"""FAISS: the largest k of a search on a GPU."""
HALF = 2.0**-10
"""By how much rounding documents and queries to float16 can move the inner product of two unit vectors."""
_SMALLEST = 1024  # rows of a block that must fit


class Accelerator(Protocol):
    """Vectors ``(n, dim)`` on another device. ``rounding`` is what its storage may move a score by."""

    device: str
    rounding: float

    def near(self, queries: Matrix, fetch: int) -> Near:
        """The best ``fetch`` rows of each query, best first."""


def find(faiss: Any, matrix: Matrix) -> Accelerator | None:
    """What searches ``matrix`` faster than the CPU, where there is such a thing."""
    if hasattr(faiss, "StandardGpuResources") and (count := int(faiss.get_num_gpus())):
        return Resident(matrix, f"gpu x {count}", _faiss_loader(faiss))
    device = _torch_device()
    return None if device is None else Resident(matrix, f"{device} (torch)", _torch_loader(device))


def _torch_device() -> str | None:
    """The device of torch that is no CPU; torch is only imported where there may be one."""
    apple = sys.platform == "darwin"
    if not apple and not Path("/dev/nvidia0").exists():
        return None
    try:
        import torch
    except ImportError:
        return None
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if apple and torch.backends.mps.is_available() else None


Search = Callable[[Matrix, int], Near]


class Load(Protocol):
    """Puts a block of vectors on a device."""

    def __call__(self, block: Matrix, *, half: bool) -> Search:
        """Return what searches the block, kept in float16 if it is to be ``half``; raises MemoryError where it does not fit."""


class Resident:
    """A matrix on a device, whole where it fits, in either precision; else its blocks, one after the other."""

    def __init__(self, matrix: Matrix, device: str, load: Load) -> None:
        self._matrix, self._load, self.device = matrix, load, device
        self._whole: Search | None = None
        self._rows = len(matrix)
        self.rounding = 0.0
        for half in (False, True):
            try:
                self._whole = load(matrix, half=half)
            except MemoryError:
                continue
            self.rounding = HALF if half else 0.0
            return

    def near(self, queries: Matrix, fetch: int) -> Near:
        """Search what is there, or every block; raises ModelError where not even a small block fits."""
        if self._whole is not None:
            try:
                return self._whole(queries, fetch)
            except MemoryError:  # the vectors fit, the search does not
                self._whole, self.rounding = None, 0.0
        best: Near | None = None
        start = 0
        while start < len(self._matrix):
            rows = max(self._rows, fetch)
            block = self._matrix[start : start + rows]
            try:
                scores, found = self._load(block, half=False)(queries, min(fetch, len(block)))
            except MemoryError:
                if self._rows <= _SMALLEST:
                    raise ModelError(f"{self.device}: out of memory with {rows:,} vectors at once; hide the GPU to search here") from None
                self._rows //= 2
                continue
            best = merge(best, (scores, found + start), fetch)
            start += len(block)
        assert best is not None
        return best


def _faiss_loader(faiss: Any) -> Load:
    def load(block: Matrix, *, half: bool) -> Search:
        options = faiss.GpuMultipleClonerOptions()
        options.shard, options.useFloat16 = True, half
        flat = faiss.IndexFlatIP(block.shape[1])
        try:
            flat.add(block)
            there = faiss.index_cpu_to_all_gpus(flat, co=options)
        except RuntimeError as error:
            raise _as_memory(error) from error
        return lambda queries, fetch: _searched(there, queries, fetch)

    return load


def _searched(there: Any, queries: Matrix, fetch: int) -> Near:
    try:
        found: Near = there.search(queries, fetch)
    except RuntimeError as error:
        raise _as_memory(error) from error
    return found


def _as_memory(error: RuntimeError) -> Exception:
    """FAISS and torch both raise a RuntimeError when memory is used up; anything else stays what it is."""
    return MemoryError(str(error)) if "memory" in str(error).lower() else error


def _torch_loader(device: str) -> Load:
    def load(block: Matrix, *, half: bool) -> Search:
        import torch

        kind = torch.float16 if half else torch.float32
        try:
            there = torch.from_numpy(np.array(block)).to(device, kind)
        except RuntimeError as error:
            raise _as_memory(error) from error

        def search(queries: Matrix, fetch: int) -> Near:
            try:
                asked = torch.from_numpy(np.array(queries)).to(device, kind)
                scores, rows = (asked @ there.T).float().topk(fetch, dim=1)
            except RuntimeError as error:
                raise _as_memory(error) from error
            return scores.cpu().numpy(), rows.cpu().numpy()

        return search

    return load
