"""What the whole grid costs beside one cell of it, and beside computing it cell by cell.

python benchmarks/grid.py      about 12 minutes on 2 cores; exits 1 if a target is missed
Each side is a process of its own with an empty store, the model's loading, the results' files and the verdict included. The grid: 6
dimensions, 4 precisions, each by itself and with shortlists of 2, 4 and 10 times ten documents. Cell by cell is
sentence-transformers' InformationRetrievalEvaluator, which encodes anew for each ``truncate_dim``: measured for two cells, the mean
of which is multiplied by the number of cells.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

MODEL = "packaged/all-MiniLM-L6-v2"
DIMS, PRECISIONS, RESCORE = (384, 256, 192, 128, 64, 32), ("float32", "float16", "int8", "binary"), (2, 4, 10)
AT_MOST, AT_LEAST = 1.15, 40.0
OURS = """
import json, sys, harness
folder, out, grid = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
board = harness.evaluate(folder, [sys.argv[4]], floors=False, check_prompts=False, store_folder=out + "/store", out=out + "/out", **grid)
assert not board.failed, board.absences
print(json.dumps([len(board.results), max(one.mean("ndcg@10") for one in board.results if one.plain)]))
"""
THEIRS = """
import json, sys
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
texts = {d.id: f"{d.title} {d.text}".strip() for d in data.documents}
how = {"ndcg_at_k": [10], "mrr_at_k": [10], "map_at_k": [10], "accuracy_at_k": [10], "precision_recall_at_k": [10, 100]}
evaluator = InformationRetrievalEvaluator({q.id: q.text for q in data.queries}, texts, relevant, truncate_dim=int(sys.argv[3]), **how)
found = evaluator(model)
print(json.dumps(next(value for name, value in found.items() if name.endswith("cosine_ndcg@10"))))
"""


def process(code: str, *words: str) -> tuple[float, object]:
    """The seconds of a Python process, and what it prints last."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - began, json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    folder = str(common.scifact())
    whole = {"dims": DIMS, "precisions": PRECISIONS, "rescore": RESCORE}
    sides = {}
    with tempfile.TemporaryDirectory() as scratch:
        process(OURS, folder, str(Path(scratch) / "first"), json.dumps({}), "hash/64")  # brings packages and corpus into memory
        for name, grid in (("one cell", {"dims": ["native"]}), ("the whole grid", whole)):
            sides[name] = process(OURS, folder, str(Path(scratch) / name), json.dumps(grid), MODEL)
    theirs = [process(THEIRS, folder, MODEL, str(dim)) for dim in (384, 64)]
    seconds = {name: taken for name, (taken, _) in sides.items()}
    (cells, best), (_, alone) = sides["the whole grid"][1], sides["one cell"][1]  # type: ignore[misc]
    by_cell = sum(taken for taken, _ in theirs) / len(theirs) * cells  # type: ignore[has-type]
    ratios = seconds["the whole grid"] / seconds["one cell"], by_cell / seconds["the whole grid"]
    rows = [
        f"| one cell of ours, cold | {seconds['one cell']:.1f} | nDCG@10 {alone:.4f} |",  # type: ignore[has-type]
        f"| all {cells} cells of ours, cold | {seconds['the whole grid']:.1f} | the best plain one {best:.4f} |",  # type: ignore[has-type]
        *(
            f"| sentence-transformers, one cell of {dim} dimensions | {taken:.1f} | nDCG@10 {found:.4f} |"
            for dim, (taken, found) in zip((384, 64), theirs, strict=True)
        ),
        f"| sentence-transformers, {cells} cells, multiplied | {by_cell:,.0f} | |",
    ]
    said = (
        f"{MODEL} on scifact. The grid takes {ratios[0]:.2f} of one cell (at most {AT_MOST}); "
        f"cell by cell takes {ratios[1]:.0f} times the grid (at least {AT_LEAST:.0f})."
    )
    common.report("grid", [said, "", "| side | seconds | |", "| --- | --- | --- |", *rows])
    return int(ratios[0] > AT_MOST or ratios[1] < AT_LEAST)


if __name__ == "__main__":
    sys.exit(main())
