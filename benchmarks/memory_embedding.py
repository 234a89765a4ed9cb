"""Anonymous memory while hundreds of thousands of short texts are embedded, beside that of the model.

ZOO=folder python benchmarks/memory_embedding.py      about 4 minutes on 2 cores; exits 1 if the target is missed

RssAnon of /proc/self/status, looked at every 20 ms: what the process has that no file is behind. The texts themselves count.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import common
import numpy as np

COUNTS = {
    "st/minishlab/potion-base-8M": (1_000_000,),
    "st/sentence-transformers/paraphrase-MiniLM-L3-v2": (50_000, 200_000),
}
"""Model -> how many texts."""
LIMIT_GB = 1.5
WORDS = "harbour storm ferry ticket refund pilot lamp engine rope anchor tide chart crew bell signal cabin deck".split()  # noqa: SIM905


def anonymous() -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Watch(threading.Thread):
    """The most anonymous memory from ``start`` to ``stop``, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self._over = 0, threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._over.wait(0.02):
            self.most = max(self.most, anonymous())

    def stop(self) -> int:
        """End, and say what was the most."""
        self._over.set()
        self.join()
        return max(self.most, anonymous())


def measure(spec: str, count: int) -> int:
    """The most bytes beside the model, with the corpus read and embedded into an empty store."""
    from harness import catalog, filling
    from harness.dataset import Dataset, Document, Query
    from harness.embedder import Embedder
    from harness.ledger import Ledger
    from harness.progress import Silent
    from harness.store import VectorStore

    embedder = catalog.load(spec)
    assert isinstance(embedder, Embedder)
    embedder.prepare()
    before = anonymous()
    watch, rng = Watch(), np.random.default_rng(0)
    watch.start()
    documents = [Document(str(at), f"{' '.join(rng.choice(WORDS, 6))} {at}") for at in range(count)]
    dataset = Dataset.build("many", documents, [Query("q", "harbour")], {"q": {"0": 1}})
    with tempfile.TemporaryDirectory() as folder:
        stored = filling.fill(Ledger(VectorStore(Path(folder)), "many"), Silent(), spec, embedder, dataset, "document")
    assert stored.matrix.shape == (count, embedder.model.dim)
    return watch.stop() - before


def main() -> int:
    common.use_zoo()
    if len(sys.argv) == 3:  # one figure, in a process of its own
        print(measure(sys.argv[1], int(sys.argv[2])))
        return 0
    import subprocess

    lines, good = ["| model | texts | most GB beside the model | at most | |", "| --- | --- | --- | --- | --- |"], True
    for spec, counts in COUNTS.items():
        for count in counts:
            done = subprocess.run([sys.executable, __file__, spec, str(count)], capture_output=True, text=True, check=True)
            gigabytes = int(done.stdout.split()[-1]) / 1e9
            good = good and gigabytes <= LIMIT_GB
            lines.append(f"| {spec} | {count:,} | {gigabytes:.2f} | {LIMIT_GB} | {'ok' if gigabytes <= LIMIT_GB else 'MISSED'} |")
    common.report("memory_embedding", lines)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
