"""A real run in a process of its own, which a test may kill: python killable.py CORPUS STORE OUT LOG.

Every text handed to the model is appended to LOG first, so that the test can see what was embedded, and when.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import filling, runner
from harness.embedder import Embedded, Item, Role, Settings
from providers.hash import HashEmbedder

BATCH = 8
SPEC = "hash/512"


class Logged(HashEmbedder):
    batch = BATCH

    def __init__(self, log: Path) -> None:
        super().__init__(512, Settings())
        self._log = log

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        with self._log.open("a", encoding="utf-8") as file:
            file.write("".join(f"{role}\t{item.full}\n" for item in items))
        return super().embed(items, role)


if __name__ == "__main__":
    corpus, store, out, log = map(Path, sys.argv[1:])
    filling._MAX_BATCH = BATCH
    board = runner.evaluate(corpus, [Logged(log)], store_folder=store, out=out, dims=[512, 64])
    print(len(board.results), "cells")
