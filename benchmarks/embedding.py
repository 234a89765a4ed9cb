"""How near embedding comes to what this machine's matrix products allow, and to the vectors of sentence-transformers' own encode.

ZOO=folder python benchmarks/embedding.py      about 4 minutes on 2 cores; exits 1 if vectors are not those of encode

A model's limit is the rate of its own products with weights, one layer after the other and nothing in between, in the precision used and
over as many tokens; its operations are, per layer and token, 8 d^2 + 4 d f for those products (width d, inner width f) and 4 L d for
attention over L tokens. Everything takes turns in rounds, and the figures are medians of the rounds' ratios, so that other load on the
machine weighs on all alike. Where the time goes is torch's own profile.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import common
import numpy as np

TEXTS = {
    "st/sentence-transformers/all-MiniLM-L6-v2": 48,
    "st/sentence-transformers/paraphrase-MiniLM-L3-v2": 64,
    "st/local/minilm-finetuned-sre": 48,
    "st/thenlper/gte-small": 16,
    "st/sentence-transformers/all-mpnet-base-v2": 8,
    "hf/moka-ai/m3e-small": 16,
    "st/minishlab/potion-base-8M": 512,
    "st/local/qodo-embed-m2v-256": 512,
}
"""Model -> how many abstracts of SciFact."""
TARGETS = {"float32": 0.95, "bfloat16": 0.70}
COSINE, NEAR = 0.9999, 1e-5
ROUNDS, BATCH = 3, 2048
PROFILED = "st/sentence-transformers/all-MiniLM-L6-v2"
KINDS = {
    "products with weights": ("addmm", "mm", "linear"),
    "attention": ("_scaled_dot_product_flash_attention_for_cpu", "bmm", "softmax", "_softmax"),
    "activation": ("gelu", "relu", "silu"),
    "norms and sums": ("native_layer_norm", "add", "add_"),
    "copies, casts": ("copy_", "where", "index_select", "cat"),
}
"""Kind of work -> names of torch's operations; all others are the rest."""


def rate(config: Any, tokens: float, compute: str) -> float:
    """Operations a second of a model's products with weights, over about so many tokens in batches of 2,048."""
    import torch

    dtype, width, inner = getattr(torch, compute), config.hidden_size, config.intermediate_size
    shapes = ((width, width),) * 4 + ((width, inner), (inner, width))
    given = {ins: torch.randn(BATCH, ins).to(dtype) for ins in (width, inner)}
    layers = [[(ins, torch.randn(outs, ins).to(dtype)) for ins, outs in shapes] for _ in range(config.num_hidden_layers)]

    def batch() -> None:
        for layer in layers:
            for ins, weights in layer:
                torch.nn.functional.linear(given[ins], weights)

    batch()
    batches = max(1, round(tokens / BATCH))
    seconds = clocked(lambda: [batch() for _ in range(batches)])
    return batches * BATCH * config.num_hidden_layers * (8 * width**2 + 4 * width * inner) / seconds


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
    found, shares, faster = dict[Any, Any](), defaultdict[Any, list[float]](list), defaultdict[Any, list[float]](list)
    for way, embedder in embedders.items():  # not timed: a first time is slower
        found[way] = embedder.embed(items, "document")
        lengths = np.minimum(found[way].tokens, embedder.model.max_tokens or found[way].tokens).astype(np.float64)
    tokens, work = float(lengths.sum()), operations(config, lengths) if config else 0.0
    for _ in range(ROUNDS):
        rates = {compute: rate(config, tokens, compute) for compute in TARGETS} if config else {}
        encode = clocked(lambda: found.update(encode=encoder.encode(some)))
        for way, embedder in embedders.items():
            seconds = clocked(lambda way=way, embedder=embedder: found.update({way: embedder.embed(items, "document")}))
            faster[way].append(encode / seconds)
            shares[way] += [work / seconds / rates[way[1]]] if config else []
    rows, good = [], True
    for way in embedders:
        share = float(np.median(shares[way])) if config else None
        row, near = line(spec, way, share, float(np.median(faster[way])), unit(found[way].vectors), unit(found["encode"]))
        rows.append(row)
        good &= near
    return rows, good


def line(spec: str, way: tuple[str, str], share: float | None, faster: float, found: np.ndarray, expected: np.ndarray) -> tuple[str, bool]:
    engine, compute = way
    off, cosine = np.abs(found - expected).max(), (found * expected).sum(axis=1).min()
    near = bool(off <= NEAR if compute == "float32" else cosine >= COSINE)
    of_limit = f"{share:.2f}{'' if share >= TARGETS[compute] else ' (below)'}" if share else "–"
    return f"| {spec} | {engine} | {compute} | {of_limit} | {faster:.2f} | {cosine:.6f} | {off:.0e} | {'ok' if near else 'MISSED'} |", near


def profile(spec: str, count: int) -> list[str]:
    """A table: what share of torch's time each kind of work takes."""
    import torch

    from harness import catalog
    from harness.embedder import Item

    items, shares = [Item(text) for text in texts(count)], dict[str, dict[str, float]]()
    for compute in TARGETS:
        embedder: Any = catalog.load(f"{spec}?compute={compute}&engine=torch")
        embedder.embed(items, "document")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as run:
            embedder.embed(items, "document")
        spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in run.key_averages()}
        shares[compute] = {kind: sum(spent.get(name, 0.0) for name in names) / sum(spent.values()) for kind, names in KINDS.items()}
    lines = [f"| of torch's time, {spec} | {' | '.join(shares)} |", f"| --- |{' --- |' * len(shares)}"]
    lines += [f"| {kind} | {' | '.join(f'{share[kind]:.2f}' for share in shares.values())} |" for kind in KINDS]
    return [*lines, f"| the rest | {' | '.join(f'{1 - sum(share.values()):.2f}' for share in shares.values())} |"]


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
    if PROFILED in chosen:
        lines += ["", *profile(PROFILED, TEXTS[PROFILED])]
    common.report("embedding", lines)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
