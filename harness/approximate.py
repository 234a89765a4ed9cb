"""Indexes in FAISS's factory language, ``IVF64,Flat`` or ``HNSW32``, with search parameters behind them: ``HNSW32?efSearch=16,64``.

They find most of what an exact search finds, sooner or in fewer bytes. Equal scores at the end of a ranking are put in order among those
that were found: what was not found cannot be.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from harness.codes import cut, import_faiss, use_threads
from harness.errors import ModelError, OptionError, nearest
from harness.flat import Rows
from harness.index import Ranking, rank
from harness.vectors import Matrix

_A_CENTROID = 39  # training vectors that FAISS wants for each centroid
_TRAINED_ON = 1 << 18  # vectors, spread over the corpus, that an index learns from at most
_PARAMETERS = ("nprobe", "efSearch", "k_factor", "ht", "max_codes", "qb")
_PIECES = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\([^()]*\))?")
_IVF, _PQ, _HNSW, _SQ = (re.compile(text) for text in (r"IVF(\d+)", r"PQ(\d+)(?:x(\d+))?(?:fs)?", r"HNSW(\d+)?", r"SQ(\d+)?(fp16|bf16)?"))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What FAISS builds, and the search parameters to try on it: name -> values. ``text`` is how it was written."""

    factory: str
    parameters: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read ``IVF64,Flat?nprobe=1,8&…``; raises OptionError with what is allowed."""
        factory, _, query = text.replace(" ", "").partition("?")
        if not factory or not all(_PIECES.fullmatch(piece) for piece in re.split(r",(?![^()]*\))", factory)):
            raise OptionError(f"index {text!r} is not written as FAISS's index factory wants it, as in HNSW32 or IVF64,Flat?nprobe=1,8")
        found = []
        for word in filter(None, query.split("&")):
            name, _, values = word.partition("=")
            if name not in _PARAMETERS:
                raise OptionError(f"index {text!r}: {name!r} is not one of {', '.join(_PARAMETERS)}{nearest(name, _PARAMETERS)}")
            if not re.fullmatch(r"[1-9]\d{0,6}(,[1-9]\d{0,6})*", values):
                raise OptionError(f"index {text!r}: {name} should be whole numbers of 1 or more, as in {name}=1,8,32")
            found.append((name, tuple(dict.fromkeys(map(int, values.split(","))))))
        return cls(factory, tuple(found))

    def settings(self) -> list[str]:
        """Every combination of the parameters as ``HNSW32?efSearch=16``, each of which is an index of its own to a user."""
        names = [name for name, _ in self.parameters]
        combined = product(*(values for _, values in self.parameters))
        joined = ["&".join(f"{name}={value}" for name, value in zip(names, values, strict=True)) for values in combined]
        return [f"{self.factory}?{setting}" if setting else self.factory for setting in joined]


def auto(documents: int, dim: int) -> list[Recipe]:
    """A sensible sweep for so many documents: what can be trained on them, from the largest and surest to the smallest.

    About 4 sqrt(n) clusters, as FAISS's guidelines have it, and no more than can be trained.
    """
    most = documents // _A_CENTROID
    clusters = 1 << max(0, int(np.log2(max(1.0, min(4 * np.sqrt(documents), most)))))
    found = [Recipe("HNSW32", (("efSearch", (16, 64, 256)),)), Recipe("SQ8")]
    if clusters >= 8:
        tried = tuple(sorted({1, max(1, clusters // 16), max(1, clusters // 4)}))
        found.append(Recipe(f"IVF{clusters},Flat", (("nprobe", tried),)))
        parts = next(parts for parts in (dim // 4, dim // 2, dim) if parts and dim % parts == 0)
        if documents >= _A_CENTROID * 256:
            found.append(Recipe(f"IVF{clusters},PQ{parts}", (("nprobe", tried),)))
        elif documents >= _A_CENTROID * 16:
            found.append(Recipe(f"PQ{parts}x4"))
    return [*found, Recipe("RaBitQ")]


def refusal(factory: str, documents: int) -> str:
    """Why an index cannot be trained on so few documents; nothing where it can."""
    if "CAGRA" in factory:
        return "CAGRA needs a GPU and a FAISS with cuVS, which is not in the faiss-gpu of PyPI; HNSW32 is a graph that is"
    wanted = {}
    if found := _IVF.search(factory):
        wanted[found[0]] = int(found[1])
    if found := _PQ.search(factory):
        wanted[found[0]] = 1 << int(found[2] or 8)
    for piece, centroids in wanted.items():
        if documents < _A_CENTROID * centroids:
            fits = documents // _A_CENTROID
            smaller = "PQ with 4 bits (as in PQ16x4)" if fits >= 16 else "HNSW32 or SQ8"
            fix = f"IVF{fits}" if piece.startswith("IVF") and fits > 1 else smaller
            need = f"{_A_CENTROID * centroids:,} vectors to learn {centroids:,} centroids, {_A_CENTROID} for each"
            return f"{piece} wants {need}; there are {documents:,}: {fix} can be trained"
    return ""


def formula(factory: str, dim: int, documents: int) -> float | None:
    """Bytes of one vector by what is known of the index's layout; None for one that is not. Sources: FAISS wiki, "Faiss indexes";
    FAISS 1.15, HNSW.h (2 M neighbours of four bytes at the bottom, M above for one vector in M, an offset and a level).
    """
    total, code = 0.0, None
    for piece in factory.split(","):
        if found := _IVF.fullmatch(piece):
            total += 8 + int(found[1]) * 4 * dim / documents
        elif found := _HNSW.fullmatch(piece):
            total += 8 * int(found[1] or 32) + 16
            code = code or 4.0 * dim
        elif found := _PQ.fullmatch(piece):
            bits = int(found[2] or 8)
            code = np.ceil(int(found[1]) * bits / 8)
            total += (1 << bits) * 4 * dim / documents  # the centroids
        elif found := _SQ.fullmatch(piece):
            code = dim * (2.0 if found[2] else int(found[1] or 8) / 8)
        elif piece == "RaBitQ":
            code = np.ceil(dim / 8) + 8
        elif piece == "Flat":
            code = 4.0 * dim
        else:
            return None
    return None if code is None else float(total + code)


class Approximate:
    """One index, built once and searched with any parameters."""

    def __init__(self, native: Matrix, dim: int, factory: str, threads: int) -> None:
        """Train and fill it with the first ``dim`` dimensions of ``(n, native)``; raises ModelError where FAISS will not."""
        faiss = import_faiss()
        use_threads(faiss, threads)
        self._faiss, self.size = faiss, len(native)
        if reason := refusal(factory, self.size):
            raise ModelError(reason)
        began = time.perf_counter()
        try:
            index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
            if not index.is_trained:
                index.train(np.concatenate(list(cut(native[:: -(-self.size // _TRAINED_ON)], dim))))
            for block in cut(native, dim):
                index.add(block)
        except RuntimeError as error:
            raise ModelError(f"FAISS does not build {factory} for {dim} dimensions: {_last(error)}") from error
        self.index, self.device = _on_gpus(faiss, index)
        self._cpu = index
        self.build_seconds = time.perf_counter() - began

    @cached_property
    def nbytes(self) -> int:
        """Bytes that FAISS writes when it saves the index."""
        written = 0

        def count(some: bytes) -> None:
            nonlocal written
            written += len(some)

        self._faiss.write_index(self._cpu, self._faiss.PyCallbackIOWriter(count, 1 << 20))
        return written

    def search(self, queries: Matrix, k: int, tie_order: Rows, parameters: str = "") -> Ranking:
        """Rank documents for unit query vectors ``(queries, dim)``; raises ModelError for parameters that the index does not have."""
        if parameters:
            try:
                self._space().set_index_parameters(self.index, parameters.replace("&", ","))
            except RuntimeError as error:
                raise ModelError(f"this index takes no {parameters.partition('=')[0]}") from error
        fetch = min(self.size, k + max(16, k // 4))
        scores, rows = self.index.search(queries, fetch)
        return rank(np.where(rows < 0, -np.inf, scores).astype(np.float32), rows, tie_order, k)

    def _space(self) -> Any:
        return self._faiss.ParameterSpace() if self.device == "cpu" else self._faiss.GpuParameterSpace()


def _on_gpus(faiss: Any, index: Any) -> tuple[Any, str]:
    """The index on all GPUs, where there are some and FAISS can search its kind there, else as it is; and where it is."""
    count = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    if not count:
        return index, "cpu"
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    try:
        return faiss.index_cpu_to_all_gpus(index, co=options), f"gpu x {count}"
    except RuntimeError:  # HNSW, RaBitQ and others have no twin there
        return index, "cpu"


def _last(error: RuntimeError) -> str:
    """FAISS's reason without where in its source it comes from."""
    return str(error).rpartition("Error: ")[2].strip().splitlines()[0]


def expand(texts: Sequence[str], documents: int, dim: int) -> list[str]:
    """Every index that is asked for, ``auto`` by its sweep and parameters one by one; raises OptionError."""
    found: list[str] = []
    for text in texts:
        recipes = auto(documents, dim) if text == "auto" else [Recipe.parse(text)]
        found += [setting for recipe in recipes for setting in recipe.settings()]
    return list(dict.fromkeys(found))
