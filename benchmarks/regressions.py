"""Does the gate catch what was made worse on purpose, and let pass what changes nothing? Real weights on SciFact.

ZOO=folder python benchmarks/regressions.py      needs the extra onnx; 20 to 30 minutes on 2 busy cores
The built-in rules decide. Exits 1 if a change made on purpose costs more than the allowed drop and passes, or a harmless one fails.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

import harness
from harness import baseline, catalog, check
from harness.console import Lines
from harness.embedder import Embedded, Embedder, Item, Role, texts
from providers import st

MINILM, SMALL = "st/sentence-transformers/all-MiniLM-L6-v2", "st/sentence-transformers/paraphrase-MiniLM-L3-v2"
ARCTIC, PROMPT = "snowflake-arctic-embed-s-int8", "Represent this sentence for searching relevant passages: "


class Arctic:
    """snowflake-arctic-embed-s as an int8 ONNX file; what it has embedded is kept in ``known``, text -> vector ``(384,)`` and tokens."""

    batch = 16

    def __init__(self, query_prompt: str, known: dict[str, tuple[NDArray[np.float32], int]]) -> None:
        embedder = catalog.load(f"onnx/{os.environ['ZOO']}/onnx/{ARCTIC}?pooling=cls&query_prompt={query_prompt}")
        assert isinstance(embedder, Embedder)
        self._own, self._known = embedder, known
        self.model = replace(embedder.model, name=ARCTIC)

    def prepare(self) -> None:
        """Load the weights."""
        self._own.prepare()

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed what is new behind its prompt: the documents are the same under every prompt of the queries."""
        prompted = texts(items, self.model.prompt(role))
        new = {text: item for text, item in zip(prompted, items, strict=True) if text not in self._known}
        if new:
            found = self._own.embed(list(new.values()), role)
            self._known.update(zip(new, zip(found.vectors, found.tokens.tolist(), strict=True), strict=True))
        vectors, tokens = zip(*(self._known[text] for text in prompted), strict=True)
        return Embedded(np.stack(vectors), np.array(tokens, dtype=np.int64))


def measure(data: Path, model: str | Embedder, dims: Sequence[Any] = ("native",), threads: int = 2) -> harness.Leaderboard:
    """A leaderboard of one model, whose vectors go into a store that is new and goes away."""
    with tempfile.TemporaryDirectory() as store:
        board = harness.evaluate(data, [model], dims=dims, store_folder=store, threads=threads, floors=False, progress=Lines())
    assert len(board.results) == len(dims), board.absences
    return board


def measure_small(data: Path, threads: int, batch: int, seed: int) -> harness.Leaderboard:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    embedder: Any = catalog.load(SMALL)
    embedder.batch, st.TOKENS_A_BATCH = batch, batch * 128
    return measure(data, embedder, threads=threads)


def elsewhere(data: Path, threads: int = 2, batch: int = 32, seed: int = 0) -> harness.Leaderboard:
    """The small model in a process of its own; ``batch`` counts texts of its full 128 tokens, ``seed`` is torch's and Python's."""
    os.environ["PYTHONHASHSEED"] = str(seed)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_small, data, threads, batch, seed).result()


def shuffled(data: Path, folder: Path) -> Path:
    """A copy of a collection, the lines of its files in another order."""
    shutil.copytree(data, folder)
    for name, head in (("corpus.jsonl", 0), ("queries.jsonl", 0), ("qrels/test.tsv", 1)):
        lines = (folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
        mixed = random.Random(7).sample(lines[head:], len(lines) - head)
        (folder / name).write_text("".join([*lines[:head], *mixed]), encoding="utf-8")
    return folder


def cosines_moved(before: harness.Leaderboard, now: harness.Leaderboard) -> float:
    """By how much the cosine of any query's first document differs."""
    one, other = (dict(zip(board.results[0].query_ids, board.results[0].ranking_scores, strict=True)) for board in (before, now))
    return max(abs(float(one[query][0] - other[query][0])) for query in one)


def row(change: str, before: harness.Leaderboard, now: harness.Leaderboard, cell: str | None = None, *, harmless: bool = False) -> str:
    """A line of the table; its last word is MISSED where the gate did not what it should."""
    native = next(result.name for result in before.results if result.dim == result.native_dim)
    with tempfile.TemporaryDirectory() as folder:
        baseline.save_baseline(before, Path(folder) / "baseline.json", [native])
        report = check.check(now, Path(folder) / "baseline.json", cell=cell)
    whole, *parts = report.outcomes
    gate = f"fails: {'all and ' * whole.regressed}{sum(one.regressed for one in parts)} of {len(parts)} slices"
    within = -whole.change <= whole.allowed
    expected = "passes" if harmless else f"either, {whole.allowed} is allowed" if within else "fails"
    good = not report.regressed if harmless else report.regressed or within
    figures = f"{whole.before:.4f} | {whole.now:.4f} | {whole.change:+.4f} | {whole.p:.4f}"
    return f"| {change} | {native} | {figures} | {gate if report.regressed else 'passes'} | {expected} | {'ok' if good else 'MISSED'} |"


def main() -> int:
    common.use_zoo()
    from huggingface_hub import snapshot_download

    data, began, known = common.scifact(), time.perf_counter(), dict[str, tuple[NDArray[np.float32], int]]()
    with tempfile.TemporaryDirectory() as scratch:
        right, without, wrong = (measure(data, Arctic(prompt, known)) for prompt in (PROMPT, "", "query: "))
        rows = [row("query prompt dropped", right, without), row("query prompt `query: `, as e5 has it", right, wrong)]
        cut = measure(data, MINILM, dims=("native", 192, 96))
        folder = shutil.copytree(snapshot_download(MINILM.removeprefix("st/")), Path(scratch) / "model")
        config = folder / "1_Pooling" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
        rows += [row("pooling cls instead of mean", cut, measure(data, f"st/{folder}"), f"st/{folder} @ 384")]
        rows += [row(f"{dim} of 384 dims", cut, cut, f"{MINILM} @ {dim}") for dim in (192, 96)]
        first, mixed = elsewhere(data), shuffled(data, Path(scratch) / "data")
        again = {"one thread instead of two": elsewhere(data, threads=1), "8 texts a batch instead of 32": elsewhere(data, batch=8)}
        again |= {"other seeds, all lines in another order": elsewhere(mixed, seed=7)}
    rows += [row(change, first, now, harmless=True) for change, now in again.items()]
    moved = ", ".join(f"{cosines_moved(first, now):.0g}" for now in again.values())
    about = f"nDCG@10 on {data.name}; {(time.perf_counter() - began) / 60:.1f} minutes on {os.cpu_count()} cores. "
    about += f"For the last three all was embedded anew, and the cosines of the first documents moved by up to {moved}."
    head = "| change | baseline | before | now | change | p | gate | expected | ok |\n" + "| --- " * 9 + "|"
    common.report("regressions", [about, "", head, *rows])
    return int("MISSED" in "".join(rows))


if __name__ == "__main__":
    sys.exit(main())
