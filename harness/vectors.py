"""Checks and views of embedding matrices: plain functions on arrays, no disk, no model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError

Matrix = NDArray[np.float32]


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
