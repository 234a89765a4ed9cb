"""How much is used of what a provider allows, never more than that, and how much faster 32 requests in flight are than one.

python benchmarks/throughput.py        about 6 minutes, most of it waiting; exits 1 if a target is missed

A server in a process of its own speaks OpenAI's protocol, answers after 200 ms, and counts what arrives in every sliding 60 s; above its
limits it answers 429. The clients are processes too: the real openai SDK, a real store with its fsyncs, a ledger with a budget. The texts
are quickstart's documents, numbered and repeated. Targets: at least 95 % of what is allowed, from the first request on, in no minute more
than all of it; without limits at least 20 times the rate of one request at a time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import common
import msgspec
import numpy as np

LATENCY = 0.2  # seconds
SECONDS = 150.0  # that are measured, from the first request
REPEATS = 4  # of the run without limits
DIM = 1536
ANY = 1e12


@dataclass(frozen=True, slots=True)
class Case:
    """What a server allows in a minute, and how the client knows of it: by its spec, or by the server's headers alone."""

    name: str
    requests: float = ANY
    tokens: float = ANY
    told: bool = True
    options: str = ""

    def spec(self, port: int) -> str:
        """What a user would write."""
        limits = f"&requests_per_minute={self.requests:.0f}&tokens_per_minute={self.tokens:.0f}" if self.told and self.tokens < ANY else ""
        return f"openai/text-embedding-3-small?base_url=http://127.0.0.1:{port}/v1{limits}{self.options}"


CASES = (
    Case("bound by requests", 300, 5_000_000, options="&request_items=8"),
    Case("bound by tokens", 3_000, 200_000),
    Case("limits from headers only", 60, 300_000, told=False),
    Case("few large requests", 20, 150_000),
)


# ---- the server


class Window:
    """What left within the last minute, and the most that ever did."""

    def __init__(self, limit: float) -> None:
        self.limit, self.worst, self._held, self._log = limit, 0.0, 0.0, deque[tuple[float, float]]()

    def has_room(self, now: float, units: float) -> bool:
        """Whether so many units more are allowed now."""
        while self._log and self._log[0][0] <= now - 60.0:
            self._held -= self._log.popleft()[1]
        return self._held + units <= self.limit

    def take(self, now: float, units: float) -> None:
        """Count them, allowed or not."""
        self._log.append((now, units))
        self._held += units
        self.worst = max(self.worst, self._held)


class Provider:
    """Answers as OpenAI does, with vectors of no meaning; its tokens are WordLlama's, which our estimate does not know."""

    def __init__(self, requests: float, tokens: float) -> None:
        from tokenizers import Tokenizer

        spec = find_spec("wordllama")
        assert spec
        assert spec.origin
        self._tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._windows, self._free = (Window(requests), Window(tokens)), tokens >= ANY
        self.seen: list[tuple[float, int, int]] = []  # moment, tokens, items
        self.refused = 0
        rows = np.random.default_rng(0).standard_normal((64, DIM)).astype("<f4")
        self._rows = [base64.b64encode(row.tobytes()) for row in rows]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept open."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                writer.write(await self._answer(msgspec.json.decode(body)["input"]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, texts: list[str]) -> bytes:
        now, tokens = time.monotonic(), self._count(texts)
        room = [window.has_room(now, units) for window, units in zip(self._windows, (1, tokens), strict=True)]
        for window, units in zip(self._windows, (1, tokens), strict=True):
            window.take(now, units)
        self.seen.append((now, tokens, len(texts)))
        if not all(room):
            self.refused += 1
            return _http(b"429 Too Many Requests", b'{"error":{"message":"slower","code":"rate_limit_exceeded"}}', b"retry-after: 1\r\n")
        await asyncio.sleep(LATENCY)
        rows = b",".join(b'{"object":"embedding","index":%d,"embedding":"%s"}' % (at, self._rows[at % 64]) for at in range(len(texts)))
        usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        limits = b"".join(
            b"x-ratelimit-limit-%s: %d\r\n" % (what, window.limit)
            for what, window in zip((b"requests", b"tokens"), self._windows, strict=True)
            if window.limit < ANY
        )
        return _http(b"200 OK", b'{"object":"list","model":"m","data":[' + rows + b"]," + usage + b"}", limits)

    def _count(self, texts: list[str]) -> int:
        if self._free:
            return sum(map(len, texts)) // 4
        return sum(len(one.ids) for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False))

    def told(self) -> dict[str, Any]:
        """What was seen, for the benchmark."""
        return {"seen": self.seen, "refused": self.refused, "worst": [window.worst for window in self._windows]}


