"""The cells of the grid: which dimensions are measured, and which the model was trained for."""

from __future__ import annotations

import pytest

from harness.embedder import Model
from harness.errors import OptionError
from harness.experiment import Grid, Variant, parse_dims


def grid(model, dims=None, **more):
    return Grid(dims=dims, **more).cells(model, 100_000)


def model(dim, *mrl_dims):
    return Model(provider="st", name="org/toy", revision="1", dim=dim, mrl_dims=mrl_dims)


def cells(variants):
    return [(variant.dim, variant.trained) for variant in variants]


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        ("256", (256,)),
        ("256,64", (256, 64)),
        ("64, 256 ,", (64, 256)),
        ("native", ("native",)),
        ("native,32", ("native", 32)),
    ],
)
def test_dims_are_read_in_the_order_they_are_written(text, dims):
    assert parse_dims(text) == dims


@pytest.mark.parametrize("word", ["0", "-64", "64.0", "Native", "all", "²", "6;4"])
def test_a_dim_that_is_no_whole_number_is_named_with_what_is_allowed(word):
    with pytest.raises(OptionError) as error:
        parse_dims(f"256,{word}")
    assert str(error.value) == f"dim {word!r} is not a whole number of 1 or more, nor 'native'"


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_no_dimension_at_all_is_an_error_with_the_fix(text):
    with pytest.raises(OptionError) as error:
        parse_dims(text)
    assert repr(text) in str(error.value)
    assert "256,128,64 or native" in str(error.value)


def test_a_matryoshka_model_is_measured_at_its_trained_dimensions_and_the_native_one():
    assert cells(grid(model(768, 64, 512, 128))) == [(768, True), (512, True), (128, True), (64, True)]


def test_a_native_dimension_among_the_matryoshka_ones_counts_once():
    assert cells(grid(model(768, 768, 256))) == [(768, True), (256, True)]


def test_other_models_are_measured_at_powers_of_two_marked_as_untrained():
    assert cells(grid(model(384))) == [(384, True), (256, False), (128, False), (64, False), (32, False)]


def test_a_native_power_of_two_is_trained():
    assert cells(grid(model(128))) == [(128, True), (64, False), (32, False)]


@pytest.mark.parametrize("dim", [8, 32])
def test_a_small_model_is_measured_at_its_native_dimension_only(dim):
    assert cells(grid(model(dim))) == [(dim, True)]


def test_wanted_dims_are_sorted_and_marked_by_what_the_model_was_trained_for():
    assert cells(grid(model(768, 256), [100, 256, 768, 100])) == [(768, True), (256, True), (100, False)]


def test_native_is_the_models_own_dimension():
    assert cells(grid(model(384), ["native"])) == [(384, True)]
    assert cells(grid(model(384), [64, "native", 384])) == [(384, True), (64, False)]


def test_a_dim_above_the_native_one_is_named_with_the_model():
    with pytest.raises(OptionError) as error:
        grid(model(384), [64, 512, 1024])
    assert str(error.value) == "dim 1024 is larger than st/org/toy's native 384"


def test_a_system_without_vectors_has_one_cell_whatever_dims_are_asked_for():
    assert grid(model(0)) == grid(model(0), [64]) == [Variant(0)]


def test_a_cell_is_written_with_all_that_tells_it_apart():
    assert [str(variant) for variant in grid(model(64))] == ["64/float32/Flat", "32/float32/Flat"]
    assert str(Variant(0)) == "-"


@pytest.mark.parametrize("dim", [0, -5])
def test_a_dim_below_one_is_refused(dim: int) -> None:
    with pytest.raises(OptionError, match=f"dim {dim} is not a whole number of 1 or more"):
        grid(Model(provider="test", name="m", revision="1", dim=64), [dim])
