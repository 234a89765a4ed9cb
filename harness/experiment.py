"""What is measured: the cells of the grid, and anything that ranks documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from harness import approximate
from harness.codes import PRECISIONS
from harness.dataset import Dataset
from harness.embedder import Model
from harness.errors import OptionError, nearest
from harness.index import Ranking

SMALLEST_UNTRAINED = 32


@runtime_checkable
class System(Protocol):
    """Anything that answers queries by itself: BM25, a fusion, a reranker. Embedders become systems in the runner."""

    model: Model

    def rank(self, dataset: Dataset, k: int) -> Ranking:
        """Rank the first k documents for every query of the dataset, in the dataset's row order."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One cell of the grid: how stored native vectors are cut, kept and searched.

    ``index`` is exact, ``Flat``, or in FAISS's factory language with its search parameters. With ``rescore`` this is only the first of two
    stages: it proposes so many times the cut-off of the leaderboard's first measure, and the native float32 vectors put these in order.
    ``trained`` is False where the model was not trained to be cut at this dimension; it changes no number. A
    system without vectors has one cell, with dim 0.
    """

    dim: int
    precision: str = "float32"
    index: str = "Flat"
    rescore: int = 0
    trained: bool = True

    def __str__(self) -> str:
        return f"{self.dim}/{self.precision}/{self.index}" + (f"/x{self.rescore}" if self.rescore else "") if self.dim else "-"


Dim = int | Literal["native"]


def parse_dims(text: str) -> tuple[Dim, ...]:
    """Read ``256,64`` or ``native``; raises OptionError."""
    dims: list[Dim] = []
    for word in filter(None, re.split(r"[,\s]+", text)):
        if word != "native" and not re.fullmatch(r"[1-9][0-9]{0,5}", word):
            raise OptionError(f"dim {word!r} is not a whole number of 1 or more, nor 'native'")
        dims.append("native" if word == "native" else int(word))
    if not dims:
        raise OptionError(f"dims {text!r} names no dimension; write them as 256,128,64 or native")
    return tuple(dims)


def default_dims(native: int, trained: Sequence[int]) -> set[int]:
    """The dimensions to measure where none are asked for: the native one and the Matryoshka ones, else the powers of two below it."""
    powers = {1 << power for power in range(native.bit_length()) if SMALLEST_UNTRAINED <= 1 << power < native}
    return {native, *(trained or powers)}


def parse_precisions(text: str) -> tuple[str, ...]:
    """Read ``int8,binary`` or ``all``; float32, which the others are held against, comes first. Raises OptionError."""
    words = [word for word in re.split(r"[,\s]+", text) if word]
    for word in words:
        if word not in PRECISIONS and word != "all":
            raise OptionError(f"precision {word!r} is not one of {', '.join(PRECISIONS)}, nor 'all'{nearest(word, PRECISIONS)}")
    return tuple(PRECISIONS if "all" in words else dict.fromkeys(["float32", *words]))


def parse_rescore(text: str) -> tuple[int, ...]:
    """Read ``2,4,10``; raises OptionError."""
    words = [word for word in re.split(r"[,\s]+", text) if word]
    for word in words:
        if not re.fullmatch(r"[1-9][0-9]{0,3}", word):
            raise OptionError(f"rescore {word!r} is not a whole number of 1 or more: how many times the cut-off is rescored, as in 4")
    return tuple(sorted({int(word) for word in words}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is measured of every model: see :class:`Variant`.

    Without ``dims``: the native one and the model's Matryoshka dimensions, or, where it has none, the powers of two from 32 up, marked as
    not trained for. ``precisions`` are exact. ``indexes`` are texts for harness.approximate, ``auto`` among them; they hold float32
    vectors, of all dimensions if these are given, else of the native one.
    """

    dims: Sequence[Dim] | None = None
    precisions: Sequence[str] = ("float32",)
    rescore: Sequence[int] = ()
    indexes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raise OptionError for a word in it that means nothing."""
        parse_precisions(",".join(self.precisions))
        parse_rescore(",".join(map(str, self.rescore)))
        approximate.expand(self.indexes, 1_000_000, 64)

    def cells(self, model: Model, documents: int = 0) -> list[Variant]:
        """The cells for one model and so many documents, largest dimension first; those that share an index stand together.

        Raises OptionError for a dim above the native one.
        """
        if not model.dim:
            return [Variant(0)]
        trained = {model.dim, *model.mrl_dims}
        found = []
        for dim in sorted(self._dims(model), reverse=True):
            first = [Variant(dim, precision, trained=dim in trained) for precision in self.precisions]
            if self.dims is not None or dim == model.dim:
                first += [Variant(dim, index=index, trained=dim in trained) for index in approximate.expand(self.indexes, documents, dim)]
            for one in first:
                found.append(one)
                if (one.dim, one.precision, one.index) != (model.dim, "float32", "Flat"):
                    found += [replace(one, rescore=times) for times in self.rescore]
        return found

    def _dims(self, model: Model) -> set[int]:
        if self.dims is None:
            return default_dims(model.dim, model.mrl_dims)
        wanted = {model.dim if dim == "native" else dim for dim in self.dims}
        if too_small := [dim for dim in wanted if dim < 1]:
            raise OptionError(f"dim {min(too_small)} is not a whole number of 1 or more")
        if too_large := [dim for dim in wanted if dim > model.dim]:
            raise OptionError(f"dim {max(too_large)} is larger than {model}'s native {model.dim}")
        return wanted
