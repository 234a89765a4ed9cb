"""Cells and leaderboards made of scores and costs, without measuring anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import result
from harness.metrics import UNJUDGED
from harness.result import Absence, Cost, Leaderboard, Result, sort_results

METRIC = "ndcg@10"
DOCUMENTS = 1_000
COST = Cost(
    document_seconds=36.0,
    query_seconds=1.0,
    search_seconds=0.1,
    alone_embed_p95=0.010,
    alone_search_p95=0.002,
    scan_seconds_per_gb=1.0,
    bytes=256_000,
    document_tokens=50_000,
    query_tokens=1_000,
)
MODEL = {"licence": "MIT", "usd_per_million_tokens": 0.0, "local": True}


def cell(
    spec: str, scores: Sequence[float] | np.ndarray, *, dim: int = 64, trained: bool = True, cost: Cost = COST, **model: Any
) -> Result:
    """One cell with these per-query scores ``(queries,)``; ``model`` are facts such as its licence."""
    scores, floor = np.asarray(scores, dtype=float), spec in ("bm25", "random")
    return Result(
        identity=f"{spec} {dim}",
        model=MODEL | model,
        spec=spec,
        dim=0 if floor else dim,
        native_dim=0 if floor else 256,
        precision="float32",
        index="Flat",
        trained=trained,
        floor=floor,
        device="cpu",
        depth=10,
        dataset="made",
        fingerprint={},
        query_ids=tuple(f"q{row}" for row in range(len(scores))),
        documents=(np.array(["d0"], dtype=object),) * len(scores),
        ranking_scores=(np.ones(1, dtype=np.float32),) * len(scores),
        grades=(np.array([UNJUDGED], dtype=np.int32),) * len(scores),
        scores={METRIC: scores},
        cost=Cost() if floor else cost,
    )


def leaderboard(
    *cells: Result,
    name: str = "made",
    documents: int = DOCUMENTS,
    tasks: Mapping[str, Sequence[str]] | None = None,
    tags: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    absences: tuple[Absence, ...] = (),
) -> Leaderboard:
    """The leaderboard of these cells; ``tags`` are the user's: name -> value -> query ids."""
    tags = tags or {}
    queries = len(cells[0].query_ids) if cells else 0
    facts = {"name": name, "documents": documents, "queries": queries, "split": "test"}
    return Leaderboard(
        dataset=facts | {"query_tags": {tag: {value: len(ids) for value, ids in values.items()} for tag, values in tags.items()}},
        headline=METRIC,
        results=sort_results(cells, METRIC),
        absences=absences,
        slices=tags,
        tasks=tasks or {},
    )


def written(board: Leaderboard, folder: Path) -> Path:
    """The board as the files of its output folder."""
    for one in board.results:
        result.write(one, folder / "results" / result.file_name(one.identity, one.spec, one.dim))
    result.save(board, folder, {})
    return folder
