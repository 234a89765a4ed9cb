"""Smaller dimensions cut here and asked of the server: the same rankings.

python benchmarks/server_dims.py        a minute; exits 1 if a target is missed

A server in this process has WordLlama's real Matryoshka vectors and makes a smaller dimension as OpenAI documents it: the first numbers of
the vector, scaled to length 1. Quickstart goes through it once with `?mrl_dims=128,64`, where bakeoff cuts, and once as `--server-dims`
asks, where the server does. Targets: no query whose first ten differ, nDCG@10 equal.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import common
import numpy as np

DIMS = (256, 128, 64)
SHOWN = 10  # hits of a query that must be the same


class Handler(BaseHTTPRequestHandler):
    """POST /v1/embeddings."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    asked: list[int]
    embedder: Any
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Embed the texts, cut and scale them, answer."""
        from harness.embedder import Item

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        dim = body.get("dimensions") or DIMS[0]
        with self.lock:
            embedded = self.embedder.embed([Item(text) for text in body["input"]], "document")
            self.asked.append(dim)
        rows = embedded.vectors[:, :dim].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows.astype(np.float32).tolist())]
        tokens = int(embedded.tokens.sum())
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = json.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[tuple[str, list[int]]]:
    """The server's address, and the dimensions it was asked for, one a request."""
    from harness import catalog

    Handler.asked, Handler.embedder = [], catalog.load("wordllama/256")
    Handler.embedder.prepare()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", Handler.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> int:
    import harness
    from harness import catalog

    with serving() as (url, asked), tempfile.TemporaryDirectory() as store:
        spec = f"openai-compatible/wordllama?base_url={url}&dim=256&mrl_dims=128,64"
        cut = harness.evaluate("quickstart", [spec], store_folder=store, floors=False)
        requests = len(asked)
        specs = catalog.by_server([spec])
        by_server = harness.evaluate("quickstart", specs, dims=["native"], store_folder=store, floors=False)
    assert not cut.absences + by_server.absences, [*cut.absences, *by_server.absences]
    assert set(asked[:requests]) == {256}
    here = {result.dim: result for result in cut.results}
    there = {result.dim: result for result in by_server.results}
    lines = ["| dim | nDCG@10 cut here | by the server | first ten the same | largest difference of a score | requests for it | |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    failed = set(here) != set(DIMS) or set(there) != set(DIMS)
    for dim in sorted(set(here) & set(there), reverse=True):
        one, other = here[dim], there[dim]
        pairs = list(zip(one.documents, other.documents, strict=True))
        same = sum(list(mine[:SHOWN]) == list(theirs[:SHOWN]) for mine, theirs in pairs)
        gaps = [
            np.abs(np.asarray(mine[:SHOWN]) - np.asarray(theirs[:SHOWN])).max()
            for mine, theirs in zip(one.ranking_scores, other.ranking_scores, strict=True)
        ]
        good = same == len(pairs) and abs(one.mean("ndcg@10") - other.mean("ndcg@10")) < 1e-9
        failed |= not good
        figures = f"{one.mean('ndcg@10'):.5f} | {other.mean('ndcg@10'):.5f} | {same} of {len(pairs)} | {max(gaps):.1e}"
        lines.append(f"| {dim} | {figures} | {asked.count(dim)} | {'ok' if good else 'DIFFERENT'} |")
    common.report("server_dims", lines)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
