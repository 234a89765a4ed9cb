"""What exact search takes of memory, however large the corpus: a million stored vectors of 768 dimensions.

FOLDER=folder-with-7-GB-free python benchmarks/memory.py      three minutes on 2 cores; exits 1 if the target is missed
The vectors are clustered about 5,000 centres and lie in a file, as the store gathers them. Anonymous memory (RssAnon of
/proc/self/status) is what a process holds and the system cannot take back; pages of files are not part of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import common
import numpy as np

from harness import vectors
from harness.index import Index

ROWS, DIM, QUERIES, K = 1_000_000, 768, 200, 100
TARGET = 1.5e9
HEAD = ["| step | seconds | RssAnon at most, MB | index, MB |", "| --- | --- | --- | --- |"]
T = TypeVar("T")


def anonymous() -> int:
    """Bytes of RssAnon now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def watched(step: Callable[[], T]) -> tuple[T, float, int]:
    """What a step returns, its seconds, and the most of anonymous memory meanwhile."""
    most, done = anonymous(), threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        found = step()
    finally:
        done.set()
        watcher.join()
    return found, time.perf_counter() - began, most


def stored(folder: Path) -> Any:
    """The vectors in a file, as a read-only mapping."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5_000, DIM)).astype(np.float32)
    matrix = np.memmap(folder / "vectors", dtype=np.float32, mode="w+", shape=(ROWS, DIM))
    for start in range(0, ROWS, 20_000):
        rows = min(20_000, ROWS - start)
        noise = rng.normal(size=(rows, DIM), scale=0.7).astype(np.float32)
        matrix[start : start + rows] = centres[rng.integers(len(centres), size=rows)] + noise
    matrix.flush()
    return np.memmap(folder / "vectors", dtype=np.float32, mode="r", shape=(ROWS, DIM))


def main() -> int:
    rows, worst = [], 0
    with tempfile.TemporaryDirectory(dir=os.environ.get("FOLDER")) as name:
        native, order = stored(Path(name)), np.arange(ROWS)
        asked = np.array(native[:: ROWS // QUERIES][:QUERIES]) + np.float32(0.1)
        for dim, precision in ((768, "float32"), (256, "float32"), (768, "int8"), (768, "binary")):
            queries = vectors.truncate(asked, dim)
            index, seconds, most = watched(lambda dim=dim, precision=precision: Index.build(native, dim, precision=precision))
            size = index.nbytes / 1e6
            rows.append(f"| {precision}, {dim} dimensions: index | {seconds:.1f} | {most / 1e6:,.0f} | {size:,.0f} |")
            worst = max(worst, most)
            _, seconds, most = watched(lambda queries=queries, index=index: index.search(queries, K, order))
            rows.append(f"| {precision}, {dim} dimensions: {QUERIES} queries, k = {K} | {seconds:.1f} | {most / 1e6:,.0f} | {size:,.0f} |")
            worst = max(worst, most)
            del index
    said = f"{ROWS:,} vectors of {DIM} dimensions, {ROWS * DIM * 4 / 1e9:.1f} GB. "
    said += f"At most {worst / 1e6:,.0f} MB, to stay under {TARGET / 1e6:,.0f}."
    common.report("memory", [said, "", *HEAD, *rows])
    return int(worst > TARGET)


if __name__ == "__main__":
    sys.exit(main())
