"""bakeoff: choose an embedding model on your own data.

    import harness
    board = harness.evaluate("mycorpus", ["bm25", "st/org/name"], out="out/mycorpus")
    board.frame

Names are looked up when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.dataset import Dataset, Document, Query
    from harness.embedder import Embedded, Embedder, Item, Model, Settings, TokenEmbedder, TokenVectors
    from harness.errors import HarnessError
    from harness.experiment import System, Variant
    from harness.index import Index, Ranking
    from harness.metrics import Measure
    from harness.migration import Migration, migrate
    from harness.result import Leaderboard, Result, load
    from harness.runner import evaluate
    from harness.scale import Needs
    from harness.shipped import load as load_dataset
    from harness.store import VectorStore
    from harness.verdict import Verdict, choose

__all__ = [
    "Dataset",
    "Document",
    "Embedded",
    "Embedder",
    "HarnessError",
    "Index",
    "Item",
    "Leaderboard",
    "Measure",
    "Migration",
    "Model",
    "Needs",
    "Query",
    "Ranking",
    "Result",
    "Settings",
    "System",
    "TokenEmbedder",
    "TokenVectors",
    "Variant",
    "VectorStore",
    "Verdict",
    "choose",
    "evaluate",
    "load",
    "load_dataset",
    "migrate",
]

_HOME = {
    **dict.fromkeys(("Dataset", "Document", "Query"), "dataset"),
    **dict.fromkeys(("Embedded", "Embedder", "Item", "Model", "Settings", "TokenEmbedder", "TokenVectors"), "embedder"),
    "HarnessError": "errors",
    **dict.fromkeys(("System", "Variant"), "experiment"),
    **dict.fromkeys(("Index", "Ranking"), "index"),
    "Measure": "metrics",
    **dict.fromkeys(("Migration", "migrate"), "migration"),
    "Needs": "scale",
    **dict.fromkeys(("Leaderboard", "Result", "load"), "result"),
    "evaluate": "runner",
    "load_dataset": "shipped",
    "VectorStore": "store",
    **dict.fromkeys(("Verdict", "choose"), "verdict"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(f"harness.{_HOME[name]}"), "load" if name == "load_dataset" else name)


def __dir__() -> list[str]:
    return __all__
