"""The same model and corpus through mteb and through bakeoff, cold, on the same cores: the same numbers, and how long each takes.

ZOO=folder python benchmarks/against_mteb.py [torch|openvino]      about 6 minutes on 2 cores; exits 1 if a target is missed

Targets: mteb.evaluate takes at least 2.5 times as long with torch alone, 2.8 times with the extra openvino; nDCG@10 within 0.001 of
mteb's, with bfloat16 too; a second run makes no embedding call and takes under 10 s.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TARGETS = {"torch": 2.5, "openvino": 2.8}
"""Engine -> times as fast as mteb.evaluate."""


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


def through_bakeoff(folder: Path, engine: str, store: str) -> tuple[float, float, int]:
    """Seconds, nDCG@10 at the native dimension, and embedding calls; model loading left out."""
    import harness
    from harness import catalog
    from harness.console import Lines
    from harness.embedder import Embedder

    embedder = catalog.load(f"st/{MODEL}?engine={engine}")
    assert isinstance(embedder, Embedder)
    embedder.prepare()
    calls, embed = 0, embedder.embed

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return embed(*arguments)

    embedder.embed = counted  # type: ignore[method-assign]
    began = time.perf_counter()
    board = harness.evaluate(
        folder, [embedder], dims=["native"], store_folder=store, floors=False, threads=common.THREADS, progress=Lines()
    )
    seconds = time.perf_counter() - began
    (cell,) = board.results
    return seconds, cell.mean("ndcg@10"), calls


def main() -> int:
    common.use_zoo()
    import torch

    torch.set_num_threads(common.THREADS)
    folder, lines, good = common.scifact(), ["| what | measured | target | |", "| --- | --- | --- | --- |"], True

    def check(what: str, measured: str, target: str, met: bool) -> None:
        nonlocal good
        good = good and met
        lines.append(f"| {what} | {measured} | {target} | {'ok' if met else 'MISSED'} |")

    engine = (sys.argv[1:] or ["torch"])[0]
    target = TARGETS[engine]
    peer, theirs = through_mteb(folder)
    with tempfile.TemporaryDirectory() as store:
        seconds, ours, _ = through_bakeoff(folder, engine, store)
        warm, again, calls = through_bakeoff(folder, engine, store)
    check("mteb.evaluate / bakeoff, cold", f"{peer / seconds:.2f}", f"at least {target}", peer / seconds >= target)
    off = ours - theirs
    check("nDCG@10, bakeoff - mteb", f"{ours:.5f} - {theirs:.5f} = {off:+.5f}", "within 0.001", abs(off) <= 0.001)
    same = calls == 0 and again == ours
    check("the same again", f"{warm:.2f} s, {calls} embedding calls", "10 s, 0 calls", warm < 10 and same)
    common.report("against_mteb" if engine == "torch" else f"against_mteb_{engine}", lines)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
