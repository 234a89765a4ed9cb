"""What the whole grid costs beside one cell of it, and beside computing it cell by cell.

python benchmarks/grid.py      about 5 minutes on 2 cores; exits 1 if a target is missed
Each side is a process of its own, the model's loading, the results' files and the verdict included. The grid: 6 dimensions, 4
precisions, each by itself and with shortlists of 2, 4 and 10 times ten documents. The vectors are the same for one cell and for all, and
the minute that they take varies by more than all cells do: so they are made once, for one cell, and the grid is timed with them
there, beside one cell with them there. Cell by cell is sentence-transformers' InformationRetrievalEvaluator, which encodes anew for each
``truncate_dim``: measured for two cells and a quarter of the texts, the mean of which is multiplied.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

MODEL = "packaged/all-MiniLM-L6-v2"
DIMS, PRECISIONS, RESCORE = (384, 256, 192, 128, 64, 32), ("float32", "float16", "int8", "binary"), (2, 4, 10)
AT_MOST, AT_LEAST = 1.15, 40.0
ONE, ALL = {"dims": ["native"]}, {"dims": DIMS, "precisions": PRECISIONS, "rescore": RESCORE}
COLD, WARM, WHOLE = "one cell of ours, cold", "one cell of ours, vectors in the store", "all cells of ours, vectors in the store"
PART = 1300  # documents that the peer encodes, of 5,183
OURS = """
import json, sys, harness
folder, out, grid = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
board = harness.evaluate(folder, [sys.argv[4]], floors=False, check_prompts=False, store_folder=out + "/store", out=out + "/out", **grid)
assert not board.failed, board.absences
print(json.dumps([len(board.results), max(one.mean("ndcg@10") for one in board.results if one.plain)]))
"""
THEIRS = """
import json, sys, time
from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import InformationRetrievalEvaluator
from harness import beir
from providers.packaged import PACKAGED
from importlib.util import find_spec
from pathlib import Path
data = beir.read(Path(sys.argv[1]))
module, *_ = PACKAGED[sys.argv[2].partition("/")[2]]
model = SentenceTransformer(str(Path(find_spec(module).origin).parent / "model"))
relevant = {query: {d for d, grade in found.items() if grade > 0} for query, found in data.qrels().items()}
texts = {d.id: f"{d.title} {d.text}".strip() for d in data.documents[: int(sys.argv[4])]}
how = {"ndcg_at_k": [10], "mrr_at_k": [10], "map_at_k": [10], "accuracy_at_k": [10], "precision_recall_at_k": [10, 100]}
evaluator = InformationRetrievalEvaluator({q.id: q.text for q in data.queries}, texts, relevant, truncate_dim=int(sys.argv[3]), **how)
began = time.perf_counter()
evaluator(model)
print(json.dumps([time.perf_counter() - began, (len(data.documents) + len(data.queries)) / (len(texts) + len(data.queries))]))
"""


def process(code: str, *words: str) -> tuple[float, Any]:
    """The seconds of a Python process, and what it prints last."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - began, json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    folder, sides = str(common.scifact()), dict[str, float]()
    with tempfile.TemporaryDirectory() as scratch:
        process(OURS, folder, str(Path(scratch) / "first"), json.dumps({}), "hash/64")  # brings packages and corpus into memory
        for name, grid in ((COLD, ONE), (WARM, ONE), (WHOLE, ALL)):
            shutil.rmtree(Path(scratch) / "out", ignore_errors=True)  # the vectors stay
            sides[name], found = process(OURS, folder, scratch, json.dumps(grid), MODEL)
    (cells, best), by_dim = found, dict[int, float]()
    for dim in (384, 64):
        taken, (evaluating, times) = process(THEIRS, folder, MODEL, str(dim), str(PART))
        by_dim[dim] = taken + evaluating * (times - 1)
    whole = sides[COLD] - sides[WARM] + sides[WHOLE]
    each = sum(by_dim.values()) / len(by_dim)
    ratios = whole / sides[COLD], each * cells / whole
    rows = [
        *(f"| {name} | {taken:.1f} |" for name, taken in sides.items()),
        f"| all {cells} cells of ours, cold: that, and what the vectors took | {whole:.1f} |",
        *(
            f"| sentence-transformers, one cell of {dim} dimensions, from a quarter of the texts | {taken:.1f} |"
            for dim, taken in by_dim.items()
        ),
        f"| sentence-transformers, {cells} cells, multiplied | {each * cells:,.0f} |",
    ]
    said = (
        f"{MODEL} on scifact, the best plain cell's nDCG@10 {best:.4f}. The grid takes {ratios[0]:.2f} of one cell (at most {AT_MOST}); "
        f"cell by cell takes {ratios[1]:.0f} times the grid (at least {AT_LEAST:.0f})."
    )
    common.report("grid", [said, "", "| side | seconds |", "| --- | --- |", *rows])
    return int(ratios[0] > AT_MOST or ratios[1] < AT_LEAST)


if __name__ == "__main__":
    sys.exit(main())
