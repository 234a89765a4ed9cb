"""Fills the store with the vectors that a dataset needs of a model, whether it runs here or behind an API, and reads them back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness import store
from harness.compaction import compact
from harness.dataset import Dataset, Document, Query
from harness.dispatch import Arrived, Remote
from harness.embedder import Embedded, Embedder, Item, Role
from harness.ledger import Ledger
from harness.progress import Advance, Progress
from harness.purse import Purse
from harness.store import Stored, VectorStore

_BATCH_SECONDS = 1.0  # a batch is one commit; a kill can lose the one that is written and the one that is computed
_MAX_BATCH = 8192
ALONE, FEWEST_ALONE, ALONE_SECONDS = 100, 8, 5.0  # queries embedded and searched one at a time: at most, at least; when to stop
_PLURAL: dict[Role, str] = {"document": "documents", "query": "queries"}


def item(entry: Document | Query) -> Item:
    """What is embedded of a document or a query."""
    return Item(entry.text, entry.title if isinstance(entry, Document) else "", entry.image)


def items(dataset: Dataset, role: Role) -> list[Item]:
    """What is embedded of a dataset, in its order."""
    return [item(entry) for entry in (dataset.documents if role == "document" else dataset.queries)]


def fill(ledger: Ledger, progress: Progress, spec: str, embedder: Embedder, dataset: Dataset, role: Role) -> Stored:
    """Fill the store with what it lacks, longest texts first, and read everything back in the dataset's order.

    A second process that works on the same model begins with the shortest, so the two meet instead of running side by side.
    """
    entries, wanted = (dataset.documents if role == "document" else dataset.queries), items(dataset, role)
    keys = store.keys(embedder.model, role, wanted)
    if missing := ledger.store.missing(keys):
        embedder.prepare()
    weight = sum(len(wanted[position].full) for position in missing)
    with ledger.store.filling(embedder.model) as first, progress.stage(f"{spec} {_PLURAL[role]}", len(missing), weight) as advance:
        missing.sort(key=lambda position: len(wanted[position].full), reverse=True)
        if not first:
            missing.reverse()  # not sorted the other way round: texts of one length must come in the opposite order too
        work = _Work(ledger.store, role, wanted, keys, [entry.id for entry in entries], advance)
        if missing and isinstance(embedder, Remote):  # what is there already needs no budget, and so no price
            images = any(wanted[position].image is not None for position in missing)
            work.fetch_all(embedder, missing, ledger.purse(embedder.model, images=images))
        elif missing:
            work.compute_all(embedder, missing)
        if missing:
            compact(ledger.store, embedder.model)
    return ledger.store.read(keys)


class _Computed(NamedTuple):
    """A batch that is not yet committed: its items' positions, and what they cost in seconds of embedding."""

    positions: Sequence[int]
    embedded: Embedded
    seconds: float


