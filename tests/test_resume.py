"""Runs that are killed, and runs side by side: nothing lost, nothing paid twice, the same numbers."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import make_dataset, write_beir
from killable import BATCH, SPEC

import harness
from harness import catalog
from harness.dataset import Dataset
from harness.embedder import Item, Model
from harness.store import VectorStore, keys

KILLS = 10


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Dataset, Path]:
    dataset = make_dataset(documents=1000, queries=80)
    return dataset, write_beir(dataset, tmp_path / "corpus")


def start(corpus: Path, folder: Path, name: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("killable.py")), corpus, folder / "store", folder / f"out-{name}"]
    return subprocess.Popen([*command, folder / f"{name}.log"], stdout=subprocess.DEVNULL)


def embedded(folder: Path, name: str) -> list[str]:
    log = folder / f"{name}.log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def committed(dataset: Dataset, folder: Path, model: Model) -> set[str]:
    """What the store holds, as lines of the log."""
    store = VectorStore(folder / "store")
    found: set[str] = set()
    for role, items in (
        ("document", [Item(d.text, d.title) for d in dataset.documents]),
        ("query", [Item(q.text) for q in dataset.queries]),
    ):
        missing = set(store.missing(keys(model, role, items)))  # type: ignore[arg-type]
        found |= {f"{role}\t{item.full}" for at, item in enumerate(items) if at not in missing}
    store.close()
    return found


def numbers(folder: Path, name: str) -> list[tuple[int, list[float], list[list[str]]]]:
    board = harness.load(folder / f"out-{name}")
    return [(r.dim, r.scores["ndcg@10"].tolist(), [list(ids) for ids in r.documents]) for r in board.results if r.spec == SPEC]


def test_ten_kills_lose_only_the_batches_in_flight(corpus: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, path = corpus
    model = catalog.load(SPEC).model
    chance = random.Random(20261123)
    kept: set[str] = set()
    for kill in range(KILLS):
        process = start(path, tmp_path / "broken", f"kill{kill}")
        batches = chance.randrange(1, 7)
        deadline = time.monotonic() + 60
        while len(embedded(tmp_path / "broken", f"kill{kill}")) < batches * BATCH - chance.randrange(BATCH):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run embeds nothing"
        process.send_signal(signal.SIGKILL)
        process.wait()
        again = kept & set(embedded(tmp_path / "broken", f"kill{kill}"))
        assert not again, f"kill {kill}: {len(again)} texts were embedded again though they were committed"
        before, kept = kept, committed(dataset, tmp_path / "broken", model)
        assert before <= kept
        lost = set(embedded(tmp_path / "broken", f"kill{kill}")) - kept
        assert len(lost) <= 2 * BATCH, f"kill {kill} lost {len(lost)} texts, more than the batch written and the batch computed"
        assert not list((tmp_path / "broken" / f"out-kill{kill}").glob("*.json"))

    assert start(path, tmp_path / "broken", "end").wait() == 0
    assert 0 < len(kept) < len(dataset.documents) + len(dataset.queries)
    assert not kept & set(embedded(tmp_path / "broken", "end"))

    assert start(path, tmp_path / "whole", "end").wait() == 0
    assert numbers(tmp_path / "broken", "end") == numbers(tmp_path / "whole", "end")


def test_two_processes_fill_one_store_without_doing_the_work_twice(corpus: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, path = corpus
    both = [start(path, tmp_path / "shared", name) for name in ("one", "two")]
    assert [process.wait() for process in both] == [0, 0]
    times = Counter(embedded(tmp_path / "shared", "one") + embedded(tmp_path / "shared", "two"))
    assert len(times) == len(dataset.documents) + len(dataset.queries)
    assert sum(times.values()) - len(times) <= 4 * BATCH  # at most the batches in flight when the two met
    assert numbers(tmp_path / "shared", "one") == numbers(tmp_path / "shared", "two")
