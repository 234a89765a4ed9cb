"""Vectors on disk, addressed by everything that made them.

A key is SHA-256 over the model's digest, the role and the item. Keys live in SQLite; vectors in immutable .npy
shards, one a batch. A batch is written in three steps: the shard under a temporary name, its renaming, and one
SQLite transaction with its keys. A process killed anywhere in between loses that batch and nothing else: a
shard that no key points to is swept away later.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import vectors
from harness.embedder import Embedded, Item, Model, Role
from harness.errors import StoreError

SCHEMA = 1
_SWEEP_AGE = 3600.0  # seconds: a shard without keys that is older than this belongs to no one
_ROWS = 8192  # of a shard that are read at once
_IN_MEMORY = 64 << 20  # bytes: a matrix up to this size is gathered in memory, a larger one in an unlinked file
_PARAMETERS = 30_000  # keys in one SELECT; SQLite allows 32,766
_TABLES = """
CREATE TABLE IF NOT EXISTS shards (id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, model TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, shard INTEGER NOT NULL REFERENCES shards, row INTEGER NOT NULL,
    tokens INTEGER NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, model TEXT NOT NULL, items INTEGER NOT NULL,
    tokens INTEGER NOT NULL, usd REAL NOT NULL, state TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_of ON requests (dataset, model);
CREATE INDEX IF NOT EXISTS requests_at ON requests (model, at);
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """Vectors in the caller's order, ``matrix`` ``(n, dim)`` float32, read-only and backed by a file when large.

    ``tokens`` ``(n,)`` is -1 where unknown; ``seconds`` ``(n,)`` is each item's share of the time its batch took
    when it was embedded, whenever that was; ``alone`` ``(n,)`` marks items that were a batch by themselves.
    """

    matrix: vectors.Matrix
    tokens: NDArray[np.int64]
    seconds: NDArray[np.float64]
    alone: NDArray[np.bool_]


class VectorStore:
    """A folder of vectors that any number of processes may read and fill at once."""

    def __init__(self, folder: Path) -> None:
        """Open or create the store in ``folder``; raises StoreError when it is not one, or of another schema."""
        self.folder = Path(folder)
        self._shards = self.folder / "shards"
        try:
            self._shards.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.folder / "index.sqlite", timeout=60.0, isolation_level=None)
            with (self.folder / "open.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # SQLite does not wait for a lock where the journal mode changes
                self._set_up()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{folder}: cannot be opened as a vector store: {error}") from error
        self._sweep()

    def _set_up(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA):
            raise StoreError(f"{self.folder}: a store of schema {version}, this bakeoff writes {SCHEMA}; give another --store")
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    def close(self) -> None:
        """Close the database; vectors already read stay valid."""
        self._db.close()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement on the store's database, for what is kept beside the vectors (harness/ledger.py); raises StoreError."""
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.folder}: {error}") from error

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """The positions in ``keys`` that have no vector yet, the first of each key only, ascending."""
        known = {key for part in _parts(sorted(set(keys))) for (key,) in self._select("key", part)}
        positions: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in known:
                positions.setdefault(key, position)
        return list(positions.values())

    def add(self, keys: Sequence[bytes], embedded: Embedded, seconds: float, model: Model, also: Callable[[], None] = lambda: None) -> None:
        """Check and commit the vectors of one batch that took ``seconds``; when this returns they are on disk.

        ``also`` writes what belongs to the same transaction. Keys that another process added in the meantime keep its vectors.
        Raises ModelError for unusable vectors.
        """
        matrix = vectors.check(embedded.vectors, len(keys), model.dim)
        name = f"{uuid.uuid4().hex}.npy"
        half = self._shards / f"{name}.half"
        with half.open("wb") as file:
            np.save(file, matrix)
            file.flush()
            os.fsync(file.fileno())
        half.rename(self._shards / name)
        each = seconds / len(keys)
        with self.transaction():
            shard = self._db.execute("INSERT INTO shards (file, model) VALUES (?, ?)", (name, model.digest())).lastrowid
            rows = [(key, shard, row, int(embedded.tokens[row]), each) for row, key in enumerate(keys)]
            self._db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?, ?)", rows)
            also()

    def read(self, keys: Sequence[bytes]) -> Stored:
        """Read vectors in the order of ``keys``, repeats included; raises StoreError if one is missing or damaged."""
        unique, inverse = np.unique(np.array(keys, dtype="S64"), return_inverse=True)  # hex: numpy trims zero bytes
        places = np.empty((len(unique), 2), dtype=np.int64)
        tokens, seconds = np.empty(len(unique), dtype=np.int64), np.empty(len(unique))
        files: dict[int, str] = {}
        start = 0
        for part in _parts([bytes(key) for key in unique]):
            found = sorted(self._select("key, shard, row, tokens, seconds, file", part))
            if len(found) != len(part):
                raise StoreError(f"{self.folder}: {len(part) - len(found)} of {len(part)} vectors are not in the store")
            for at, (_, shard, row, count, took, file) in enumerate(found, start=start):
                places[at] = shard, row
                tokens[at], seconds[at], files[shard] = count, took, file
            start += len(part)
        matrix, alone = self._gather(places[inverse], files)
        return Stored(matrix, tokens[inverse], seconds[inverse], alone)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All that is written within is committed together, or not at all; raises StoreError.

        What is not ``durable`` survives the death of the process, but a power cut may take it: it saves waiting for the disk.
        """
        try:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.folder}: {error}") from error
            raise

    @contextmanager
    def filling(self, model: Model) -> Iterator[bool]:
        """Announce that this process embeds with ``model``; True if no other process does so at this moment.

        Whoever comes second can then begin at the other end of the work. The mark dies with the process.
        """
        with (self.folder / f"{model.digest()[:16]}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                first = True
            except OSError:
                first = False
            yield first

    def _gather(self, places: NDArray[np.int64], files: dict[int, str]) -> tuple[vectors.Matrix, NDArray[np.bool_]]:
        matrix = self._blank((len(places), self._open(files[int(places[0, 0])]).shape[1]))
        alone = np.zeros(len(places), dtype=np.bool_)
        order = np.argsort(places[:, 0], kind="stable")
        for whole in np.split(order, np.flatnonzero(np.diff(places[order, 0])) + 1):  # one shard at a time
            source = self._open(files[int(places[whole[0], 0])])
            for start in range(0, len(whole), _ROWS):  # a compacted shard has too many to be copied at once
                rows = whole[start : start + _ROWS]
                matrix[rows] = source[places[rows, 1]]
            alone[whole] = len(source) == 1
        matrix.setflags(write=False)
        return matrix, alone

    def _open(self, file: str) -> vectors.Matrix:
        try:
            return np.load(self._shards / file, mmap_mode="r")  # type: ignore[no-any-return]
        except (OSError, ValueError) as error:
            fix = "delete the store folder to embed again"
            raise StoreError(f"{self._shards / file}: a shard of the store cannot be read ({error}); {fix}") from error

    def _blank(self, shape: tuple[int, int]) -> vectors.Matrix:
        if shape[0] * shape[1] * 4 <= _IN_MEMORY:
            return np.empty(shape, dtype=np.float32)
        path = self.folder / f"{uuid.uuid4().hex}.view"
        try:
            return np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
        finally:
            path.unlink(missing_ok=True)  # the pages live until the mapping goes, and a kill leaves nothing behind

    def _select(self, columns: str, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
        marks = ",".join("?" * len(keys))
        query = f"SELECT {columns} FROM vectors JOIN shards ON shards.id = shard WHERE key IN ({marks})"  # noqa: S608 - all ours
        return self._db.execute(query, keys).fetchall()

    def _sweep(self) -> None:
        """Delete shards that a killed process wrote but did not commit, once they are surely nobody's."""
        known = {file for (file,) in self._db.execute("SELECT file FROM shards")}
        for path in self._shards.iterdir():
            if path.name not in known and time.time() - path.stat().st_mtime > _SWEEP_AGE:
                path.unlink(missing_ok=True)


def keys(model: Model, role: Role, items: Iterable[Item]) -> list[bytes]:
    """The key of each item's vector: 64 hex digits of SHA-256 over the model's digest for this role, the role and the content.

    So another prompt for queries leaves the vectors of documents as they are.
    """
    model_digest = model.of_role(role).digest()
    return [_key(model_digest, role, item) for item in items]


def _key(model_digest: str, role: Role, item: Item) -> bytes:
    digest = hashlib.sha256(f"{model_digest}\0{role}\0{len(item.title)}\0{item.title}\0".encode("utf-8", "surrogatepass"))
    if item.image is not None:
        digest.update(hashlib.sha256(item.image.read_bytes()).digest() + b"\0")
    digest.update(item.text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest().encode()


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[start : start + _PARAMETERS] for start in range(0, len(keys), _PARAMETERS))
