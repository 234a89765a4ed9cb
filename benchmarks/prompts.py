"""Does the prompt check flag wrong prompts, and leave right ones alone? Real weights, real judgements.

ZOO=folder python benchmarks/prompts.py      needs pip install onnxruntime; 15 minutes on 2 idle cores, less where STORE=folder has vectors
A model that was trained with a prompt must be flagged without it and with it on the wrong side, and not with it; MiniLM, which was
trained without any, must not be flagged in 20 samples. Exits 1 otherwise.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
from numpy.typing import NDArray
from regressions import ARCTIC, PROMPT, Arctic

import harness
from harness import beir, catalog, prompts
from harness.console import Lines
from harness.dataset import Dataset
from harness.embedder import Embedder, Model
from harness.ledger import Ledger
from harness.progress import Silent
from harness.prompts import Finding, Prompts
from harness.store import VectorStore

MINILM = "packaged/all-MiniLM-L6-v2"
DOCUMENTS, HARD = 450, 1000  # a full check embeds its documents five times
SEEDS, SEED_QUERIES, SEED_DOCUMENTS = 20, 100, 150
HEAD = "| configured (query / document) | check | queries | documents | nDCG@10 | best other | gain (95 %) | p | flagged | expected | ok |"


class Prompted(Arctic):
    """Arctic with prompts for both roles."""

    def __init__(self, given: Prompts, known: dict[str, NDArray[np.float32]]) -> None:
        super().__init__(given.query, known)
        self.model = Model(
            provider="onnx",
            name=ARCTIC,
            revision="int8",
            dim=384,
            query_prompt=given.query,
            document_prompt=given.document,
            pooling="cls",
        )


def line(found: Finding, own: Prompts, how: str, wrong: bool | None) -> str:
    """A line of the table; ``wrong`` is what was expected, None for either."""
    best = found.trials[1]
    assert best.gain
    gain = f"{best.gain.difference:+.3f} ({best.gain.low:+.3f} to {best.gain.high:+.3f})"
    ok = "ok" if wrong is None or found.warn == wrong else "MISSED"
    expected = "either" if wrong is None else "yes" if wrong else "no"
    figures = f"{found.queries} | {found.documents} | {found.trials[0].mean:.3f} | {best.label} | {gain} | {best.p:.4f}"
    return f"| {own} | {how} | {figures} | {'yes' if found.warn else 'no'} | {expected} | {ok} |"


def trained(data: Dataset, ledger: Ledger) -> list[str]:
    """Arctic, trained with a prompt for queries, configured rightly and wrongly."""
    known: dict[str, NDArray[np.float32]] = {}

    def make(given: Prompts) -> Embedder:
        return Prompted(given, known)

    rows, right = [], Prompts(PROMPT)
    cases: tuple[tuple[Prompts, bool | None, bool | None], ...] = (  # configured; flagged by the full check, by that of queries' prompts?
        (right, False, False),
        (Prompts(), True, True),  # the full check's sample of few documents is too easy to show it at this level: said as MISSED
        (Prompts("", PROMPT), True, None),
        (Prompts(PROMPT, PROMPT), None, None),  # costs nothing, as it turns out
    )
    small, hard = prompts.sample(data, documents=DOCUMENTS), prompts.sample(data, documents=HARD)
    for own, *expected in cases:
        for how, only, wrong in (("full", False, expected[0]), ("query's prompt only", True, expected[1])):
            others, part = prompts.alternatives(own, queries_only=only), hard if only else small
            found = prompts.compare(f"onnx/{ARCTIC}", make(own), make, others, part, ledger, Lines())
            rows.append(line(found, own, how, wrong))
    return rows


def untrained(data: Dataset, ledger: Ledger) -> list[str]:
    """MiniLM, trained without prompts, on sample after sample."""
    system = catalog.load(MINILM)
    flagged, gains, smallest = 0, [], 1.0
    for seed in range(SEEDS):
        found = prompts.check(MINILM, system, prompts.sample(data, SEED_QUERIES, SEED_DOCUMENTS, seed), ledger, progress=Silent())
        flagged += found.warn
        gains += [trial.gain.difference for trial in found.trials if trial.gain]
        smallest = min(smallest, *(trial.p for trial in found.trials if trial.p is not None))
    ok = "ok" if not flagged else "MISSED"
    said = f"{MINILM} on {data.about.name}: flagged in {flagged} of {SEEDS} samples of {SEED_QUERIES} queries ({ok})"
    return [f"{said}; the largest gain of another prompt was {max(gains):+.3f}, the smallest adjusted p {smallest:.3f}."]


def costs(folder: Path, scratch: Path) -> str:
    """How long the check in a run takes beside the run."""
    seconds = []
    for check in (False, True):  # the second finds all but the check's own vectors in the store
        began = time.perf_counter()
        harness.evaluate(folder, [MINILM], dims=["native"], store_folder=scratch / "costs", check_prompts=check)
        seconds.append(time.perf_counter() - began)
    return (
        f"A cold run of {MINILM} on {folder.name} took {seconds[0]:.0f} s, one that found its vectors and checked prompts (queries' only,"
        f" 300 queries, as if asked for) {seconds[1]:.0f} s."
    )


def main() -> int:
    common.use_zoo()
    scifact, faq, began = beir.read(common.scifact()), common.scifact().parent / "stackfaq", time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        store = VectorStore(Path(os.environ.get("STORE") or Path(scratch) / "store"))
        rows = trained(scifact, Ledger(store, "scifact", None))
        said = untrained(beir.read(faq), Ledger(store, "stackfaq", None))
        said.append(costs(faq, Path(scratch)))
    about = f"Level {prompts.ALPHA:.0%} over all other prompts of a model together (Holm), and a gain of {prompts.LEAST} nDCG@10 or more."
    stored = ", with vectors of earlier runs" if os.environ.get("STORE") else ""
    took = f"Took {(time.perf_counter() - began) / 60:.0f} minutes on 2 cores{stored}."
    head = [f"{ARCTIC} on samples of scifact. {about} {took}", "", HEAD, "| --- " * 11 + "|"]
    common.report("prompts", [*head, *rows, "", *said])
    return int("MISSED" in "".join([*rows, *said]))


if __name__ == "__main__":
    sys.exit(main())
