"""How fast exact search and the measures are beside what one would write, or install, instead.

python benchmarks/search.py      two minutes on 2 cores
Both sides of a pair run in turns in one process with the same threads; seconds and ratios are medians over the rounds. Vectors are
clustered, as texts' are: 100,000 of 384 dimensions about 2,000 centres.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from harness import vectors
from harness.codes import default_threads, import_faiss, use_threads
from harness.index import Index
from harness.metrics import Judgements, Measure, score

ROWS, DIM, QUERIES, K, ROUNDS = 100_000, 384, 1_000, 100, 9
JUDGED_QUERIES, HITS = 10_000, 100
HEAD = ["| what | the other | s | ours s | ratio | to reach | |", "| --- | --- | --- | --- | --- | --- | --- |"]


def clustered(rows: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors about 2,000 centres."""
    centres = np.random.default_rng(0).normal(size=(2_000, dim)).astype(np.float32)
    rng = np.random.default_rng(seed)
    matrix = centres[rng.integers(len(centres), size=rows)] + rng.normal(scale=0.7, size=(rows, dim)).astype(np.float32)
    return vectors.truncate(matrix, dim)


def rounds(*sides: Callable[[], Any]) -> NDArray[np.float64]:
    """The seconds of each side ``(rounds, sides)``, in turns."""
    seconds = np.empty((ROUNDS, len(sides)))
    for turn in range(ROUNDS):
        for at, side in enumerate(sides):
            began = time.perf_counter()
            side()
            seconds[turn, at] = time.perf_counter() - began
    return seconds


def line(what: str, other: str, seconds: NDArray[np.float64], wanted: float) -> str:
    """A row; a third side is what can't be done without, the matrix product."""
    theirs, ours, *rest = np.median(seconds, axis=0)
    ratio = np.median(seconds[:, 0] / seconds[:, 1])
    verdict = ("ok" if ratio >= wanted else "MISSED") + (f"; the product alone: {rest[0]:.3f} s" if rest else "")
    return f"| {what} | {other} | {theirs:.3f} | {ours:.3f} | {ratio:.1f} | {wanted:g} | {verdict} |"


def search() -> str:
    """NumPy's product and partial sort against our search, which also settles ties and sums the scores of what it found in float64."""
    documents, asked = clustered(ROWS, DIM, 1), clustered(QUERIES, DIM, 2)
    index, order = Index.build(documents, DIM), np.arange(ROWS)

    def plain() -> NDArray[Any]:
        scores = asked @ documents.T
        rows = np.argpartition(scores, -K, axis=1)[:, -K:]
        return np.take_along_axis(rows, np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1), axis=1)

    same = (np.sort(plain(), axis=1) == np.sort(index.search(asked, K, order).rows, axis=1)).mean()
    what = f"exact search, {ROWS:,} x {DIM}, {QUERIES:,} queries, k = {K} ({same:.2%} of hits the same)"
    return line(what, "NumPy matmul and argpartition", rounds(plain, lambda: index.search(asked, K, order), lambda: asked @ documents.T), 2)


def measures() -> str:
    """pytrec_eval, from dictionaries that are there already, against our measures, from arrays that are there already."""
    import pytrec_eval

    rng = np.random.default_rng(0)
    documents = 50_000
    ranked = np.stack([rng.choice(documents, HITS, replace=False) for _ in range(JUDGED_QUERIES)])
    relevant = np.where(rng.random((JUDGED_QUERIES, 3)) < 0.5, ranked[:, [0, 4, 40]], rng.integers(documents, size=(JUDGED_QUERIES, 3)))
    pairs = {(query, int(row)): int(grade) for query, line in enumerate(relevant) for row, grade in zip(line, (2, 1, 1), strict=True)}
    queries, rows = np.array(list(pairs)).T
    judged = Judgements.build(queries, rows, np.array(list(pairs.values()), dtype=np.int32), JUDGED_QUERIES)
    qrels: dict[str, dict[str, int]] = {}
    for (query, row), grade in pairs.items():
        qrels.setdefault(str(query), {})[str(row)] = grade
    run = {str(query): {str(row): float(HITS - at) for at, row in enumerate(line)} for query, line in enumerate(ranked.tolist())}
    wanted = (Measure("ndcg", 10), Measure("recall", 10))
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.10"})
    theirs = evaluator.evaluate(run)
    ours = score(judged, ranked, wanted)[wanted[0]]
    apart = max(abs(theirs[str(query)]["ndcg_cut_10"] - ours[query]) for query in range(JUDGED_QUERIES))
    what = f"nDCG@10 and recall@10, {JUDGED_QUERIES:,} queries x {HITS} hits (at most {apart:.0e} apart)"
    return line(what, "pytrec_eval", rounds(lambda: evaluator.evaluate(run), lambda: score(judged, ranked, wanted)), 20)


def main() -> int:
    threads = default_threads()
    use_threads(import_faiss(), threads)
    common.report("search", [f"{threads} threads, medians of {ROUNDS} rounds in turns.", "", *HEAD, search(), measures()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
