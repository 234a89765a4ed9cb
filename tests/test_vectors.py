"""Embedding matrices: what is refused, and what truncation does."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import ModelError
from harness.vectors import check, truncate


def units(count, dim, seed=0):
    matrix = np.random.default_rng(seed).normal(size=(count, dim))
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def with_item(value):
    """Five good vectors of three dimensions, of which item 3 is spoilt."""
    matrix = np.ones((5, 3), dtype=np.float32)
    matrix[3] = value
    return matrix


def test_truncation_by_hand():
    assert truncate(np.array([[3, 4, 12], [0, -2, 5]], dtype=np.float32), 2) == pytest.approx(np.array([[0.6, 0.8], [0, -1]]))


def test_truncation_takes_the_first_dimensions_and_then_normalises():
    native = units(50, 64)
    cut = truncate(native, 16)
    assert cut.shape == (50, 16)
    assert cut.dtype == np.float32
    prefix = native[:, :16].astype(np.float64)
    np.testing.assert_allclose(cut, prefix / np.linalg.norm(prefix, axis=1, keepdims=True), rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(cut.astype(np.float64), axis=1), 1, rtol=0, atol=1e-6)


def test_the_native_dimension_is_normalised_too():
    assert truncate(np.array([[3, 4]], dtype=np.float32), 2) == pytest.approx(np.array([[0.6, 0.8]]))


def test_truncation_leaves_its_input_as_it_is():
    native = units(10, 8) * 2
    before = native.copy()
    native.setflags(write=False)  # as vectors mapped from the store are
    for dim in (4, 8):
        assert not np.shares_memory(truncate(native, dim), native)
    assert native.tobytes() == before.tobytes()


def test_a_row_is_truncated_alike_wherever_it_stands():
    native = units(100, 48)
    together = truncate(native, 32)
    for row in range(0, 100, 9):
        assert truncate(native[row : row + 1], 32).tobytes() == together[row].tobytes()


def test_tiny_prefixes_keep_their_direction():
    assert truncate(np.array([[3e-40, 4e-40, 1]], dtype=np.float32), 2) == pytest.approx(np.array([[0.6, 0.8]]), abs=1e-4)


@pytest.mark.parametrize("dim", [0, -1, 9])
def test_a_dim_outside_the_vectors_is_named_with_the_native_one(dim):
    with pytest.raises(ModelError, match=f"dim {dim} is not between 1 and the native 8"):
        truncate(units(2, 8), dim)


def test_a_prefix_of_zeros_has_no_direction_and_is_named():
    native = units(4, 8)
    native[2, :3] = 0
    assert truncate(native, 4).shape == (4, 4)
    with pytest.raises(ModelError, match="vector 2 is all zeros in its first 3 of 8 dimensions"):
        truncate(native, 3)


def test_good_vectors_come_back_contiguous_in_float32():
    given = np.asfortranarray(np.arange(1, 13, dtype=np.float64).reshape(4, 3))
    checked = check(given, 4, 3)
    assert checked.dtype == np.float32
    assert checked.flags.c_contiguous
    assert checked.tolist() == given.tolist()


@pytest.mark.parametrize("shape", [(4, 3), (5, 2), (15,), (5, 3, 1)])
def test_a_wrong_shape_is_named_with_the_expected_one(shape):
    with pytest.raises(ModelError) as error:
        check(np.ones(shape), 5, 3)
    assert f"shape {shape} to 5 items; expected (5, 3)" in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, [1, np.nan, 1]])
def test_a_vector_that_is_not_finite_is_named(value):
    with pytest.raises(ModelError, match="item 3 of 5 holds a NaN or an infinity"):
        check(with_item(value), 5, 3)


def test_a_number_too_large_for_float32_is_an_infinity():
    with pytest.raises(ModelError, match="item 3 of 5 holds a NaN or an infinity"):
        check(with_item(1).astype(np.float64) * [[1], [1], [1], [1e300], [1]], 5, 3)


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_a_vector_of_zeros_is_named(value):
    with pytest.raises(ModelError, match="item 3 of 5 is all zeros"):
        check(with_item(value), 5, 3)


def test_a_vector_with_some_zeros_is_fine():
    assert check(with_item([0, 0, 1]), 5, 3)[3].tolist() == [0, 0, 1]