def _http(status: bytes, body: bytes, headers: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


async def run_server(requests: float, tokens: float) -> None:
    """Serve until the standard input ends, then say what was seen."""
    provider = Provider(requests, tokens)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    print(json.dumps(provider.told()), flush=True)


# ---- the client


def texts(first: int, tokens: float, items: float) -> list[tuple[str, str, str]]:
    """(id, title, text) of quickstart's documents, numbered and repeated until there is enough of both."""
    from harness import shipped
    from harness.tokens import estimate

    documents = shipped.load("quickstart").documents
    sizes = estimate([f"{d.title} {d.text}" for d in documents])
    found: list[tuple[str, str, str]] = []
    held = 0
    for number in count(first):
        if held >= tokens and len(found) >= items:
            return found
        document = documents[number % len(documents)]
        found.append((f"{number}", f"{number}: {document.title}", document.text))
        held += int(sizes[number % len(documents)])
    raise AssertionError


def run_client(spec: str, first: int, tokens: float, items: float) -> None:
    """Fill a new store with the vectors of so many texts; says how many seconds it took."""
    from harness import catalog
    from harness.dataset import Dataset, Document, Query
    from harness.dispatch import Remote
    from harness.filling import fill
    from harness.ledger import Ledger
    from harness.progress import Silent
    from harness.store import VectorStore

    documents = [Document(id_, text, title=title) for id_, title, text in texts(first, tokens, items)]
    dataset = Dataset.build("throughput", documents, [Query("q", "any")], {"q": {documents[0].id: 1}})
    remote = catalog.load(spec)
    assert isinstance(remote, Remote)
    with tempfile.TemporaryDirectory() as folder:
        store = VectorStore(Path(folder))
        began = time.monotonic()
        fill(Ledger(store, "throughput", budget=1000.0), Silent(), spec, remote, dataset, "document")
        print(time.monotonic() - began, flush=True)
        store.close()


# ---- both


def start(*words: object) -> subprocess.Popen[str]:
    """Run one side of it in a process of its own."""
    environment = {**os.environ, "OPENAI_API_KEY": "sk-of-the-benchmark"}
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def limited() -> list[list[object]]:
    """All cases side by side, since they mostly wait: rows of the table."""
    minutes = SECONDS / 60 + 0.3
    servers = [start("serve", case.requests, case.tokens) for case in CASES]
    ports = [int((server.stdout or sys.stdin).readline()) for server in servers]
    clients = []
    for case, port in zip(CASES, ports, strict=True):
        enough = (case.tokens * minutes, 0) if case.tokens < 1e6 else (0, case.requests * 8 * minutes)
        clients.append(start("fill", case.spec(port), 0, *enough))
    rows = []
    for case, server, client in zip(CASES, servers, clients, strict=True):
        client.communicate()
        told = json.loads(server.communicate()[0])
        first = told["seen"][0][0]
        within = [one for one in told["seen"] if one[0] - first < SECONDS]
        lasted = min(SECONDS, told["seen"][-1][0] - first)
        shares = [len(within) / case.requests, sum(tokens for _, tokens, _ in within) / case.tokens]
        worst = [most / limit for most, limit in zip(told["worst"], (case.requests, case.tokens), strict=True)]
        rows.append([case, [share * 60 / lasted for share in shares], worst, told["refused"], lasted])
    return rows


def unlimited() -> tuple[float, float]:
    """Requests a second, one at a time and with 32 in flight, in turns."""
    done: dict[int, list[tuple[int, float]]] = {1: [], 32: []}
    numbers = count(0, 100_000)
    for _ in range(REPEATS):
        for in_flight, requests in ((1, 40), (32, 1600)):
            server = start("serve", ANY, ANY)
            port = int((server.stdout or sys.stdin).readline())
            spec = Case("free", options=f"&request_items=16&in_flight={in_flight}").spec(port)
            start("fill", spec, next(numbers), 0, requests * 16).communicate()
            seen = json.loads(server.communicate()[0])["seen"]
            done[in_flight].append((len(seen) - 1, seen[-1][0] - seen[0][0]))
    rates = [sum(number for number, _ in runs) / sum(seconds for _, seconds in runs) for runs in done.values()]
    return rates[0], rates[1]


def main() -> int:
    rows = limited()
    lines = ["| a minute allows | bound by | share reached | most in any 60 s, of what is allowed | refused (429) | |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    failed = False
    for case, shares, worst, refused, lasted in rows:
        good = max(shares) >= 0.95 and max(worst) <= 1.0 and not refused
        failed |= not good
        allowed = f"{case.requests:,.0f} requests, {case.tokens:,.0f} tokens: {case.name}"
        binding = "requests" if shares[0] > shares[1] else "tokens"
        verdict = "ok" if good else "MISSED"
        most = f"{worst[0]:.3f} of requests, {worst[1]:.3f} of tokens"
        lines.append(f"| {allowed} | {binding} | {max(shares):.3f} over {lasted:.0f} s | {most} | {refused} | {verdict} |")
    one, many = unlimited()
    failed |= many < 20 * one
    lines += ["", "| no limits, 200 ms | requests a second | times |  |", "| --- | --- | --- | --- |"]
    lines.append(f"| one at a time | {one:.2f} | 1 | |")
    lines.append(f"| 32 in flight | {many:.1f} | {many / one:.1f} (at least 20) | {'ok' if many >= 20 * one else 'MISSED'} |")
    common.report("throughput", lines)
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(run_server(*map(float, sys.argv[2:4])))
    elif sys.argv[1:2] == ["fill"]:
        run_client(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
    else:
        sys.exit(main())
