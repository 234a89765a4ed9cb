"""How near embedding comes to what this machine's matrix products allow, and to the vectors of sentence-transformers' own encode.

ZOO=folder python benchmarks/embedding.py      about 6 minutes on 2 cores; exits 1 if a target is missed

A model's limit is the fastest product of its own shapes, in the precision used, over the operations of a token: per layer
8 d^2 + 4 d f for the products with weights (width d, inner width f) and 4 L d for attention over L tokens. All figures are the best of
rounds in which everything takes turns, so that other load on the machine weighs on all alike.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import common
import numpy as np

TEXTS = {
    "st/sentence-transformers/all-MiniLM-L6-v2": 96,
    "st/sentence-transformers/paraphrase-MiniLM-L3-v2": 128,
    "st/local/minilm-finetuned-sre": 96,
    "st/thenlper/gte-small": 32,
    "st/sentence-transformers/all-mpnet-base-v2": 12,
    "hf/moka-ai/m3e-small": 48,
    "st/minishlab/potion-base-8M": 512,
    "st/local/qodo-embed-m2v-256": 512,
}
"""Model -> how many abstracts of SciFact."""
TARGETS = {"float32": 0.95, "bfloat16": 0.70}
COSINE, NEAR = 0.9999, 1e-5
ROUNDS, PRODUCT_ROUNDS = 3, 12


def products(width: int, inner: int, compute: str) -> float:
    """Operations a second of the fastest product of a model's shapes, 2,048 tokens at once, the best of a few."""
    import torch

    dtype, best = getattr(torch, compute), 0.0
    for ins, outs in ((width, width), (width, inner), (inner, width)):
        tokens, weights = torch.randn(2048, ins).to(dtype), torch.randn(outs, ins).to(dtype)
        for _ in range(PRODUCT_ROUNDS):
            best = max(
                best, 2 * 2048 * ins * outs / clocked(lambda tokens=tokens, weights=weights: torch.nn.functional.linear(tokens, weights))
            )
    return best


def clocked(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def operations(config: Any, lengths: np.ndarray) -> float:
    """Of texts of so many tokens, all together."""
    width, inner = config.hidden_size, config.intermediate_size
    return float((config.num_hidden_layers * lengths * (8 * width**2 + 4 * width * inner + 4 * lengths * width)).sum())


def texts(count: int) -> list[str]:
    with (common.scifact() / "corpus.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(count), strict=False)]
    return [f"{row['title']} {row['text']}".strip() for row in rows]


def peer(spec: str) -> Any:
    """sentence-transformers' own model, as it comes."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(spec.partition("/")[2])


def ways(spec: str) -> dict[tuple[str, str], Any]:
    """Engine and precision -> a loaded embedder, for all that this model has here."""
    from harness import catalog
    from harness.errors import OptionError

    found = {}
    for engine in ("torch", *(("openvino",) if find_spec("openvino") else ())):
        for compute in TARGETS:
            more = f"compute={compute}&engine={engine}" + ("&pooling=mean" if spec.startswith("hf/") else "")
            try:
                embedder: Any = catalog.load(f"{spec}?{more}")
            except OptionError:  # not an architecture for this engine
                continue
            if dict(embedder.model.options)["compute"] == compute:  # static vectors have but one
                embedder.prepare()
                found[engine, compute] = embedder
    return found


def measure(spec: str, count: int) -> tuple[list[str], bool]:
    """Rows of the table, and whether all is within its target."""
    from harness.embedder import Item

    some, encoder, embedders = texts(count), peer(spec), ways(spec)
    items, config = [Item(text) for text in some], getattr(encoder[0], "config", None)
    best, rates, found = dict.fromkeys(["encode", *embedders], np.inf), dict.fromkeys(TARGETS, 0.0), dict[Any, Any]()
    for _ in range(ROUNDS):
        for compute in TARGETS if config else ():
            rates[compute] = max(rates[compute], products(config.hidden_size, config.intermediate_size, compute))
        best["encode"] = min(best["encode"], clocked(lambda: found.update(encode=encoder.encode(some))))
        for way, embedder in embedders.items():
            best[way] = min(best[way], clocked(lambda way=way, embedder=embedder: found.update({way: embedder.embed(items, "document")})))
    rows, good = [], True
    for way, embedder in embedders.items():
        lengths = np.minimum(found[way].tokens, embedder.model.max_tokens or found[way].tokens).astype(np.float64)
        share = operations(config, lengths) / best[way] / rates[way[1]] if config else None
        row, near = line(spec, way, share, best["encode"] / best[way], unit(found[way].vectors), unit(found["encode"]))
        rows.append(row)
        good &= near
    return rows, good


def line(spec: str, way: tuple[str, str], share: float | None, faster: float, found: np.ndarray, expected: np.ndarray) -> tuple[str, bool]:
    engine, compute = way
    off, cosine = np.abs(found - expected).max(), (found * expected).sum(axis=1).min()
    near = bool(off <= NEAR if compute == "float32" else cosine >= COSINE)
    of_limit = f"{share:.2f}{'' if share >= TARGETS[compute] else ' (below)'}" if share else "–"
    return f"| {spec} | {engine} | {compute} | {of_limit} | {faster:.2f} | {cosine:.6f} | {off:.0e} | {'ok' if near else 'MISSED'} |", near


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def main() -> int:
    common.use_zoo()
    import torch

    torch.set_num_threads(common.THREADS)
    chosen = sys.argv[1:] or list(TEXTS)
    aims = f"{TARGETS['float32']:.2f} in float32 and {TARGETS['bfloat16']:.2f} in bfloat16"
    near = f"float32 within {NEAR:.0e} of encode, bfloat16 at a cosine of {COSINE} or more"
    lines = [
        f"{common.THREADS} cores. Aimed at: {aims} of the limit; {near}.",
        "",
        "| model | engine | precision | of the limit | times as fast as encode | lowest cosine to encode | largest difference | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    good = True
    for spec in chosen:
        rows, close = measure(spec, TEXTS[spec])
        lines += rows
        good &= close
    common.report("embedding", lines)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
