"""``random``: documents in an arbitrary but repeatable order: what a ranking is worth that knows nothing."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from harness.dataset import Dataset
from harness.embedder import Model, Settings
from harness.errors import OptionError
from harness.index import Ranking


def load(name: str, settings: Settings) -> RandomSystem:
    """``name`` is empty, or a seed: ``random/7``."""
    if name and not (name.isascii() and name.isdigit()):
        raise OptionError(f"seed {name!r} is not a whole number; write random or random/7")
    return RandomSystem(int(name or 0), settings)


class RandomSystem:
    """Uniform scores, seeded by query id and drawn in the order of document ids: the order of lines changes nothing."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.model = Model(provider="random", name=str(seed) if seed else "", revision="1", dim=0, **settings.facts())
        self._seed = seed

    def rank(self, dataset: Dataset, k: int) -> Ranking:
        """Rank documents for every query."""
        order = dataset.tie_order()
        return Ranking.from_scores((self._scores(query.id, order)[None] for query in dataset.queries), order, k)

    def _scores(self, query: str, order: NDArray[np.int64]) -> NDArray[np.float32]:
        word = int.from_bytes(hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest()[:8], "little")
        return np.random.default_rng([self._seed, word]).random(len(order), dtype=np.float32)[order]
