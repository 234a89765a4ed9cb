"""Do the intervals cover, and does the tied group contain the best? Seeded simulations where the truth is known.

python benchmarks/verdict.py        about three minutes; exits 1 if a target is missed

The truth: the per-query scores of real systems on SciFact (or quickstart, where SciFact is not there) are taken as a
population of queries; query sets of n are drawn from it with replacement, and the population's means are the true ones.
Beside it a synthetic population: 20 variants in five groups of equal true means, per-query scores in [0, 1], many of them 0 or 1.
"""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import common
import numpy as np
from numpy.typing import NDArray

from harness import check, stats
from harness.baseline import Saved
from harness.result import score_matrix

SETS, RESAMPLES, GATES, CHOICES = 1_000, 1_000, 2_000, 250
FLATTERY = 0.01
COUNTS = (20, 50, 100, 300)
Floats = NDArray[np.float64]


def real() -> tuple[str, dict[tuple[str, int], Floats]]:
    """nDCG@10 ``(queries,)`` of the systems that need no hub: (model, dim) -> scores, queries in one order."""
    import harness

    folder = common.SHARED / "data" / "scifact"
    where = folder if folder.is_dir() else "quickstart"
    board = harness.evaluate(where, ["wordllama/256", "hash/256", "hash/1024"], metrics=["ndcg@10"])
    scores = score_matrix(board.results, "ndcg@10")
    return str(board.dataset["name"]), {(one.spec, one.dim): scores[:, at] for at, one in enumerate(board.results)}