@dataclass(frozen=True, slots=True)
class _Work:
    """Items of one role of one model, by their positions, on the way into the store."""

    store: VectorStore
    role: Role
    items: Sequence[Item]
    keys: Sequence[bytes]
    names: Sequence[str]
    advance: Advance

    def compute_all(self, embedder: Embedder, missing: list[int]) -> None:
        """Embed batch by batch, each one commit and sized to take about a second; one is written while the next is computed.

        So a kill loses two at most. This thread alone writes: whatever stops it, a batch is committed as a whole or not at all.
        """
        if self.role == "query":
            missing = _ask_alone(missing, lambda query: self._compute(embedder, [query]))
        size, start = embedder.batch, 0
        done: _Computed | None = None
        with ThreadPoolExecutor(1) as thread:
            while done or start < len(missing):
                batch = missing[start : start + size]
                todo = self._lacking(batch)
                start, lacking = start + len(batch), set(todo)
                coming = thread.submit(self._embed, embedder, todo) if todo else None
                if done:
                    self._keep(done, embedder)
                self._done([position for position in batch if position not in lacking])
                done = coming.result() if coming else None
                if done:
                    size = min(_MAX_BATCH, max(embedder.batch, min(2 * size, int(len(todo) * _BATCH_SECONDS / max(done.seconds, 1e-6)))))

    def _embed(self, embedder: Embedder, positions: Sequence[int]) -> _Computed:
        began = time.perf_counter()
        embedded = embedder.embed([self.items[position] for position in positions], self.role)
        return _Computed(positions, embedded, time.perf_counter() - began)

    def _keep(self, computed: _Computed, embedder: Embedder) -> None:
        """Commit one batch."""
        self.store.add([self.keys[position] for position in computed.positions], computed.embedded, computed.seconds, embedder.model)
        self._done(computed.positions)

    def _compute(self, embedder: Embedder, batch: Sequence[int]) -> float:
        """Embed and commit one batch; returns the seconds that it took."""
        began = time.perf_counter()
        if todo := self._lacking(batch):
            self._keep(self._embed(embedder, todo), embedder)
        self._done([position for position in batch if position not in todo])
        return time.perf_counter() - began

    def fetch_all(self, remote: Remote, missing: list[int], purse: Purse) -> None:
        """Send everything off and commit each reply as it arrives, with what it cost."""
        if self.role == "query":
            missing = _ask_alone(missing, lambda query: self._fetch(remote, [query], purse, alone=True))
        if missing:
            self._fetch(remote, missing, purse)

    def _fetch(self, remote: Remote, positions: Sequence[int], purse: Purse, *, alone: bool = False) -> float:
        """Returns the seconds that the last request took. Ctrl-C loses nothing that has arrived, nor what arrives at once."""
        last, took = time.perf_counter(), 0.0

        def still(batch: list[int]) -> list[int]:
            lacking = set(self._lacking([positions[at] for at in batch]))
            self._done([positions[at] for at in batch if positions[at] not in lacking])
            return [at for at in batch if positions[at] in lacking]

        def commit(arrived: list[Arrived]) -> None:
            nonlocal last, took
            took, now = arrived[-1].seconds, time.perf_counter()
            batch = [positions[at] for one in arrived for at in one.positions]
            seconds = took if alone else now - last  # many are on their way at once: what counts is how often one arrives

            def settle() -> None:
                for one in arrived:
                    purse.settle(one.ticket, "answered", one.tokens)

            together = Embedded(
                np.concatenate([one.embedded.vectors for one in arrived]), np.concatenate([one.embedded.tokens for one in arrived])
            )
            self.store.add([self.keys[position] for position in batch], together, seconds, remote.model, settle)
            last = now
            self._done(batch)

        sent, names = [self.items[position] for position in positions], [self.names[position] for position in positions]
        flight = remote.dispatch(sent, self.role, names=names, purse=purse, wanted=still)
        try:
            for arrived in flight:
                commit(arrived)
        except KeyboardInterrupt:
            for arrived in flight.landing():
                commit(arrived)
            raise
        return took

    def _lacking(self, batch: Sequence[int]) -> list[int]:
        """Those of a batch that no other process has embedded in the meantime."""
        return [batch[at] for at in self.store.missing([self.keys[position] for position in batch])]

    def _done(self, batch: Sequence[int]) -> None:
        self.advance(len(batch), sum(len(self.items[position].full) for position in batch))


def alone(queries: list[int]) -> list[int]:
    """Those of the queries that are embedded one at a time: a hundred of every length, or one in two. Slow models get fewer."""
    return queries[1 :: max(2, -(-len(queries) // ALONE))]


def _ask_alone(queries: list[int], ask: Callable[[int], float]) -> list[int]:
    """Embed a sample of the queries, of every length, one at a time: it shows how long one takes. Returns the others."""
    spent, asked = 0.0, set[int]()
    for query in alone(queries):
        if spent > ALONE_SECONDS and len(asked) >= FEWEST_ALONE:
            break
        spent += ask(query)
        asked.add(query)
    return [query for query in queries if query not in asked]
