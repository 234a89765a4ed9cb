"""Many small shards become few large ones, and no vector is ever out of reach."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness import compaction, store
from harness.compaction import compact
from harness.embedder import Embedded, Item, Settings
from harness.errors import StoreError
from harness.store import VectorStore
from providers.hash import HashEmbedder

MODEL = HashEmbedder(32, Settings()).model
OTHER = HashEmbedder(32, Settings(query_prompt="x")).model


def fill(vectors: VectorStore, sizes: list[int], seed: int = 0, model: object = MODEL) -> tuple[list[bytes], np.ndarray]:
    """A shard of each size; the keys and their vectors."""
    matrix = np.random.default_rng(seed).normal(size=(sum(sizes), 32)).astype(np.float32)
    keys = store.keys(model, "document", [Item(f"text {seed} {row}") for row in range(sum(sizes))])
    at = 0
    for size in sizes:
        tokens = np.arange(at, at + size)
        vectors.add(keys[at : at + size], Embedded(matrix[at : at + size], tokens), float(size), model)
        at += size
    return keys, matrix


def files(vectors: VectorStore) -> list[int]:
    """Rows of each shard that some key points to, or that is registered."""
    return sorted(len(np.load(vectors.folder / "shards" / file)) for (file,) in vectors.execute("SELECT file FROM shards"))


def test_many_small_shards_become_one_and_every_vector_stays(tmp_path: Path) -> None:
    vectors = VectorStore(tmp_path)
    keys, matrix = fill(vectors, [3] * 70 + [1] * 5)
    others, theirs = fill(vectors, [2] * 10, seed=1, model=OTHER)
    before = vectors.read(keys)
    assert compact(vectors, MODEL) == 69
    assert files(vectors) == [*[1] * 5, *[2] * 10, 210]
    after = vectors.read(keys[::-1])
    assert after.matrix.tobytes() == matrix[::-1].tobytes()
    for name in ("tokens", "seconds", "alone"):
        assert (getattr(after, name) == getattr(before, name)[::-1]).all()
    assert after.alone.sum() == 5  # one row each: embedded by themselves
    assert vectors.read(others).matrix.tobytes() == theirs.tobytes()
    assert compact(vectors, MODEL) == 0
    assert vectors.missing(keys) == []


def test_few_shards_are_left_as_they_are(tmp_path: Path) -> None:
    vectors = VectorStore(tmp_path)
    fill(vectors, [3] * 63)
    assert compact(vectors, MODEL) == 0
    assert files(vectors) == [3] * 63


def test_files_grow_to_a_size_and_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_LARGE", 20 * (3 * 32 * 4 + 128))
    vectors = VectorStore(tmp_path)
    keys, matrix = fill(vectors, [3] * 70)
    assert compact(vectors, MODEL) == 66
    assert files(vectors) == [30, 60, 60, 60]
    assert vectors.read(keys).matrix.tobytes() == matrix.tobytes()


def test_old_files_stay_for_an_hour_for_whoever_is_about_to_read_them(tmp_path: Path) -> None:
    vectors = VectorStore(tmp_path)
    fill(vectors, [2] * 64)
    old = list((tmp_path / "shards").iterdir())
    for path in old:
        os.utime(path, (0, 0))
    compact(vectors, MODEL)
    VectorStore(tmp_path).close()
    assert all(path.exists() for path in old)
    for path in old:
        os.utime(path, (time.time() - 4000,) * 2)
    VectorStore(tmp_path).close()
    assert not any(path.exists() for path in old)


def test_a_death_in_the_middle_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = VectorStore(tmp_path)
    keys, matrix = fill(vectors, [2] * 64)
    whole = VectorStore.execute

    def dies(self: VectorStore, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        if statement.startswith("DELETE"):
            raise StoreError("killed")
        return whole(self, statement, values)

    monkeypatch.setattr(VectorStore, "execute", dies)
    with pytest.raises(StoreError, match="killed"):
        compact(vectors, MODEL)
    monkeypatch.undo()
    assert files(vectors) == [2] * 64
    assert VectorStore(tmp_path).read(keys).matrix.tobytes() == matrix.tobytes()
    assert compact(vectors, MODEL) == 63


def test_two_processes_do_not_compact_at_once(tmp_path: Path) -> None:
    vectors = VectorStore(tmp_path)
    fill(vectors, [2] * 64)
    with (tmp_path / "compact.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert compact(vectors, MODEL) == 0
    assert compact(vectors, MODEL) == 63
