"""Does the prompt check flag wrong prompts, and leave right ones alone? Real weights, real judgements.

ZOO=folder python benchmarks/prompts.py      needs the extra onnx, and python benchmarks/e5.py $ZOO/e5 once; STORE=folder keeps the vectors
20 minutes on 2 idle cores, less where the vectors are stored. A model that was trained with prompts must be flagged without them and with
them on the wrong sides, and not with them; MiniLM, which was trained without any, must not be flagged in 20 samples. Exits 1 otherwise.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
from harness.prompts import Finding, Make, Prompts
from harness.store import VectorStore

MINILM, E5 = "packaged/all-MiniLM-L6-v2", "multilingual-e5-small (4 bits)"
DOCUMENTS, HARD = 450, 1000  # a full check embeds its documents five times
SEEDS, SEED_QUERIES, SEED_DOCUMENTS = 20, 100, 150
COLUMNS = ("model", "configured (query / document)", "check", "queries", "documents", "nDCG@10", "best other", "gain (95 %)", "p")
HEAD = [f"| {' | '.join([*COLUMNS, 'flagged', 'expected', 'ok'])} |", "| --- " * (len(COLUMNS) + 3) + "|"]


class Prompted(Arctic):
    """Arctic with prompts for both roles."""

    def __init__(self, given: Prompts, known: dict[str, tuple[NDArray[np.float32], int]]) -> None:
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


class Case(NamedTuple):
    """Prompts as configured, and whether the full check and that of queries' prompts only must flag them; None for either."""

    own: Prompts
    full: bool | None
    only: bool | None


def line(model: str, found: Finding, own: Prompts, how: str, wrong: bool | None) -> str:
    """A line of the table; ``wrong`` is what was expected, None for either."""
    best = found.trials[1]
    assert best.gain
    gain = f"{best.gain.difference:+.3f} ({best.gain.low:+.3f} to {best.gain.high:+.3f})"
    ok = "ok" if wrong is None or found.warn == wrong else "MISSED"
    expected = "either" if wrong is None else "yes" if wrong else "no"
    figures = f"{found.queries} | {found.documents} | {found.trials[0].mean:.3f} | {best.label} | {gain} | {best.p:.4f}"
    return f"| {model} | {own} | {how} | {figures} | {'yes' if found.warn else 'no'} | {expected} | {ok} |"


def flagged(model: str, make: Make, cases: Sequence[Case], small: Dataset, hard: Dataset, ledger: Ledger) -> list[str]:
    """A line for each case and check: the full one on few documents, that of queries' prompts on more."""
    rows = []
    for own, *expected in cases:
        for how, only, wrong in (("full", False, expected[0]), ("query's prompt only", True, expected[1])):
            others, part = prompts.alternatives(own, queries_only=only), hard if only else small
            found = prompts.compare(model, make(own), make, others, part, ledger, Lines())
            rows.append(line(model, found, own, how, wrong))
    return rows


def arctic(data: Dataset, ledger: Ledger) -> list[str]:
    """Arctic, trained with a prompt for queries."""
    known: dict[str, tuple[NDArray[np.float32], int]] = {}
    cases = [
        Case(Prompts(PROMPT), full=False, only=False),
        Case(Prompts(), full=True, only=True),
        Case(Prompts("", PROMPT), full=True, only=None),
        Case(Prompts(PROMPT, PROMPT), full=None, only=None),  # costs nothing, as it turns out
    ]
    small, hard = prompts.sample(data, documents=DOCUMENTS), prompts.sample(data, documents=HARD)
    return flagged(ARCTIC, lambda given: Prompted(given, known), cases, small, hard, ledger)


def e5(data: Dataset, ledger: Ledger) -> list[str]:
    """E5, trained with a prompt for each role."""
    folder = Path(os.environ["ZOO"]) / "e5"

    def make(given: Prompts) -> Embedder:
        embedder = catalog.load(catalog.with_prompts(f"st/{folder}", *given))
        assert isinstance(embedder, Embedder)
        return embedder

    right = Prompts("query: ", "passage: ")
    cases = [
        Case(right, full=False, only=False),
        Case(Prompts(), full=True, only=None),
        Case(Prompts(*reversed(right)), full=True, only=None),
    ]
    part = prompts.sample(data, documents=DOCUMENTS)
    return flagged(E5, make, cases, part, part, ledger)


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
    if not (Path(os.environ["ZOO"]) / "e5" / "config.json").is_file():
        sys.exit("no E5 there: python benchmarks/e5.py $ZOO/e5")
    faq, began = common.scifact().parent / "stackfaq", time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        store = VectorStore(Path(os.environ.get("STORE") or Path(scratch) / "store"))
        ledger = Ledger(store, "stackfaq", None)
        rows = [*arctic(beir.read(common.scifact()), Ledger(store, "scifact", None)), *e5(beir.read(faq), ledger)]
        said = untrained(beir.read(faq), ledger)
        said.append(costs(faq, Path(scratch)))
    about = (
        f"Flagged: the relevant documents rank higher with another prompt, p at most {prompts.ALPHA} over all others together (Holm), and"
        f" nDCG@10 is higher by {prompts.LEAST} or more and by its 95 % interval."
    )
    stored = ", with vectors of earlier runs" if os.environ.get("STORE") else ""
    took = f"Took {(time.perf_counter() - began) / 60:.0f} minutes on 2 cores{stored}."
    head = [f"Arctic on samples of scifact, E5 on samples of stackfaq. {about} {took}", "", *HEAD]
    common.report("prompts", [*head, *rows, "", *said])
    return int("MISSED" in "".join([*rows, *said]))


if __name__ == "__main__":
    sys.exit(main())
