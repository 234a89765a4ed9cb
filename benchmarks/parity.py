"""Do we get the published figures? SciFact with real weights, against mteb's results repository.

ZOO=folder python benchmarks/parity.py        exits 1 if any figure is further off than its tolerance
"""

from __future__ import annotations

import sys
import tempfile

import common

PUBLISHED = [  # model, measure, published, tolerance; mteb results, SciFact test split
    ("st/sentence-transformers/all-MiniLM-L6-v2", "ndcg@10", 0.64508, 0.001),
    ("st/sentence-transformers/all-MiniLM-L6-v2", "recall@10", 0.78333, 0.001),
    ("st/sentence-transformers/all-mpnet-base-v2", "ndcg@10", 0.65570, 0.003),
    ("st/minishlab/potion-base-8M", "ndcg@10", 0.50640, 0.003),
]


def main() -> int:
    common.use_zoo()
    import harness
    from harness.console import Lines

    with tempfile.TemporaryDirectory() as store:
        models = list(dict.fromkeys(model for model, *_ in PUBLISHED))
        board = harness.evaluate(common.scifact(), models, dims=["native"], store_folder=store, floors=False, progress=Lines())
    found = {result.spec: result for result in board.results}
    lines = ["| model | measure | published | here | off by | tolerance | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    failed = bool(board.absences)
    for model, measure, published, tolerance in PUBLISHED:
        if model not in found:
            continue
        here = found[model].mean(measure)
        good = abs(here - published) <= tolerance
        failed |= not good
        verdict = "ok" if good else "TOO FAR"
        lines.append(f"| {model} | {measure} | {published:.5f} | {here:.5f} | {here - published:+.5f} | {tolerance} | {verdict} |")
    lines += [f"| {absence.spec} | {absence.status}: {absence.reason} | | | | | |" for absence in board.absences]
    common.report("parity", lines)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
