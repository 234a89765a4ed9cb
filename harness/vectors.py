"""Checks and views of embedding matrices: plain functions on arrays, no disk, no model.

The order is always the same: truncate, then normalise (:func:`truncate` does both), then quantise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError

Matrix = NDArray[np.float32]
Bits = NDArray[np.uint8]
SAMPLE = 1 << 14
"""Rows, spread over a corpus, whose extremes are its ranges."""
_STEPS = 255  # between the 256 values of a byte


def check(vectors: NDArray[Any], count: int, dim: int) -> Matrix:
    """Return what a model gave as a C-contiguous float32 matrix ``(count, dim)``, once it is known to be usable.

    Raises ModelError for a wrong shape, a NaN or infinity, or a row of zeros: a zero row scores 0 against
    everything, ties with every other zero row, and can earn a recall of 1 by accident.
    """
    with np.errstate(over="ignore"):  # what is too large becomes an infinity, and is refused below
        matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.shape != (count, dim):
        raise ModelError(f"the model answered with shape {matrix.shape} to {count} items; expected ({count}, {dim})")
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise ModelError(f"the vector of item {int(np.argmin(finite))} of {count} holds a NaN or an infinity")
    nonzero = matrix.any(axis=1)
    if not nonzero.all():
        raise ModelError(f"the vector of item {int(np.argmin(nonzero))} of {count} is all zeros")
    return matrix


def truncate(matrix: Matrix, dim: int, first_row: int = 0) -> Matrix:
    """Return the first ``dim`` columns of ``(n, native)``, each row scaled to length 1; the input is left as it is.

    Truncate first, normalise second: a prefix of a unit vector is not a unit vector. Rows whose prefix is all
    zeros have no direction at this dimension and raise ModelError, which counts rows from ``first_row``.
    """
    native = matrix.shape[1]
    if not 1 <= dim <= native:
        raise ModelError(f"dim {dim} is not between 1 and the native {native}")
    prefix = matrix[:, :dim].astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", prefix, prefix))
    if not norms.all():
        raise ModelError(f"vector {first_row + int(np.argmin(norms != 0))} is all zeros in its first {dim} of {native} dimensions")
    prefix /= norms[:, None]
    return prefix.astype(np.float32)


def halves(matrix: Matrix) -> Matrix:
    """Round ``(n, dim)`` to what float16 can hold; the array stays float32, so that sums are float32's."""
    return matrix.astype(np.float16).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Where the values of each dimension of a corpus lie: ``low`` and the ``step`` between two of 256 values, each ``(dim,)`` float32.

    They are learnt once, from documents, and used for queries too: codes by other ranges can't be compared.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]

    @classmethod
    def learn(cls, matrix: Matrix) -> Ranges:
        """The smallest and the largest value of each dimension, in at most 16,384 rows spread over ``(n, dim)``."""
        sample = matrix[:: -(-len(matrix) // SAMPLE)]
        low, high = sample.min(axis=0), sample.max(axis=0)
        step = (high.astype(np.float64) - low) / _STEPS
        return cls(low.astype(np.float32), np.where(step > 0, step, 1.0).astype(np.float32))

    def encode(self, matrix: Matrix) -> NDArray[np.int8]:
        """The nearest of 256 values for each of ``(n, dim)``, -128 to 127; what is out of range becomes the end of it."""
        places = np.rint((matrix - self.low) / self.step)
        codes: NDArray[np.int8] = (np.clip(places, 0, _STEPS) - 128).astype(np.int8)
        return codes

    def decode(self, codes: NDArray[np.int8]) -> Matrix:
        """What codes ``(n, dim)`` stand for."""
        return (self.low + (codes.astype(np.float32) + 128) * self.step).astype(np.float32)


def as_uint8(codes: NDArray[np.int8]) -> Bits:
    """The same codes as 0 to 255, in the same order of size, for what takes no negative ones."""
    return codes.view(np.uint8) ^ np.uint8(128)


def signs(matrix: Matrix) -> Bits:
    """One bit for each value of ``(n, dim)``, set where it is above zero, eight to a byte: ``(n, ceil(dim / 8))``; the rest is unset."""
    return np.packbits(matrix > 0, axis=1)


def from_signs(bits: Bits, dim: int) -> Matrix:
    """The unit vectors that signs stand for: 1 or -1, over the square root of ``dim``, ``(n, dim)``."""
    return (np.unpackbits(bits, axis=1, count=dim).astype(np.float32) * 2 - 1) / np.float32(np.sqrt(dim))
