from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness import stats


def scores(queries: int = 120, variants: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(0.5, 0.4, (queries, 1)) + rng.normal(0, 0.2, (queries, variants)), 0, 1)


def test_intervals_agree_with_scipys_bca() -> None:
    sample = scores() ** 3  # skewed
    ours = stats.intervals(sample, resamples=20_000)
    for column in range(sample.shape[1]):
        data = (sample[:, column],)
        theirs = scipy_stats.bootstrap(data, np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
        assert ours[column] == pytest.approx([theirs.low, theirs.high], abs=0.004)


def test_a_very_skewed_interval_agrees_with_scipys_and_not_with_the_plain_one() -> None:
    sample = np.random.default_rng(4).exponential(size=(40, 1)) ** 1.5
    low, high = stats.intervals(sample, resamples=40_000)[0]
    theirs = scipy_stats.bootstrap((sample[:, 0],), np.mean, n_resamples=40_000, method="BCa", rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.04)


def test_the_interval_of_a_skewed_mean_reaches_further_to_its_long_side() -> None:
    sample = np.concatenate([np.zeros(90), np.ones(10)])[:, None]
    low, high = stats.intervals(sample)[0]
    assert high - 0.1 > 1.1 * (0.1 - low)


def test_a_column_without_spread_has_no_width() -> None:
    assert stats.intervals(np.full((60, 1), 0.25)).tolist() == [[0.25, 0.25]]


def test_the_randomisation_test_agrees_with_scipys() -> None:
    sample = scores(40, 3)
    gaps = sample[:, 1:] - sample[:, :1]
    ours = stats.randomisation_test(gaps, resamples=40_000)
    for column in range(gaps.shape[1]):
        theirs = scipy_stats.permutation_test(
            (gaps[:, column], np.zeros(40)),
            lambda x, y, axis: (x - y).mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=40_000,
            rng=1,
        )
        assert ours[column] == pytest.approx(theirs.pvalue, abs=0.012)


def test_a_small_randomisation_test_equals_all_its_flips() -> None:
    gaps = np.array([0.3, 0.1, -0.2, 0.5, 0.4])
    flips = np.array(np.meshgrid(*[[1, -1]] * 5)).reshape(5, -1)
    exact = (np.abs(gaps @ flips) >= abs(gaps.sum()) - 1e-9).mean()
    assert stats.randomisation_test(gaps[:, None], resamples=50_000)[0] == pytest.approx(exact, abs=0.01)


def test_no_difference_has_p_one_and_a_clear_one_the_smallest_there_is() -> None:
    gaps = np.stack([np.zeros(50), np.full(50, 0.2)], axis=1)
    assert stats.randomisation_test(gaps, resamples=999).tolist() == [1.0, pytest.approx(1 / 1000)]


def test_holm_by_hand() -> None:
    assert stats.holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_the_tied_group_keeps_what_cannot_be_told_apart_and_drops_what_can() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(200)
    sample = np.stack([base, base + rng.normal(0, 0.02, 200), base.copy(), base - 0.3 + rng.normal(0, 0.1, 200)], axis=1)
    assert stats.tied_for_best(sample).tolist() == [True, True, True, False]


def test_the_tied_group_drops_what_loses_by_the_same_on_every_query() -> None:
    base = np.random.default_rng(2).random(100)
    assert stats.tied_for_best(np.stack([base, base - 0.001], axis=1)).tolist() == [True, False]


def test_the_tied_group_is_never_empty_and_holds_the_highest_mean() -> None:
    for seed in range(20):
        sample = scores(15, 6, seed)
        assert stats.tied_for_best(sample, resamples=500)[sample.mean(axis=0).argmax()]
    assert stats.tied_for_best(np.ones((1, 1))).tolist() == [True]


def test_the_tied_group_keeps_its_promise_when_all_are_equal() -> None:
    """One of 12 equal variants is named before each draw: the group holds it in 95 % of 400 leaderboards, within 3 sigma."""
    rng = np.random.default_rng(3)
    held = [stats.tied_for_best(rng.normal(0, 1, (30, 12)), resamples=400, seed=at)[0] for at in range(400)]
    assert np.mean(held) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)
    assert np.mean(held) < 1  # and does so without keeping everyone always


