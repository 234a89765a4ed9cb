"""The threads that wait for replies. They decide nothing: harness/dispatch.py does."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from harness.embedder import Item, Role
from harness.remote import Answer, Endpoint


class Crew:
    """Threads that make one request each and put what came of it in a queue. They die with the process, whatever they wait for."""

    def __init__(self, endpoint: Endpoint, role: Role) -> None:
        self._endpoint, self._role = endpoint, role
        self._jobs: queue.SimpleQueue[tuple[int, list[Item]] | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[tuple[int, Answer | Exception, float]] = queue.SimpleQueue()
        self._size = self._busy = 0

    def send(self, number: int, items: list[Item]) -> None:
        """Have a request made; its reply will bear the number."""
        self._busy += 1
        if self._busy > self._size:
            self._size += 1
            threading.Thread(target=self._work, daemon=True).start()
        self._jobs.put((number, items))

    def receive(self, seconds: float) -> Iterator[tuple[int, Answer | Exception, float]]:
        """All replies that are there, each with its number, what came of it, the seconds it took; waits ``seconds`` for the first."""
        with suppress(queue.Empty):
            reply = self._replies.get(timeout=seconds)
            while True:
                self._busy -= 1
                yield reply
                reply = self._replies.get_nowait()

    def dismiss(self) -> None:
        """Let the threads end when their requests have."""
        for _ in range(self._size):
            self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            number, items = job
            began = time.perf_counter()
            outcome: Answer | Exception
            try:
                outcome = self._endpoint.ask(items, self._role)
            except Exception as error:  # noqa: BLE001 - the loop sorts them
                outcome = error
            self._replies.put((number, outcome, time.perf_counter() - began))