def synthetic(seed: int = 0) -> Floats:
    """Scores of 20 variants on 5,000 queries, clipped to [0, 1] as measures are."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0.5, 0.5, size=(5_000, 1))
    skill = np.repeat([0.0, 0.0, -0.02, -0.05, -0.15], 4)
    return np.clip(difficulty + skill + rng.normal(0, 0.3, size=(5_000, 20)), 0, 1)


def simulate(population: Floats, count: int, seed: int) -> tuple[float, float, float, float]:
    """Shares of intervals that cover (of those not marked rough), not rough, of groups that hold the best; mean group size."""
    rng = np.random.default_rng(seed)
    truth = population.mean(axis=0)
    covered = trusted = held = size = 0.0
    for at in range(SETS):
        sample = population[rng.integers(0, len(population), count)]
        bounds = stats.intervals(sample, resamples=RESAMPLES, seed=at)
        tied = stats.tied_for_best(sample, resamples=RESAMPLES, seed=at)
        good = ~stats.rough(sample)
        trusted += good.sum()
        covered += ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))[good].sum()
        held += float(tied[truth.argmax()])
        size += float(tied.sum())
    return (covered / trusted if trusted else math.nan), trusted / SETS / len(truth), held / SETS, size / SETS


def stratified(count: int, seed: int) -> tuple[float, float]:
    """Coverage of stratified intervals on sets with as many queries of each of three kinds, and their width beside plain ones."""
    population, rng = synthetic(), np.random.default_rng(seed)
    kinds = np.digitize(population.mean(axis=1), [0.25, 0.6])  # easy and hard queries, told apart
    truth = np.mean([population[kinds == kind].mean(axis=0) for kind in range(3)], axis=0)
    strata = np.repeat(np.arange(3), count // 3)
    covered, widths = 0.0, np.zeros(2)
    for at in range(SETS):
        rows = np.concatenate([rng.choice(np.flatnonzero(kinds == kind), count // 3) for kind in range(3)])
        bounds = stats.intervals(population[rows], strata, resamples=RESAMPLES, seed=at)
        plain = stats.intervals(population[rows], resamples=RESAMPLES, seed=at)
        covered += ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
        widths += [np.diff(both).mean() for both in (bounds, plain)]
    return covered / SETS, float(widths[0] / widths[1])


def flattery(population: Floats, count: int, seed: int) -> tuple[float, float]:
    """How far a pick's measured mean, and that less its optimism, lie above its true mean on average.

    The pick is the cheapest of the tied, and the worse are the cheaper.
    """
    rng, truth = np.random.default_rng(seed), population.mean(axis=0)
    found = []
    for at in range(CHOICES):
        sample = population[rng.integers(0, len(population), count)]
        means = sample.mean(axis=0)
        tied = stats.tied_for_best(sample, resamples=RESAMPLES, seed=at)
        ranks = np.argsort(np.argsort(truth))
        chosen = int(np.where(tied, ranks, len(ranks)).argmin())
        high = means[chosen] - truth[chosen]
        found.append((high, high - stats.optimism(sample, list(ranks), tied, seed=at)))
    naive, corrected = np.mean(found, axis=0)
    return float(naive), float(corrected)


def gate(before: Floats, after: Floats, count: int, drop: float, seed: int) -> float:
    """The share of gates, with the built-in rules and six slices, that fail when the true mean falls by ``drop``.

    ``before`` and ``after`` ``(queries,)`` are scores of two real systems; the new run differs from the old one by their
    per-query differences, centred, each with a random sign.
    """
    rng = np.random.default_rng(seed)
    gaps = before - after
    gaps = gaps - gaps.mean()
    failed = 0
    for _ in range(GATES):
        rows = rng.integers(0, len(before), count)
        noise = gaps[rows] * rng.choice([-1, 1], count)
        saved, now = before[rows], before[rows] - drop + noise
        ids = [str(at) for at in range(count)]
        slices = {by: {value: ids[at::size] for at, value in enumerate("abc"[:size])} for by, size in (("one", 2), ("two", 3))}
        slices["three"] = {"a": ids[: count // 3]}
        scores = {"ndcg@10": dict(zip(ids, saved, strict=True))}
        cell = Saved(cell="x", model={}, index="", precision="", scores=scores, found={})
        result = SimpleNamespace(name="x", query_ids=ids, scores={"ndcg@10": now})
        failed += any(one.regressed for rule in check.default_rules("ndcg@10") for one in check.apply(rule, cell, result, slices))
    return failed / GATES


def main() -> int:
    name, columns = real()
    scores = np.stack(list(columns.values()), axis=1)
    lines = [
        f"{SETS:,} query sets each, {RESAMPLES:,} resamples.",
        "",
        "| population | queries | intervals not marked rough | of these cover (95 %) | tied group holds the best | its mean size | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    missed = False
    for title, population in ((f"{name}, {scores.shape[1]} variants", scores), ("synthetic, 20 variants", synthetic())):
        for count in COUNTS:
            covered, trusted, held, size = simulate(population, count, seed=count)
            good = held >= 0.95 and (math.isnan(covered) or 0.93 <= covered <= 0.97)
            missed |= not good
            shown = "-" if math.isnan(covered) else f"{covered:.3f}"
            cells = [title, f"{count}", f"{trusted:.0%}", shown, f"{held:.3f}", f"{size:.1f} of {population.shape[1]}"]
            lines.append(f"| {' | '.join(cells)} | {'ok' if good else 'MISSED'} |")
    lines += ["", f"Intervals stratified by kind of query, {SETS:,} synthetic sets:", ""]
    lines += ["| queries | cover (95 %) | their width / that of plain ones | |", "| --- | --- | --- | --- |"]
    for count in (60, 150, 300):
        covered, width = stratified(count, seed=count)
        missed |= not 0.93 <= covered <= 0.97
        lines.append(f"| {count} | {covered:.3f} | {width:.2f} | {'ok' if 0.93 <= covered <= 0.97 else 'MISSED'} |")
    lines += ["", f"By how much the cheapest of the tied is flattered ({CHOICES} synthetic sets, the worse the cheaper):", ""]
    lines += ["| queries | measured - true | measured less optimism - true | at most | |", "| --- | --- | --- | --- | --- |"]
    for count in (50, 100, 300):
        naive, corrected = flattery(synthetic(), count, seed=count)
        missed |= corrected > FLATTERY
        lines.append(f"| {count} | {naive:+.4f} | {corrected:+.4f} | {FLATTERY} | {'ok' if corrected <= FLATTERY else 'MISSED'} |")
    lines += ["", f"The gate with its built-in rules, {GATES:,} runs each, on differences between real systems on {name}:", ""]
    lines += [
        "| differences between | their sd | queries | true drop | gate fails | target | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    pairs = {"wordllama/256 at 256 and 128 dims": (columns["wordllama/256", 256], columns["wordllama/256", 128])}
    pairs["BM25 and wordllama/256"] = (columns["bm25", 0], columns["wordllama/256", 256])
    for title, (one, other) in pairs.items():
        for count, drop in ((100, 0.0), (300, 0.0), (300, 0.05)):
            share = gate(one, other, count, drop, seed=count)
            same_model = title.startswith("wordllama")
            good = share <= 0.05 if not drop else share >= 0.80 or not same_model
            missed |= not good
            target = "at most 0.05" if not drop else "at least 0.80" if same_model else "-"
            cells = [title, f"{(one - other).std(ddof=1):.2f}", f"{count}", f"{drop}", f"{share:.3f}", target, "ok" if good else "MISSED"]
            lines.append(f"| {' | '.join(cells)} |")
    common.report("verdict", lines)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
