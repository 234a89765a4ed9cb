"""Do we get the published figures? SciFact with real weights, against mteb's results repository.

ZOO=folder python benchmarks/parity.py [MODEL ...]      exits 1 if any figure is further off than its tolerance
With models, only these are measured and the other lines of the report stay. STORE=folder keeps the vectors, for a run in pieces.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common

EXACT = "compute=float32&engine=torch"  # as mteb computes; the others as here by default
PUBLISHED = [  # model, measure, published, tolerance; mteb results, SciFact test split
    (f"st/sentence-transformers/all-MiniLM-L6-v2?{EXACT}", "ndcg@10", 0.64508, 0.001),
    (f"st/sentence-transformers/all-MiniLM-L6-v2?{EXACT}", "recall@10", 0.78333, 0.001),
    ("st/sentence-transformers/all-mpnet-base-v2", "ndcg@10", 0.65570, 0.003),
    ("st/thenlper/gte-small", "ndcg@10", 0.72701, 0.003),
    ("st/minishlab/potion-base-8M", "ndcg@10", 0.50640, 0.003),
]
HEAD = ["| model | measure | published | here | off by | tolerance | |", "| --- | --- | --- | --- | --- | --- | --- |"]


def main() -> int:
    common.use_zoo()
    import harness
    from harness.console import Lines

    models = sys.argv[1:] or list(dict.fromkeys(model for model, *_ in PUBLISHED))
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(os.environ.get("STORE") or scratch)
        board = harness.evaluate(common.scifact(), models, dims=["native"], store_folder=store, floors=False, progress=Lines())
    found = {result.spec: result for result in board.results}
    lines, failed = earlier(models), bool(board.absences)
    for model, measure, published, tolerance in PUBLISHED:
        if model not in found:
            continue
        here = found[model].mean(measure)
        good = abs(here - published) <= tolerance
        failed |= not good
        verdict = "ok" if good else "TOO FAR"
        lines[model, measure] = (
            f"| {model} | {measure} | {published:.5f} | {here:.5f} | {here - published:+.5f} | {tolerance} | {verdict} |"
        )
    absent = [f"| {absence.spec} | {absence.status}: {absence.reason} | | | | | |" for absence in board.absences]
    order = [lines[model, measure] for model, measure, *_ in PUBLISHED if (model, measure) in lines]
    common.report("parity", [*HEAD, *order, *absent])
    return int(failed)


def earlier(models: Sequence[str]) -> dict[tuple[str, str], str]:
    """The lines of the report for other models than these: model and measure -> line."""
    report = Path(__file__).parent / "results" / "parity.md"
    lines = report.read_text(encoding="utf-8").splitlines() if report.is_file() else []
    cells = {line: [cell.strip() for cell in line.split("|")] for line in lines[len(HEAD) :] if line.startswith("|")}
    return {(model, measure): line for line, (_, model, measure, *_) in cells.items() if model not in models}


if __name__ == "__main__":
    sys.exit(main())
