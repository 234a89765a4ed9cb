"""How sure we can be of means over queries: intervals, paired tests, and the group that is tied for best.

All of it is paired by query: rows are queries, columns are the variants of a leaderboard. Resampling is done for all
columns at once, by one matrix product, so that 10,000 resamples of 1,000 queries x 200 variants take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Strata = NDArray[np.int64]
RESAMPLES = 10_000
LEVEL = 0.95
ROUGH_BELOW = 50
ROUGH_TELLING = 10
FEWEST_IN_SLICE = 10
"""A slice with fewer queries shows no number and is held to no rule."""
_SAME = 1e-12  # scores of one query closer than this are equal
_EQUAL = 1e-4  # float32 sums in another order differ by less
_NORMAL = NormalDist()
_BLOCK = 2_000  # resamples worked on at once


@dataclass(frozen=True, slots=True)
class Comparison:
    """One variant against another over the same queries: mean difference, its interval, p-value, and counts.

    ``spread`` is the standard deviation of the per-query differences, ``effect`` Cohen's d for paired samples: mean
    difference over spread; NaN where no query differs from another.
    """

    difference: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int
    spread: float
    effect: float

    @property
    def queries(self) -> int:
        """How many were compared."""
        return self.wins + self.ties + self.losses

    @property
    def detectable(self) -> float:
        """The smallest true difference that these queries reveal with 80 % power."""
        return detectable_difference(self.spread, self.queries)

    @property
    def more_queries(self) -> int | None:
        """About how many more queries would reveal the measured difference with 80 % power: 0 where these do, None where there is none."""
        needed = queries_needed(self.spread, self.difference)
        return None if needed is None else max(needed - self.queries, 0)


def intervals(scores: Floats, strata: Strata | None = None, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Accelerated (BCa) bootstrap intervals of the means of ``(queries, variants)``; returns ``(variants, 2)``.

    With ``strata`` ``(queries,)``, queries are drawn stratum by stratum: the mix of strata is taken as given. Source:
    Efron, "Better bootstrap confidence intervals", JASA 82 (1987); the acceleration of a mean is
    sum(d^3) / (6 sum(d^2)^1.5) of the deviations d (from the stratum's mean). A column without spread has an interval of
    no width.
    """
    means = scores.mean(axis=0)
    bootstrap = _bootstrap_means(scores, strata, resamples, seed)
    level_with = np.abs(bootstrap - means) <= _SAME
    below = ((bootstrap < means) & ~level_with).mean(axis=0) + 0.5 * level_with.mean(axis=0)
    deviations = scores - means
    for stratum in () if strata is None else np.unique(strata):
        deviations[strata == stratum] = scores[strata == stratum] - scores[strata == stratum].mean(axis=0)
    squares = (deviations**2).sum(axis=0)
    bounds = np.repeat(means[:, None], 2, axis=1)
    for column in np.flatnonzero(squares > 1e-18):
        shift = _NORMAL.inv_cdf(float(np.clip(below[column], 1 / resamples, 1 - 1 / resamples)))
        acceleration = float((deviations[:, column] ** 3).sum() / (6 * squares[column] ** 1.5))
        shares = [_bca_share(tail, shift, acceleration) for tail in ((1 - level) / 2, (1 + level) / 2)]
        bounds[column] = np.quantile(bootstrap[:, column], shares)
    return bounds


def _bca_share(tail: float, shift: float, acceleration: float) -> float:
    moved = shift + _NORMAL.inv_cdf(tail)
    return _NORMAL.cdf(shift + moved / (1 - acceleration * moved))


def _bootstrap_means(scores: Floats, strata: Strata | None, resamples: int, seed: int) -> Floats:
    """Means of queries drawn with replacement, stratum by stratum, ``(resamples, variants)``."""
    groups = [np.arange(len(scores))] if strata is None else [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    drawn, ordered = _draws(tuple(map(len, groups)), resamples, seed), scores[np.concatenate(groups)]
    return np.concatenate([drawn[start : start + _BLOCK] @ ordered / len(scores) for start in range(0, resamples, _BLOCK)])


@lru_cache(maxsize=16)
def _draws(sizes: tuple[int, ...], resamples: int, seed: int) -> NDArray[np.uint8]:
    """How often each query is drawn, ``(resamples, sum of sizes)``, as many times from each group as it has queries.

    The latest are kept: a verdict asks for the same ones many times.
    """
    rng = np.random.default_rng(seed)
    parts = [
        rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.uint8) for size in sizes
    ]  # over 255 at odds of 1/255!
    return np.concatenate(parts, axis=1)


