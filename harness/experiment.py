"""What is measured: the cells of the grid, and anything that ranks documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from harness.dataset import Dataset
from harness.embedder import Model
from harness.errors import OptionError
from harness.index import Ranking

SMALLEST_UNTRAINED = 32


@runtime_checkable
class System(Protocol):
    """Anything that answers queries by itself: BM25, a fusion, a reranker. Embedders become systems in the runner."""

    model: Model

    def rank(self, dataset: Dataset, k: int) -> Ranking:
        """Rank the first k documents for every query of the dataset, in the dataset's row order."""
        ...


@dataclass(frozen=True, slots=True)
class Variant:
    """One cell of the grid: how stored native vectors are cut, kept and searched.

    ``trained`` is False where the model was not trained to be cut at this dimension; it changes no number. A
    system without vectors has one cell, with dim 0.
    """

    dim: int
    precision: str = "float32"
    index: str = "Flat"
    trained: bool = True

    def __str__(self) -> str:
        return f"{self.dim}/{self.precision}/{self.index}" if self.dim else "-"


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


def grid(model: Model, dims: Sequence[Dim] | None = None) -> list[Variant]:
    """The dimensions to measure for a model, largest first.

    Without ``dims``: the native one and the model's Matryoshka dimensions, or, where it has none, the powers of two
    from 32 up, marked as not trained for. Raises OptionError for a dim above the native one.
    """
    if not model.dim:
        return [Variant(0)]
    trained = {model.dim, *model.mrl_dims}
    wanted = default_dims(model.dim, model.mrl_dims) if dims is None else {model.dim if dim == "native" else dim for dim in dims}
    if too_small := [dim for dim in wanted if dim < 1]:
        raise OptionError(f"dim {min(too_small)} is not a whole number of 1 or more")
    if too_large := [dim for dim in wanted if dim > model.dim]:
        raise OptionError(f"dim {max(too_large)} is larger than {model}'s native {model.dim}")
    return [Variant(dim, trained=dim in trained) for dim in sorted(wanted, reverse=True)]
