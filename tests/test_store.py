from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import store as store_module
from harness.embedder import Embedded, Item, Model
from harness.errors import ModelError, StoreError
from harness.store import VectorStore, keys

MODEL = Model(provider="test", name="m", revision="1", dim=4)


def embedded(values: list[float]) -> Embedded:
    vectors = np.array([[value, 1, 2, 3] for value in values], dtype=np.float32)
    return Embedded(vectors, np.array([int(value) for value in values], dtype=np.int64))


def fill(store: VectorStore, values: list[float], model: Model = MODEL) -> list[bytes]:
    made = keys(model, "document", [Item(str(value)) for value in values])
    store.add(made, embedded(values), seconds=float(len(values)), model=model)
    return made


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(tmp_path / "store")


def test_reads_in_the_callers_order_with_repeats(store: VectorStore) -> None:
    first, second = fill(store, [10, 20, 30]), fill(store, [40, 50])
    stored = store.read([second[1], first[0], first[0], second[0], first[2]])
    assert stored.matrix[:, 0].tolist() == [50, 10, 10, 40, 30]
    assert stored.tokens.tolist() == [50, 10, 10, 40, 30]
    assert stored.seconds.tolist() == [1, 1, 1, 1, 1]


def test_a_large_matrix_lives_in_a_file_that_leaves_nothing_behind(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fill(store, [3, 1, 2])
    monkeypatch.setattr(store_module, "_IN_MEMORY", 0)
    matrix = store.read(made).matrix
    assert isinstance(matrix, np.memmap)
    assert matrix[:, 0].tolist() == [3, 1, 2]
    assert not list(store.folder.glob("*.view"))


def test_a_large_shard_is_read_in_parts(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model, count = replace(MODEL, dim=1024), 3000
    made = keys(model, "document", [Item(str(at)) for at in range(count)])
    found = np.random.default_rng(0).normal(size=(count, model.dim)).astype(np.float32)
    store.add(made, Embedded(found, np.ones(count, dtype=np.int64)), seconds=1.0, model=model)
    monkeypatch.setattr(store_module, "_IN_MEMORY", 0)
    monkeypatch.setattr(store_module, "_ROWS", 100)
    order = np.random.default_rng(1).permutation(count)
    tracemalloc.start()
    try:
        matrix = store.read([made[at] for at in order]).matrix
        assert tracemalloc.get_traced_memory()[1] < matrix.nbytes / 2
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(matrix, found[order])


def test_missing_names_each_unknown_key_once(store: VectorStore) -> None:
    made = fill(store, [1, 2])
    new = keys(MODEL, "document", [Item("new"), Item("newer")])
    assert store.missing([new[0], made[0], new[1], new[0]]) == [0, 2]


@pytest.mark.parametrize(
    ("model", "role", "item"),
    [
        (Model(provider="other", name="m", revision="1", dim=4), "document", Item("text", "title")),
        (Model(provider="test", name="m", revision="2", dim=4), "document", Item("text", "title")),
        (Model(provider="test", name="m", revision="1", dim=4, document_prompt="d: "), "document", Item("text", "title")),
        (Model(provider="test", name="m", revision="1", dim=4, max_tokens=5), "document", Item("text", "title")),
        (Model(provider="test", name="m", revision="1", dim=4, options=(("a", "b"),)), "document", Item("text", "title")),
        (MODEL, "query", Item("text", "title")),
        (MODEL, "document", Item("titletext")),
        (MODEL, "document", Item("text", "titl")),
        (MODEL, "document", Item("text ", "title")),
    ],
)
def test_everything_that_changes_a_vector_changes_its_key(model: Model, role: str, item: Item) -> None:
    assert keys(model, role, [item]) != keys(MODEL, "document", [Item("text", "title")])  # type: ignore[arg-type]


def test_another_prompt_for_one_role_leaves_the_vectors_of_the_other_as_they_are() -> None:
    asked = Model(provider="test", name="m", revision="1", dim=4, query_prompt="q: ")
    assert keys(asked, "document", [Item("text")]) == keys(MODEL, "document", [Item("text")])
    assert keys(asked, "query", [Item("text")]) != keys(MODEL, "query", [Item("text")])


def test_facts_that_change_no_vector_leave_the_key_alone() -> None:
    described = Model(provider="test", name="m", revision="1", dim=4, licence="MIT", mrl_dims=(2,), usd_per_million_tokens=3.0)
    assert keys(described, "document", [Item("x")]) == keys(MODEL, "document", [Item("x")])


def test_an_images_content_is_part_of_its_key(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"one")
    before = keys(MODEL, "document", [Item(image=image)])
    image.write_bytes(b"two")
    assert keys(MODEL, "document", [Item(image=image)]) != before


def test_unusable_vectors_are_not_stored(store: VectorStore) -> None:
    made = keys(MODEL, "document", [Item("a"), Item("b")])
    half_nan = Embedded(np.array([[1, 1, 1, 1], [np.nan, 1, 1, 1]], dtype=np.float32), np.array([1, 1]))
    with pytest.raises(ModelError, match="item 1 of 2 holds a NaN"):
        store.add(made, half_nan, 0.1, MODEL)
    assert store.missing(made) == [0, 1]
    assert not list((store.folder / "shards").iterdir())


def test_a_shard_without_keys_is_swept_once_it_is_old(store: VectorStore) -> None:
    made = fill(store, [7])
    young, old = store.folder / "shards" / "young.npy", store.folder / "shards" / "old.npy.half"
    for path in (young, old):
        path.write_bytes(b"half a shard")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    again = VectorStore(store.folder)
    assert young.exists()
    assert not old.exists()
    assert again.read(made).matrix[0, 0] == 7


def test_a_missing_vector_and_a_damaged_shard_are_errors(store: VectorStore) -> None:
    with pytest.raises(StoreError, match="1 of 1 vectors are not in the store"):
        store.read(keys(MODEL, "document", [Item("never seen")]))
    made = fill(store, [1])
    next((store.folder / "shards").iterdir()).write_bytes(b"not numpy")
    with pytest.raises(StoreError, match="cannot be read"):
        store.read(made)


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database at all, but it is long enough to look at")
    with pytest.raises(StoreError, match="cannot be opened as a vector store"):
        VectorStore(tmp_path)


def test_a_store_of_another_schema_is_refused(store: VectorStore) -> None:
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreError, match="schema 99"):
        VectorStore(store.folder)


def test_the_second_process_knows_that_it_is_second(store: VectorStore) -> None:
    with store.filling(MODEL) as first:
        assert first
        code = f"""
from pathlib import Path
from harness.embedder import Model
from harness.store import VectorStore
with VectorStore(Path({str(store.folder)!r})).filling(Model(provider="test", name="m", revision="1", dim=4)) as first:
    print(first)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with store.filling(MODEL) as first:
        assert first


def test_many_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    """Four processes open thirty new stores, each at the same moment by the clock."""
    code = """
import pathlib, sys, time
from harness.store import VectorStore
for n in range(30):
    while time.time() < float(sys.argv[2]) + n / 50: pass
    VectorStore(pathlib.Path(sys.argv[1]) / str(n))
"""
    moment = str(time.time() + 1)
    all_four = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), moment], stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait() for process in all_four] == [0, 0, 0, 0]


def test_keys_of_two_writers_do_not_collide(store: VectorStore) -> None:
    made = fill(store, [1, 2])
    other = VectorStore(store.folder)
    other.add(made, embedded([8, 9]), 1.0, MODEL)  # the same texts, later: the first vectors stay
    assert store.read(made).matrix[:, 0].tolist() == [1, 2]


def test_what_was_a_batch_by_itself_is_marked(store: VectorStore) -> None:
    """How long one query takes is read from these: the shares of larger batches say nothing of it."""
    batch, (one,), (other,) = fill(store, [10, 20]), fill(store, [30]), fill(store, [40])
    stored = store.read([other, batch[1], one, batch[0], other])
    assert stored.alone.tolist() == [True, False, True, False, True]
    assert VectorStore(store.folder).read([batch[0], one]).alone.tolist() == [False, True]