def _sign_flips(count: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """Random signs, ``(resamples, count)``."""
    bits = np.random.default_rng(seed).integers(0, 2, size=(resamples, count), dtype=np.int8)
    return bits.astype(np.float32) * 2 - 1


def randomisation_test(differences: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Two-sided paired randomisation test of mean differences, ``(queries, pairs)``; returns p-values ``(pairs,)``.

    Under the null hypothesis each query's difference may as well have the other sign (Fisher; for retrieval: Smucker,
    Allan and Carterette, CIKM 2007). p = (1 + flips at least as extreme) / (1 + flips), so it is never zero.
    """
    observed = np.abs(differences.sum(axis=0))
    slack = 1e-6 * np.abs(differences).sum(axis=0)  # sums in another order differ in the last bits
    flipped = np.abs(_sign_flips(len(differences), resamples, seed) @ differences)
    return np.asarray((1 + (flipped >= observed - slack).sum(axis=0)) / (1 + resamples))


def one_sided(gaps: Floats, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """The chance of a mean as high as that of ``gaps`` ``(queries,)``, or higher, when each may as well have the other sign."""
    slack = 1e-6 * np.abs(gaps).sum()
    flipped = _sign_flips(len(gaps), resamples, seed) @ gaps
    return float((1 + (flipped >= gaps.sum() - slack).sum()) / (1 + resamples))


def holm(p: Floats) -> Floats:
    """Adjust p-values ``(m,)`` for the family of m tests (Holm, Scand. J. Statistics 6, 1979)."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def tied_for_best(scores: Floats, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.bool_]:
    """The variants of ``(queries, variants)`` that may be the best: ``(variants,)``, never empty.

    With probability ``level`` the group contains the variant with the highest true mean. Each variant i is tested
    against the hypothesis that no other j is better, with the largest of all u_j = sum(d) / sqrt(sum(d^2)), d being the
    per-query differences of j and i; u grows with the paired t and is exact under flips of the signs of d, which are
    flipped for all j at once. So the truly best one is wrongly dropped in at most 1 - level of all cases, whatever
    becomes of the others. This is multiple comparisons with the best (Hsu, Annals of Statistics 9, 1981), inverted
    from max-t tests by randomisation (Romano and Wolf, JASA 100, 2005).
    """
    exact = scores.astype(np.float32)
    sums = scores.sum(axis=0)
    flipped = _sign_flips(len(scores), resamples, seed) @ exact  # (resamples, variants)
    tied = np.ones(scores.shape[1], dtype=np.bool_)
    for i in range(scores.shape[1]):
        length = np.sqrt(((scores - scores[:, i : i + 1]) ** 2).sum(axis=0))
        others = length > 1e-9  # a variant equal on every query, as itself, can't be better
        if not others.any():
            continue
        observed = ((sums[others] - sums[i]) / length[others]).max()
        scale = (1 / length[others]).astype(np.float32)
        largest = ((flipped[:, others] - flipped[:, i : i + 1]) * scale).max(axis=1)
        p = (1 + (largest >= observed - _EQUAL).sum()) / (1 + resamples)
        tied[i] = p > 1 - level
    tied[int(sums.argmax())] = True
    return tied


def shown_to_lose_at_most(scores: Floats, share: float) -> NDArray[np.bool_]:
    """Which of ``(queries, variants)`` lose at most ``share`` of the highest mean, at the lower end of the 95 % interval."""
    best = int(scores.mean(axis=0).argmax())
    lowest = intervals(scores - scores[:, [best]])[:, 0]
    return np.asarray(lowest >= -share * scores[:, best].mean())


def optimism(scores: Floats, ranks: Sequence[int], tied: NDArray[np.bool_], give_up: float = 0.0, seed: int = 0) -> float:
    """By how much the rule "the cheapest within reach of the best" flatters the mean of what it picks; never below 0.

    ``ranks`` ``(variants,)`` puts the cheapest first; of equal ones the higher mean is picked.

    The rule is applied to queries drawn with replacement, 2,000 times over; the optimism is how much higher the picked
    one's mean is on the queries it was picked by than on all (Efron, "Estimating the error rate of a prediction rule", JASA
    78, 1983). Within reach is what ``tied`` says of ``(queries, variants)``: a gap to the best of at most z standard errors,
    z being the normal quantile moved to where it tells the tied from the others; or one that loses at most the share
    ``give_up``.
    """
    count, means = len(scores), scores.mean(axis=0)
    gaps = means.max() - means
    errors = (scores - scores[:, [int(means.argmax())]]).std(axis=0) / math.sqrt(count) + _SAME
    ratios = gaps / errors
    one_tail = _NORMAL.inv_cdf(1 - (1 - LEVEL) / max(len(means) - 1, 1))
    z = min(max(one_tail, ratios[tied].max()), ratios[~tied].min(initial=math.inf))
    margins = np.maximum(z * errors, give_up * means.max() - _NORMAL.inv_cdf((1 + LEVEL) / 2) * errors)
    drawn = _draws((count,), _BLOCK, seed) @ scores / count  # (resamples, variants)
    behind = drawn.max(axis=1, keepdims=True) - drawn
    step = behind.max() + 1  # a rank outweighs any difference of means
    picked = np.argmin(np.where(behind <= margins, step * np.asarray(ranks) + behind, np.inf), axis=1)
    return max(0.0, float((drawn[np.arange(len(drawn)), picked] - means[picked]).mean()))


def rough(scores: Floats) -> NDArray[np.bool_]:
    """Which columns of ``(queries, variants)`` say too little for a bootstrap interval to cover as often as it says.

    Fewer than 50 queries, or fewer than 10 whose score is not the commonest extreme, 0 or 1: a system that is almost
    always wrong is like a coin that almost never shows heads (benchmarks/verdict.py shows what is left covers).
    """
    commonest = np.maximum((scores <= 0).sum(axis=0), (scores >= 1).sum(axis=0))
    return np.asarray((len(scores) < ROUGH_BELOW) | (len(scores) - commonest < ROUGH_TELLING))


def compare(ones: Floats, other: Floats, strata: Strata | None = None, resamples: int = RESAMPLES) -> tuple[Comparison, ...]:
    """Compare each column of ``(queries, variants)`` with ``other`` ``(queries,)``; above 0 is in favour of the column."""
    gaps = ones - other[:, None]
    bounds, p = intervals(gaps, strata, resamples=resamples), randomisation_test(gaps, resamples)
    spreads = gaps.std(axis=0, ddof=1) if len(gaps) > 1 else np.zeros(gaps.shape[1])
    return tuple(
        Comparison(
            difference=float(gap.mean()),
            low=float(low),
            high=float(high),
            p=float(chance),
            wins=int((gap > _SAME).sum()),
            ties=int((np.abs(gap) <= _SAME).sum()),
            losses=int((gap < -_SAME).sum()),
            spread=float(spread),
            effect=float(gap.mean() / spread) if spread > _SAME else math.nan,
        )
        for gap, (low, high), chance, spread in zip(gaps.T, bounds, p, spreads, strict=True)
    )


def detectable_difference(spread: float, count: int, level: float = LEVEL, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided paired test on ``count`` queries finds with the given power.

    ``spread`` is the standard deviation of the per-query differences. Normal approximation: (z_level + z_power) sd / sqrt(n).
    """
    return _reach(level, power) * spread / math.sqrt(count)


def queries_needed(spread: float, difference: float, level: float = LEVEL, power: float = 0.8) -> int | None:
    """About how many queries separate a true ``difference``; None where there is none to separate."""
    return None if abs(difference) <= _SAME else math.ceil((_reach(level, power) * spread / abs(difference)) ** 2)


def _reach(level: float, power: float) -> float:
    return _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
