"""A real HTTP server on 127.0.0.1 that speaks every API's protocol (tests/apis.py), and fails as it is told.

A script is asked of each request, in the order of arrival, what goes wrong with it: a :class:`Fault`, or None for a proper answer.
Everything that arrives is written down as :class:`Seen`. Nothing here sleeps: who waits, waits for an event.
"""

from __future__ import annotations

import email.utils
import json
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

import numpy as np
from apis import APIS, Api, Rows, vector

GUARD = 60.0  # seconds after which a wait in a test counts as hanging; nothing that works waits so long


@dataclass(slots=True)
class Seen:
    """One request. ``asked_before``: how often its first text had been asked for; ``whole``: its answer left whole and usable."""

    number: int
    api: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    texts: list[str]
    images: list[bytes | None]
    role: str
    dim: int | None
    at: float  # seconds of a monotonic clock
    tokens: int = 0
    asked_before: int = 0
    whole: bool = False
    billed: bool = False

    @property
    def keys(self) -> set[tuple[str, str, bytes | None]]:
        """What was asked for: role, text and image of each item."""
        return {(self.role, text, image) for text, image in zip(self.texts, self.images, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a server does instead of answering properly.

    ``status``: answer with this error. ``spoil``: send other vectors. ``garble``: send another body. ``breaks``: hang, or break the
    connection before the answer (reset) or in the middle of it (half). ``before`` is done, or waited for, before anything else.
    """

    status: int = 0
    message: str = "made to fail"
    headers: Mapping[str, str] = field(default_factory=dict)
    spoil: Callable[[Rows], Rows] | None = None
    garble: Callable[[bytes], bytes] | None = None
    content_type: str = "application/json"
    breaks: Literal["", "hang", "reset", "half"] = ""
    before: Callable[[], object] | None = None
    mends: bool = False  # whether a good client makes a proper answer of it


def _all(change: Callable[[np.ndarray], Any]) -> Callable[[Rows], Rows]:
    return lambda rows: [(at, change(row)) for at, row in rows]


def _first(change: Callable[[np.ndarray], Any]) -> Callable[[Rows], Rows]:
    return lambda rows: [(rows[0][0], change(rows[0][1])), *rows[1:]]


def _with(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda row: np.concatenate([[value], row[1:]]).astype(np.float32)


def _just(text: str) -> Callable[[bytes], bytes]:
    return lambda _body: text.encode()


BUSY = {
    "429": Fault(status=429),
    "429, Retry-After in seconds": Fault(status=429, headers={"Retry-After": "0.02"}),
    "429, Retry-After a date": Fault(status=429, headers={"Retry-After": email.utils.formatdate(0, usegmt=True)}),
    "429, retry-after-ms": Fault(status=429, headers={"retry-after-ms": "15"}),
    "429, rate headers": Fault(status=429, headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12ms"}),
    **{f"{status}": Fault(status=status) for status in (408, 409, 500, 502, 503, 504, 529)},
    "500, not JSON": Fault(status=500, garble=_just("<html>Internal Server Error</html>"), content_type="text/html"),
    "503, nothing": Fault(status=503, garble=_just("")),
}
"""The server has no answer now; nothing was computed, so nothing is paid."""
LOST = {
    "reset": Fault(breaks="reset"),
    "half a body": Fault(breaks="half"),
    "bad JSON": Fault(garble=lambda body: body[: len(body) // 2]),
    "HTML": Fault(garble=_just("<html>welcome to the hotel's network</html>"), content_type="text/html"),
    "an empty body": Fault(garble=_just("")),
    "an empty object": Fault(garble=_just("{}")),
    "a list": Fault(garble=_just("[]")),
    "null": Fault(garble=_just("null")),
    "a string": Fault(garble=_just('"fine"')),
    "an error with status 200": Fault(garble=_just('{"error": {"message": "try again", "code": 200}}')),
    "not UTF-8": Fault(garble=lambda body: b"\xff" + body),
}
"""The work was done and may be paid for, but its answer doesn't arrive, or cannot be read."""
WRONG = {
    "short": Fault(spoil=lambda rows: rows[:-1]),
    "nothing": Fault(spoil=lambda rows: []),
    "long": Fault(spoil=lambda rows: [*rows, (len(rows), rows[0][1])]),
    "small dim": Fault(spoil=_all(lambda row: row[:-1])),
    "large dim": Fault(spoil=_all(lambda row: np.append(row, row[:1]))),
    "ragged": Fault(spoil=_first(lambda row: row[:-1])),
    "NaN": Fault(spoil=_first(_with(float("nan")))),
    "infinity": Fault(spoil=_first(_with(float("inf")))),
    "too large": Fault(spoil=_first(lambda row: [1e300, *map(float, row[1:])])),
    "zeros": Fault(spoil=_first(lambda row: row * 0)),
    "null in a vector": Fault(spoil=_first(lambda row: [None, *map(float, row[1:])])),
}
"""A whole answer that cannot be used."""
NUMBERING = {
    "a place twice": Fault(spoil=lambda rows: [(at // 2 + (len(rows) == 1), row) for at, row in rows]),
    "places from 1": Fault(spoil=lambda rows: [(at + 1, row) for at, row in rows]),
    "no such place": Fault(spoil=lambda rows: [*rows[:-1], (-1, rows[-1][1])]),
}
"""The same, where rows say their places."""
MENDED = {
    "backwards": Fault(spoil=lambda rows: rows[::-1], mends=True),
    "turned": Fault(spoil=lambda rows: [*rows[1:], rows[0]], mends=True),
}
"""An answer out of order, that says so."""
HANG = Fault(breaks="hang")


class FaultServer:
    """The server in a thread of its own: ``with FaultServer(script) as server``.

    Answers have ``native`` dimensions where none are asked for, and say that a text has ``count`` tokens.
    """

    def __init__(
        self,
        script: Callable[[Seen], Fault | None] = lambda _seen: None,
        *,
        native: int = 256,
        count: Callable[[str], int] = lambda text: len(text.split()) + 2,
    ) -> None:
        self.script, self.native, self.count = script, native, count
        self.seen: list[Seen] = []
        self.errors: list[BaseException] = []  # of the script, or of a request that cannot be read
        self.active = self.most_active = self.connections = 0
        self.changed = threading.Condition()
        self._asked: Counter[tuple[str, str, bytes | None]] = Counter()
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._http.stopping.close()  # wakes whoever hangs
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join(GUARD)
        if self.errors and kind is None:
            raise self.errors[0]

    def url(self, api: str) -> str:
        """The base URL of an API."""
        return f"http://127.0.0.1:{self._http.server_port}/{api}{APIS[api].base}"

    def wait(self, enough: Callable[[], bool]) -> None:
        """Wait until a condition holds that requests bring about."""
        with self.changed:
            assert self.changed.wait_for(enough, GUARD), "the server waited for something that never came"

    def linger(self, other: Callable[[], bool]) -> None:
        """Give a request that should not come a moment to come: a wait that good clients make us wait in vain."""
        with self.changed:
            self.changed.wait_for(other, 0.2)

    def asked_again(self) -> list[Seen]:
        """Requests for something whose answer had left whole and usable before."""
        answered: set[tuple[str, str, bytes | None]] = set()
        again = []
        for seen in self.seen:
            if seen.keys & answered:
                again.append(seen)
            if seen.whole:
                answered |= seen.keys
        return again

    def billed(self) -> int:
        """Tokens of all requests that were worked on, whatever became of their answers."""
        return sum(seen.tokens for seen in self.seen if seen.billed)

    def arrive(self, name: str, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> tuple[Seen, Fault | None]:
        """Write a request down and ask the script."""
        asked = APIS[name].read(body)
        seen = Seen(0, name, path, headers, body, asked.texts, asked.images, asked.role, asked.dim, time.monotonic())
        seen.tokens = sum(map(self.count, seen.texts))
        with self.changed:
            seen.number = len(self.seen)
            seen.asked_before = max(self._asked[key] for key in seen.keys)
            self._asked.update(seen.keys)
            self.seen.append(seen)
            fault = self.script(seen)
            seen.billed = fault is None or not fault.status
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            self.changed.notify_all()
        return seen, fault

    def leave(self, seen: Seen, *, whole: bool) -> None:
        """Note what became of the answer, before the client can know."""
        with self.changed:
            seen.whole = whole
            self.active -= 1
            self.changed.notify_all()

    def answer(self, api: Api, seen: Seen, spoil: Callable[[Rows], Rows] | None) -> Any:
        """The reply to a request, as JSON has it."""
        dim = seen.dim or self.native
        rows = [(at, vector(text, seen.role, dim, image)) for at, (text, image) in enumerate(zip(seen.texts, seen.images, strict=True))]
        return api.write(spoil(rows) if spoil else rows, seen.tokens, dict(seen.body))


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, faults: FaultServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults = faults
        self.stopping, self.stopped = socket.socketpair()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
            self.faults.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close without the polite goodbye, so that a connection with SO_LINGER 0 is reset."""
        with self._lock:
            self._open.discard(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what went wrong here; that a client went away is no error."""
        error = sys.exc_info()[1]
        if error and not isinstance(error, OSError):
            self.faults.errors.append(error)

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        super().server_close()
        self.stopped.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, name, rest = self.path.split("/", 2)
        api, headers = APIS[name], {key.lower(): value for key, value in self.headers.items()}
        model = (body["requests"][0] if "requests" in body else body)["model"].removeprefix("models/")
        if f"/{rest}".partition("?")[0] != api.base + api.path.format(model=model):
            self._send(404, api.error(404, f"no such address: {self.path}"), {})
            return
        faults = self.server.faults
        seen, fault = faults.arrive(name, self.path, headers, body)
        fault = fault or Fault(mends=True)
        if fault.before:
            fault.before()
        if fault.breaks == "hang":
            self._hang()
        faulty = bool(fault.status or fault.spoil or fault.garble or fault.breaks)
        faults.leave(seen, whole=not faulty or fault.mends)
        if fault.breaks == "hang":
            return
        if fault.breaks == "reset":
            self._reset()
            return
        reply = api.error(fault.status, fault.message) if fault.status else faults.answer(api, seen, fault.spoil)
        self._send(fault.status or 200, reply, fault.headers, fault)

    def _send(self, status: int, reply: Any, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        fault = fault or Fault()
        body = json.dumps(reply).encode()
        body = fault.garble(body) if fault.garble else body
        self.send_response(status)
        for name, value in {"Content-Type": fault.content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        head = b"".join(self._headers_buffer) + b"\r\n"  # together with the body: two packets would wait for each other
        self._headers_buffer = []
        if fault.breaks == "half":
            self.close_connection = True
            body = body[: len(body) // 2]
        self.wfile.write(head + body)

    def _hang(self) -> None:
        """Say nothing until the client has gone or the server stops."""
        self.close_connection = True
        select.select([self.connection, self.server.stopped], [], [], GUARD)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: object) -> None:
        """Say nothing."""