def test_rough_intervals_are_marked() -> None:
    rare = np.zeros((100, 1))
    rare[:9] = 0.5
    assert stats.rough(rare).tolist() == [True]
    rare[:10] = 0.5
    assert stats.rough(rare).tolist() == [False]
    assert stats.rough(scores(49, 1)).tolist() == [True]
    assert stats.rough(scores(50, 1)).tolist() == [False]


def test_a_comparison_counts_and_weighs() -> None:
    one, other = np.array([1.0, 0.5, 0.5, 0.0] * 20), np.array([0.0, 0.5, 0.0, 0.5] * 20)
    (found,) = stats.compare(one[:, None], other)
    assert (found.wins, found.ties, found.losses) == (40, 20, 20)
    assert found.difference == 0.25
    assert found.effect == pytest.approx(0.25 / np.std(one - other, ddof=1))
    assert found.low < 0.25 < found.high
    assert found.p < 0.01


def test_detectable_differences_are_those_of_the_rule_of_thumb() -> None:
    found = [round(stats.detectable_difference(0.25, count), 3) for count in (50, 100, 300, 1000)]
    assert found == [0.099, 0.070, 0.040, 0.022]
    assert stats.queries_needed(0.25, 0.04) == pytest.approx(300, abs=10)
    assert stats.queries_needed(0.25, 0.0) is None


def test_the_same_seed_gives_the_same_answer() -> None:
    sample = scores(80, 5)
    assert (stats.intervals(sample) == stats.intervals(sample)).all()
    assert (stats.tied_for_best(sample) == stats.tied_for_best(sample)).all()


