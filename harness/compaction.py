"""Few large shards out of many small ones, so that a million texts are not thousands of files."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.embedder import Model
from harness.store import VectorStore

_MANY = 64  # small shards of a model from which on they are joined
_HEADER = 128  # bytes in front of a .npy file's numbers
_SMALL, _LARGE = 32 << 20, 256 << 20  # bytes of a file that is joined with others, and of one that is large enough


def compact(store: VectorStore, model: Model) -> int:
    """Join a model's small shards where there are many; returns how many files it saves, 0 where there is nothing to do.

    A vector is in one shard or the other at every moment: the new file is complete before one transaction points the keys to it. The old
    files are left to the sweep an hour later, since another process may be about to read them. Shards of one row stay: they say that an
    item was embedded alone.
    """
    with (store.folder / "compact.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0  # another process is at it
        found = store.execute("SELECT id, file FROM shards WHERE model = ? ORDER BY id", (model.digest(),))
        small = [(shard, path) for shard, file in found if _is_small(path := store.folder / "shards" / file, model.dim)]
        if len(small) < _MANY:
            return 0
        return sum(_join(store, model, group) for group in _groups(small))


def _is_small(path: Path, dim: int) -> bool:
    size = path.stat().st_size
    return _HEADER + 2 * 4 * dim <= size < _SMALL


def _groups(small: list[tuple[int, Path]]) -> Iterator[list[tuple[int, Path]]]:
    """Shards whose vectors together make a large file."""
    group: list[tuple[int, Path]] = []
    size = 0
    for shard, path in small:
        group.append((shard, path))
        size += path.stat().st_size
        if size >= _LARGE:
            yield group
            group, size = [], 0
    if len(group) > 1:
        yield group


def _join(store: VectorStore, model: Model, group: list[tuple[int, Path]]) -> int:
    parts = [np.load(path, mmap_mode="r") for _, path in group]
    starts = np.cumsum([0, *(len(part) for part in parts)])
    name = f"{uuid.uuid4().hex}.npy"
    half = store.folder / "shards" / f"{name}.half"
    whole = np.lib.format.open_memmap(half, mode="w+", dtype=np.float32, shape=(int(starts[-1]), model.dim))
    for part, start in zip(parts, starts, strict=False):
        whole[start : start + len(part)] = part
    whole.flush()
    with half.open("rb") as file:
        os.fsync(file.fileno())
    half.rename(half.with_suffix(""))
    for _, path in group:
        path.touch()  # its hour begins now
    with store.transaction():
        ((new,),) = store.execute("INSERT INTO shards (file, model) VALUES (?, ?) RETURNING id", (name, model.digest()))
        store.execute("CREATE TEMP TABLE moved (old INTEGER PRIMARY KEY, start INTEGER NOT NULL)")
        for (old, _), start in zip(group, starts, strict=False):
            store.execute("INSERT INTO moved VALUES (?, ?)", (old, int(start)))
        store.execute("UPDATE vectors SET shard = ?, row = row + moved.start FROM moved WHERE shard = moved.old", (new,))
        store.execute("DELETE FROM shards WHERE id IN (SELECT old FROM moved)")
        store.execute("DROP TABLE moved")
    return len(group) - 1
