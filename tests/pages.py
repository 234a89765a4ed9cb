"""A leaderboard made of random numbers with texts to read, and a browser to read its page with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from harness.metrics import UNJUDGED
from harness.result import Cost, Leaderboard, Result, sort_results

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="NOT RUN: no Chromium on this machine (apt-get install chromium)"
)
WORDS = "harbour storm ferry ticket refund pilot lamp engine rope anchor tide chart crew bell signal cabin deck".split()  # noqa: SIM905


@contextmanager
def opened(path: Path, **context: Any) -> Iterator[Page]:
    """The page in a browser; at the end it must not have complained nor asked for anything but files."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM or "chromium", args=FLAGS)
        page = browser.new_context(**context).new_page()
        seen: list[str] = []
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url) if not request.url.startswith("file:") else None)
        page.goto(path.as_uri())
        yield page
        assert not seen, f"the page complained or asked for something: {seen}"
        browser.close()


def made(
    queries: int = 40,
    specs: Sequence[str] = ("made/large", "made/small"),
    dims: Sequence[int] = (128, 64),
    documents: int = 400,
    mark: str = "",
) -> Leaderboard:
    """A leaderboard of random rankings: one relevant document a query, which better cells find more often; q0 is found by none.

    ``mark`` stands in every text that comes from a corpus or a user.
    """
    rng = np.random.default_rng(7)
    ids = [f"d{row}{mark}" for row in range(documents)]
    asked = [f"q{row}{mark}" for row in range(queries)]
    judged = {query: {ids[row % documents]: 2, ids[(row + 1) % documents]: 0} for row, query in enumerate(asked)}
    grid = [(f"{spec}{mark}", dim) for spec in specs for dim in dims] + [("bm25", 0), ("random", 0)]
    cells = [_cell(rng, spec, dim, 0.9 - 0.5 * at / len(grid), asked, ids, judged) for at, (spec, dim) in enumerate(grid)]
    half = queries // 2
    facts = {
        "name": f"made{mark}",
        "description": f"random{mark}",
        "task": "none",
        "licence": "MIT",
        "split": "test",
        "images": 0,
        "documents": documents,
        "queries": queries,
        "judgements": 2 * queries,
        "mean_words": 30.0,
        "longest_words": 30,
        "relevant_per_query": 1.0,
        "entries_skipped": 0,
        "duplicate_documents": 3,
        "queries_left_out": 1,
        "queries_with_one_relevant": queries,
        "query_tags": {f"kind{mark}": {"first": half, "second": queries - half}},
        "fingerprint": {"documents": "ab" * 32},
    }
    return Leaderboard(
        dataset=facts,
        headline="ndcg@10",
        results=sort_results(cells, "ndcg@10"),
        slices={f"kind{mark}": {f"first{mark}": asked[:half], "second": asked[half:]}},
        queries={query: f"Query {row}: {' '.join(rng.choice(WORDS, 9))}{mark}" for row, query in enumerate(asked)},
        documents={id_: f"{' '.join(rng.choice(WORDS, 30))}{mark}"[:200] for id_ in ids},
        judgements=judged,
    )


def _cell(
    rng: np.random.Generator, spec: str, dim: int, skill: float, asked: list[str], ids: list[str], judged: dict[str, dict[str, int]]
) -> Result:
    found, grades, scores = [], [], []
    for row, query in enumerate(asked):
        hits = [id_ for id_ in rng.choice(len(ids), 14, replace=False) if ids[id_] not in judged[query]][:10]
        place = int(rng.integers(10)) if row and rng.random() < skill else None
        if place is not None:
            hits[place] = row % len(ids)
        found.append(np.array([ids[at] for at in hits], dtype=object))
        grades.append(np.array([judged[query].get(ids[at], UNJUDGED) for at in hits], dtype=np.int32))
        scores.append(0.0 if place is None else 1 / np.log2(place + 2))
    return Result(
        identity=f"{spec} {dim}",
        model={"licence": "MIT", "usd_per_million_tokens": 0.0},
        spec=spec,
        dim=dim,
        native_dim=dim,
        precision="int8" if dim == 64 else "float32",
        index="Flat",
        trained=True,
        floor=not dim,
        device="cpu",
        depth=10,
        dataset="made",
        fingerprint={},
        query_ids=tuple(asked),
        documents=tuple(found),
        ranking_scores=(np.arange(10, 0, -1, dtype=np.float32),) * len(asked),
        grades=tuple(grades),
        scores={"ndcg@10": np.array(scores)},
        cost=Cost(
            document_seconds=9.0 + dim,
            alone_embed_p50=0.01,
            alone_embed_p95=0.02,
            alone_search_p50=0.001,
            alone_search_p95=0.002,
            bytes=4 * dim * len(ids),
            document_tokens=900,
            query_tokens=90,
            truncated_documents=0,
        )
        if dim
        else Cost(),
        environment={"python": "3.11", "measured": "2026-01-01T00:00:00Z"},
    )