def kinds(queries: int = 120, apart: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``(queries, 2)`` of queries of two kinds, a third of them easy, and each query's kind."""
    strata = (np.arange(queries) % 3 == 0).astype(np.int64)
    skewed = np.random.default_rng(5).exponential(0.1, (queries, 2))
    return np.clip(skewed + apart * strata[:, None], 0, 1), strata


def test_stratified_intervals_agree_with_scipys_bootstrap_of_several_samples() -> None:
    """Skewed enough that deviations from the mean of all, in place of the stratum's, would be seen."""
    strata = np.repeat([0, 1], [25, 15])
    column = np.random.default_rng(7).exponential(size=40) ** 1.5 + 8 * strata
    ours = stats.intervals(column[:, None], strata, resamples=40_000)[0]

    def mean(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        return (25 * one.mean(axis=axis) + 15 * other.mean(axis=axis)) / 40

    parts = column[strata == 0], column[strata == 1]
    theirs = scipy_stats.bootstrap(parts, mean, n_resamples=40_000, method="BCa", rng=1).confidence_interval
    assert tuple(ours) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_stratified_intervals_are_narrower_where_the_strata_differ_by_what_the_textbook_says() -> None:
    """Standard error of a stratified mean: sqrt(sum of n_h * variance_h) / n (Cochran, Sampling Techniques, 1977, ch. 5)."""
    sample, strata = kinds(300)
    column = sample[:, 0]
    plain, narrow = (float(np.diff(stats.intervals(sample, by)[0])[0]) for by in (None, strata))
    error = math.sqrt(sum((strata == kind).sum() * column[strata == kind].var() for kind in (0, 1))) / 300
    assert narrow == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert plain == pytest.approx(2 * 1.96 * column.std() / math.sqrt(300), rel=0.04)
    assert narrow < 0.5 * plain


def test_what_differs_between_strata_only_has_no_width() -> None:
    strata = np.repeat([3, 7], [20, 40])
    assert stats.intervals(strata[:, None] / 10, strata)[0] == pytest.approx([17 / 30, 17 / 30], abs=1e-12)


def test_one_stratum_is_no_stratum() -> None:
    sample = scores()
    assert (stats.intervals(sample, np.full(len(sample), 9)) == stats.intervals(sample)).all()


def test_strata_narrow_a_comparison_and_leave_its_p_alone() -> None:
    sample, strata = kinds()
    (plain,), (narrow,) = (stats.compare(sample[:, :1], np.full(len(sample), 0.2), by) for by in (None, strata))
    assert narrow.high - narrow.low < 0.6 * (plain.high - plain.low)
    assert (narrow.difference, narrow.p, narrow.wins) == (plain.difference, plain.p, plain.wins)


@pytest.mark.parametrize("stratified", [False, True])
def test_a_columns_interval_does_not_depend_on_the_columns_beside_it(stratified: bool) -> None:
    """Means of thirds often equal the sample's own but for the last bit, which another order of summing turns."""
    for seed in range(6):
        sample = np.random.default_rng(seed).integers(0, 4, (60, 8)) / 3
        strata = np.arange(60) % 2 if stratified else None
        together = stats.intervals(sample, strata)
        alone = [stats.intervals(sample[:, [column]], strata)[0] for column in range(8)]
        assert together == pytest.approx(np.array(alone), abs=1e-12)


def test_what_is_shown_to_lose_at_most_a_share_by_hand() -> None:
    best = np.random.default_rng(0).uniform(0.4, 0.6, 100)
    sample = np.stack([best, best * 0.985, best * 0.97], axis=1)
    assert stats.shown_to_lose_at_most(sample, 0.02).tolist() == [True, True, False]
    assert stats.shown_to_lose_at_most(sample, 0.01).tolist() == [True, False, False]
    assert stats.shown_to_lose_at_most(sample, 0.0).tolist() == [True, False, False]


def test_a_small_loss_that_may_be_a_large_one_is_not_shown_to_be_small() -> None:
    rng = np.random.default_rng(0)
    best, noise = rng.uniform(0.4, 0.6, 100), rng.normal(0, 0.2, 100)
    other = best - 0.005 + noise - noise.mean()  # 1 % less, give or take 8 %
    assert stats.shown_to_lose_at_most(np.stack([best, other], axis=1), 0.02).tolist() == [True, False]


def test_the_optimism_of_a_pick_is_what_it_loses_on_average_against_the_truth() -> None:
    """200 leaderboards of 20 equal systems, the first within reach of the best is picked: how far is it above all of them?"""
    flattered, said = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sample = rng.normal(0.5, 0.25, (60, 1)) + rng.normal(0, 0.25, (60, 20))
        tied = stats.tied_for_best(sample, resamples=300)
        picked = int(np.argmax(tied))
        flattered.append(sample[:, picked].mean() - sample.mean())
        said.append(stats.optimism(sample, range(20), tied))
    error = np.std(np.array(flattered) - said) / math.sqrt(200)
    assert np.mean(flattered) == pytest.approx(np.mean(said), abs=3 * error)
    assert np.mean(said) > 0.005


def test_a_clear_winner_is_not_flattered_and_one_of_many_equals_is() -> None:
    rng = np.random.default_rng(0)
    equals = rng.normal(0.5, 0.2, (60, 20))
    clear = equals - 0.4 * (np.arange(20) > 0)
    assert stats.optimism(clear, range(20), stats.tied_for_best(clear)) < 0.001
    best = np.arange(20) == equals.mean(axis=0).argmax()  # were the best alone in reach, its mean would be flattered much
    assert stats.optimism(equals, range(20), best) > 0.01
    assert stats.optimism(np.full((60, 1), 0.5), [0], np.array([True])) == 0.0


@given(seed=st.integers(0, 1_000), give_up=st.sampled_from([0.0, 0.02, 0.5]))
@settings(max_examples=20, deadline=None)
def test_optimism_is_never_below_0(seed: int, give_up: float) -> None:
    sample = scores(30, 5, seed)
    assert stats.optimism(sample, [4, 2, 0, 1, 3], stats.tied_for_best(sample, resamples=200), give_up) >= 0


def test_optimism_of_equal_costs_is_that_of_the_highest_mean() -> None:
    flattered, said = [], []
    for seed in range(60):
        sample = np.random.default_rng(seed).normal(0.5, 0.2, (60, 20))
        flattered.append(sample.mean(axis=0).max() - 0.5)
        said.append(stats.optimism(sample, [0] * 20, np.ones(20, dtype=bool)))
    assert np.mean(flattered) > 0.03
    assert np.mean(said) > 0.5 * np.mean(flattered)
