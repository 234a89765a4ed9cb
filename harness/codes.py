"""Documents' vectors as they are held to be searched exactly: one class a precision, all with the same three methods.

``near`` proposes the best rows quickly, with scores that may be off by ``slack``; ``exact`` scores given rows, each pair summed in the
same order in float64, so that identical vectors get identical scores wherever they stand.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from harness import flat, vectors
from harness.errors import OptionError
from harness.flat import Near, Rows, Scores
from harness.vectors import Matrix, Ranges

_BLOCK_BYTES = 64 << 20  # float64 workspace of the rows that are cut at once
_IN_MEMORY = 256 << 20  # bytes: float32 vectors beyond that live in an unlinked file beside those they are cut from
_PAIR_BYTES = 4 << 20  # float64 workspace of the pairs that are scored at once: what stays in the processor's cache
_SUM = 4096  # terms of one sum of products
_EPSILON = 2.0**-24  # a float32 sum of n products of unit vectors is off by at most n times that


def import_faiss() -> Any:
    """Import faiss; raises OptionError with the fix where none, or both, of its two distributions are installed."""
    both = [name for name in ("faiss-cpu", "faiss-gpu") if _installed(name)]
    if len(both) == 2:
        fix = "pip uninstall faiss-cpu faiss-gpu, then install bakeoff[cpu] or bakeoff[gpu]"
        raise OptionError(f"faiss-cpu and faiss-gpu are both installed and break each other: {fix}")
    try:
        import faiss
    except ImportError as error:
        raise OptionError(f"no usable faiss ({error}): install bakeoff[cpu], or bakeoff[gpu] on Linux with CUDA 12") from error
    return faiss


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def default_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(faiss: Any, threads: int) -> None:
    """Search with so many threads from here on: those of FAISS, and those of NumPy's products."""
    faiss.omp_set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


class Codes(Protocol):
    """Vectors of documents in one precision; queries come as unit vectors ``(queries, dim)`` float32."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take."""

    def near(self, queries: Matrix, fetch: int) -> Near:
        """The best ``fetch`` rows of each query, best first: scores and rows, both ``(queries, fetch)``."""

    def exact(self, queries: Matrix, rows: Rows) -> Scores:
        """The scores of ``rows`` ``(queries, c)``."""

    def slack(self, queries: Matrix) -> NDArray[np.float64]:
        """By how much a score of ``near`` may differ from that of ``exact``, ``(queries,)``."""


