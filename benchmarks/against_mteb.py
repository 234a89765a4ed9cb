"""The same model and corpus through mteb and through bakeoff, in one run: the same numbers, and how long each takes.

ZOO=folder python benchmarks/against_mteb.py      about 11 minutes on 2 cores; exits 1 if a target is missed

Targets: all dims together at most 1.10 of one dim; a second run of the grid makes no embedding call and takes under
10 s; nDCG@10 within 0.001 of mteb's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DIMS = (384, 256, 128, 64, 32)


def through_mteb(folder: Path) -> tuple[float, float]:
    """Seconds and nDCG@10 of mteb.evaluate on a folder in BEIR layout, model loading left out."""
    import datasets
    import mteb
    from mteb.tasks.retrieval.eng.sci_fact_retrieval import SciFact
    from sentence_transformers import SentenceTransformer

    from harness import beir

    class Local(SciFact):  # type: ignore[misc]
        def load_data(self, **_: Any) -> None:
            data = beir.read(folder)
            qrels: dict[str, dict[str, int]] = {}
            judged = data.judgements
            for query, document, grade in zip(judged.queries, judged.documents, judged.grades, strict=True):
                qrels.setdefault(data.queries[query].id, {})[data.documents[document].id] = int(grade)
            corpus = [{"id": d.id, "title": d.title, "text": d.text} for d in data.documents]
            queries = [{"id": q.id, "text": q.text} for q in data.queries]
            split = {"corpus": datasets.Dataset.from_list(corpus), "queries": datasets.Dataset.from_list(queries)}
            self.dataset = {"default": {"test": {**split, "relevant_docs": qrels, "top_ranked": None}}}
            self.data_loaded = True

    model = SentenceTransformer(MODEL)
    began = time.perf_counter()
    found = mteb.evaluate(model, Local(), cache=None, co2_tracker=False, show_progress_bar=False)
    return time.perf_counter() - began, float(found.task_results[0].scores["test"][0]["ndcg_at_10"])


def through_bakeoff(folder: Path, dims: Sequence[int], store: str) -> tuple[float, float, int]:
    """Seconds, nDCG@10 at the largest dim, and embedding calls; model loading left out."""
    import harness
    from harness import catalog
    from harness.console import Lines
    from harness.embedder import Embedder

    embedder = catalog.load(f"st/{MODEL}")
    assert isinstance(embedder, Embedder)
    embedder.prepare()
    calls, embed = 0, embedder.embed

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return embed(*arguments)

    embedder.embed = counted  # type: ignore[method-assign]
    began = time.perf_counter()
    board = harness.evaluate(folder, [embedder], dims=list(dims), store_folder=store, floors=False, progress=Lines())
    seconds = time.perf_counter() - began
    assert len(board.results) == len(dims), board.absences
    return seconds, next(r for r in board.results if r.dim == max(dims)).mean("ndcg@10"), calls


def main() -> int:
    common.use_zoo()
    folder = common.scifact()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as all_dims:
        single, _, _ = through_bakeoff(folder, DIMS[:1], one)
        grid, ours, _ = through_bakeoff(folder, DIMS, all_dims)
        warm, again, calls = through_bakeoff(folder, DIMS, all_dims)
    peer, theirs = through_mteb(folder)
    checks = [
        ("nDCG@10 at 384: bakeoff - mteb", f"{ours:.5f} - {theirs:.5f} = {ours - theirs:+.5f}", "0.001", abs(ours - theirs) <= 0.001),
        (
            f"all {len(DIMS)} dims / one dim, both cold",
            f"{grid:.1f} s / {single:.1f} s = {grid / single:.3f}",
            "1.10",
            grid / single <= 1.10,
        ),
        ("second run of the grid", f"{warm:.2f} s, {calls} embedding calls", "10 s, 0 calls", warm < 10 and calls == 0 and again == ours),
        ("mteb.evaluate, one dim / bakeoff, one dim, both cold", f"{peer:.1f} s / {single:.1f} s = {peer / single:.2f}", "", True),
    ]
    lines = ["| what | measured | at most | |", "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {measured} | {limit} | {'ok' if good else 'MISSED'} |" for what, measured, limit, good in checks]
    common.report("against_mteb", lines)
    return int(not all(good for *_, good in checks))


if __name__ == "__main__":
    sys.exit(main())