def cut(native: Matrix, dim: int) -> Iterator[Matrix]:
    """The first ``dim`` dimensions of stored vectors ``(n, native)``, normalised, a block of rows at a time."""
    rows = max(1, _BLOCK_BYTES // (8 * dim))
    for start in range(0, len(native), rows):
        yield vectors.truncate(native[start : start + rows], dim, first_row=start)


class Float32:
    """Vectors as they are; those that would fill memory lie in a file, and pages of it come and go."""

    def __init__(self, native: Matrix, dim: int) -> None:
        self.matrix = _blank((len(native), dim), native)
        at = 0
        for block in cut(native, dim):
            self.matrix[at : at + len(block)] = block
            at += len(block)
        self.size, self.nbytes = len(self.matrix), self.matrix.nbytes
        self._faiss = import_faiss()

    def near(self, queries: Matrix, fetch: int) -> Near:
        """By the faster way that this machine has."""
        return self.way(len(queries))(queries, self.matrix, fetch)

    def way(self, queries: int) -> flat.Way:
        """How so many queries are searched for; the first time that there is much to do, this machine is tried out."""
        return flat.way(self._faiss, queries, self.matrix.size)

    def exact(self, queries: Matrix, rows: Rows) -> Scores:
        """Inner products."""
        return products(queries.astype(np.float64), rows, lambda some: self.matrix[some])

    def slack(self, queries: Matrix) -> NDArray[np.float64]:
        """Of float32 sums."""
        return np.full(len(queries), queries.shape[1] * _EPSILON)


class _Scalar:
    """Vectors in a scalar quantiser of FAISS, which decodes one value after the other while it searches."""

    kind: ClassVar[str]
    width: ClassVar[int]  # bytes of a value

    def __init__(self, dim: int) -> None:
        faiss = import_faiss()
        self.index = faiss.IndexScalarQuantizer(dim, getattr(faiss.ScalarQuantizer, self.kind), faiss.METRIC_INNER_PRODUCT)
        self._faiss, self.dim = faiss, dim

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self.index.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take."""
        return self.size * self.dim * self.width

    @property
    def held(self) -> NDArray[np.uint8]:
        """The bytes inside FAISS, ``(n, dim * width)``, without a copy."""
        width = self.dim * self.width
        return np.asarray(self._faiss.rev_swig_ptr(self.index.codes.data(), self.size * width)).reshape(self.size, width)


class Float16(_Scalar):
    """Documents and queries rounded to float16."""

    kind, width = "QT_fp16", 2

    def __init__(self, native: Matrix, dim: int) -> None:
        super().__init__(dim)
        for block in cut(native, dim):
            self.index.add(vectors.halves(block))

    def near(self, queries: Matrix, fetch: int) -> Near:
        """By FAISS."""
        found: Near = self.index.search(vectors.halves(queries), fetch)
        return found

    def exact(self, queries: Matrix, rows: Rows) -> Scores:
        """Inner products of what is left of both."""
        held = self.held.view(np.float16)
        return products(vectors.halves(queries).astype(np.float64), rows, lambda some: held[some].astype(np.float64))

    def slack(self, queries: Matrix) -> NDArray[np.float64]:
        """Of float32 sums; rounding makes no vector longer than 1 + 2**-11."""
        return np.full(len(queries), 1.01 * queries.shape[1] * _EPSILON)


class Int8(_Scalar):
    """Documents in one byte a value, by the corpus's own ranges, and queries by the same ones; scores are those of what they stand for.

    FAISS decodes a byte c as low + (c + 0.5) / 255 of the whole range. (Its kinds that take bytes as they are make bytes of queries too.)
    """

    kind, width = "QT_8bit", 1
    asymmetric = False

    def __init__(self, native: Matrix, dim: int) -> None:
        super().__init__(dim)
        stride = -(-len(native) // vectors.SAMPLE)
        self.ranges = Ranges.learn(np.concatenate(list(cut(native[::stride], dim))))
        low, step = self.ranges.low, self.ranges.step
        self._faiss.copy_array_to_vector(np.concatenate([low - step / 2, 255 * step]), self.index.sq.trained)
        self.index.is_trained = True
        for block in cut(native, dim):
            self.index.add_sa_codes(vectors.as_uint8(self.ranges.encode(block)))

    def _asked(self, queries: Matrix) -> Matrix:
        return queries if self.asymmetric else self.ranges.decode(self.ranges.encode(queries))

    def near(self, queries: Matrix, fetch: int) -> Near:
        """By FAISS."""
        found: Near = self.index.search(self._asked(queries), fetch)
        return found

    def exact(self, queries: Matrix, rows: Rows) -> Scores:
        """Inner products of what the codes stand for."""
        held, low, step = self.held, self.ranges.low.astype(np.float64), self.ranges.step.astype(np.float64)
        return products(self._asked(queries).astype(np.float64), rows, lambda some: low + held[some] * step)

    def slack(self, queries: Matrix) -> NDArray[np.float64]:
        """Of float32 sums, and of float32 values that are decoded in another way: to within four roundings of the largest."""
        largest = np.abs(self.ranges.low).astype(np.float64) + 256 * self.ranges.step
        return np.asarray((queries.shape[1] + 4) * _EPSILON * (np.abs(self._asked(queries)) @ largest))


class Int8Asymmetric(Int8):
    """The same documents, and queries as they are."""

    asymmetric = True


class Binary:
    """Documents and queries as signs; a score is the cosine of two vectors of 1 and -1: 1 - 2 differing bits / dim."""

    def __init__(self, native: Matrix, dim: int) -> None:
        faiss = import_faiss()
        bits = np.concatenate([vectors.signs(block) for block in cut(native, dim)])
        self.bits, self.dim, self.size, self.nbytes = bits, dim, len(bits), bits.nbytes
        self._index = faiss.IndexBinaryFlat(8 * bits.shape[1])
        self._index.add(bits)
        self.bits = np.asarray(faiss.rev_swig_ptr(self._index.xb.data(), bits.size)).reshape(bits.shape)

    def near(self, queries: Matrix, fetch: int) -> Near:
        """By FAISS: a scan with XOR and a count of bits."""
        differing, rows = self._index.search(vectors.signs(queries), fetch)
        return self._cosine(differing), rows

    def exact(self, queries: Matrix, rows: Rows) -> Scores:
        """The same of given rows."""
        asked, found = vectors.signs(queries), np.empty(rows.shape, dtype=np.int32)
        lines = max(1, _BLOCK_BYTES // (rows.shape[1] * self.bits.shape[1]))
        for top in range(0, len(rows), lines):
            differing = self.bits[rows[top : top + lines]] ^ asked[top : top + lines, None, :]
            found[top : top + lines] = np.bitwise_count(differing).sum(axis=2, dtype=np.int32)
        return self._cosine(found)

    def _cosine(self, differing: NDArray[np.int32]) -> Scores:
        return ((self.dim - 2 * differing) / self.dim).astype(np.float32)

    def slack(self, queries: Matrix) -> NDArray[np.float64]:
        """None: bits are counted."""
        return np.zeros(len(queries))


class BinaryAsymmetric:
    """Documents as signs, and queries as they are: the cosine of a query and a vector of 1 and -1."""

    def __init__(self, native: Matrix, dim: int) -> None:
        self._faiss, self.dim = import_faiss(), dim
        self.bits = np.concatenate([vectors.signs(block) for block in cut(native, dim)])
        self.size, self.nbytes = len(self.bits), self.bits.nbytes

    def near(self, queries: Matrix, fetch: int) -> Near:
        """By matrix products with blocks of signs."""
        rows = max(fetch, _BLOCK_BYTES // (8 * self.dim))
        best: Near | None = None
        for start in range(0, self.size, rows):
            block = vectors.from_signs(self.bits[start : start + rows], self.dim)
            found = self._faiss.knn(queries, block, min(fetch, len(block)), metric=self._faiss.METRIC_INNER_PRODUCT)
            best = merge(best, (found[0], found[1] + start), fetch)
        assert best is not None
        return best

    def exact(self, queries: Matrix, rows: Rows) -> Scores:
        """Inner products."""

        def decode(some: Rows) -> NDArray[np.float64]:
            flat = vectors.from_signs(self.bits[some.ravel()], self.dim)
            return flat.reshape(*some.shape, self.dim).astype(np.float64)

        return products(queries.astype(np.float64), rows, decode)

    def slack(self, queries: Matrix) -> NDArray[np.float64]:
        """Of float32 sums."""
        return np.full(len(queries), queries.shape[1] * _EPSILON)


PRECISIONS: Mapping[str, tuple[Callable[[Matrix, int], Codes], float]] = {
    "float32": (Float32, 4),
    "float16": (Float16, 2),
    "int8": (Int8, 1),
    "int8-asymmetric": (Int8Asymmetric, 1),
    "binary": (Binary, 1 / 8),
    "binary-asymmetric": (BinaryAsymmetric, 1 / 8),
}
"""Every precision: what holds documents in it, and bytes a value. Asymmetric: queries stay float32."""


def bytes_each(precision: str, dim: int) -> int:
    """Bytes of one vector."""
    return int(np.ceil(PRECISIONS[precision][1] * dim))


def merge(one: Near | None, other: Near, fetch: int) -> Near:
    """The best ``fetch`` of two lists of the same queries, each best first."""
    if one is None:
        return other
    scores, rows = (np.concatenate([left, right], axis=1) for left, right in zip(one, other, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :fetch]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def products(queries: NDArray[np.float64], rows: Rows, decode: Callable[[Rows], NDArray[np.floating[Any]]]) -> Scores:
    """Inner products ``(queries, c)`` of queries and their rows ``(queries, c)``, of which ``decode`` makes vectors.

    All is summed in float64, since the queries are; einsum keeps one order of summing up to 8,192 terms.
    """
    (count, width), dim = rows.shape, queries.shape[1]
    exact = np.empty((count, width), dtype=np.float32)
    columns = max(1, min(width, _PAIR_BYTES // (8 * dim)))
    lines = max(1, _PAIR_BYTES // (8 * dim * columns))
    for top in range(0, count, lines):
        wanted = queries[top : top + lines]
        for left in range(0, width, columns):
            found = decode(rows[top : top + lines, left : left + columns])  # (queries, c, dim)
            pieces = [np.einsum("qcd,qd->qc", found[..., at : at + _SUM], wanted[:, at : at + _SUM]) for at in range(0, dim, _SUM)]
            exact[top : top + lines, left : left + columns] = sum(pieces[1:], pieces[0])
    return exact


def _blank(shape: tuple[int, int], beside: Matrix) -> Matrix:
    """Room for a matrix: in memory, or in a file beside that of ``beside`` where both are large."""
    if shape[0] * shape[1] * 4 <= _IN_MEMORY or not isinstance(beside, np.memmap) or not beside.filename:
        return np.empty(shape, dtype=np.float32)
    with tempfile.NamedTemporaryFile(dir=Path(beside.filename).parent, suffix=".view") as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
