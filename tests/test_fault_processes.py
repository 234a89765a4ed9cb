"""Runs that are broken off while requests are on their way: by kill -9, by Ctrl-C, and by Ctrl-C at the worst moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from asking import cost, measure, numbers, remote, spec
from conftest import make_dataset, write_beir
from fault_server import GUARD, HANG, Fault, FaultServer

from harness import filling, store, vectors
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.store import VectorStore

pytest_plugins = ("api_fixtures",)
pytestmark = pytest.mark.usefixtures("with_keys")
MEASURE = "import sys, harness; harness.evaluate(sys.argv[1], sys.argv[2], dims=['native'], floors=False, store_folder=sys.argv[3])"
MANY = make_dataset(documents=80, queries=4)


def stored(model: Remote, folder: Path, data: Dataset = MANY) -> set[str]:
    """The texts of the documents and queries that have a vector."""
    vector_store = VectorStore(folder)
    found: set[str] = set()
    for role in ("document", "query"):
        wanted = filling.items(data, role)  # type: ignore[arg-type]
        lacking = set(vector_store.missing(store.keys(model.model, role, wanted)))  # type: ignore[arg-type]
        found |= {item.full for place, item in enumerate(wanted) if place not in lacking}
    vector_store.close()
    return found


def answered(server: FaultServer) -> set[str]:
    return {text for seen in server.seen if seen.whole for text in seen.texts}


def until(condition: Any, process: subprocess.Popen[bytes]) -> None:
    """Look again and again until something holds, as long as the process lives."""
    guard = threading.Event()
    timer = threading.Timer(GUARD, guard.set)
    timer.start()
    while not condition():
        assert process.poll() is None, "the run ended before it could be broken off"
        assert not guard.is_set(), "nothing happens"
    timer.cancel()


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own, which hears Ctrl-C even where ours doesn't (as under nohup)."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    hears = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen([sys.executable, *map(str, words)], preexec_fn=hears, env=os.environ.copy(), **quiet)  # noqa: PLW1509


def test_after_a_kill_nothing_is_asked_for_again_but_what_was_in_flight(in_memory: Path, tmp_path: Path) -> None:
    corpus = write_beir(MANY, tmp_path / MANY.about.name)
    with FaultServer() as server:
        expected = numbers(measure(remote(server, "openai"), in_memory / "whole", MANY))
    with FaultServer() as server:
        model = remote(server, "openai")
        for good in (4, 7, 2):  # requests that are answered before the server falls silent
            before = len(server.seen)
            server.script = lambda seen, last=before + good: HANG if seen.number >= last else None  # type: ignore[misc]
            process = start("-c", MEASURE, corpus, spec(server, "openai"), in_memory / "killed")
            server.wait(lambda: server.active == 3)
            until(lambda: stored(model, in_memory / "killed") == answered(server), process)
            process.kill()
            process.wait()
            server.wait(lambda: server.active == 0)
            assert len(server.seen) == before + good + 3
            assert not server.asked_again()
            assert process.stderr
            process.stderr.close()
        server.script = lambda _seen: None
        board = measure(model, in_memory / "killed", MANY)
    assert numbers(board) == expected
    assert not server.asked_again()
    assert cost(board).requests == len(server.seen)
    assert cost(board).lost_requests == 9


def test_ctrl_c_keeps_what_arrived_and_what_is_about_to_and_ends(in_memory: Path, tmp_path: Path) -> None:
    corpus, pressed = write_beir(MANY, tmp_path / MANY.about.name), threading.Event()
    soon = Fault(mends=True, before=lambda: pressed.wait(GUARD))
    with FaultServer(lambda seen: None if seen.number < 2 else soon if seen.number < 6 else HANG) as server:
        words = ("-m", spec(server, "voyage", "in_flight=8"), "--store", in_memory, "--out", tmp_path / "out")
        process = start("-m", "harness", "eval", corpus, *words)
        server.wait(lambda: server.active == 8)
        process.send_signal(signal.SIGINT)
        pressed.set()
        _, said = process.communicate(timeout=GUARD)
        assert process.returncode == 130, said
        assert b"bakeoff: stopped; what was finished is kept, the same command goes on from there" in said
        assert b"Traceback" not in said
        model = remote(server, "voyage")
        assert len([seen for seen in server.seen if seen.whole]) == 6
        assert stored(model, in_memory) == answered(server)
        server.script = lambda _seen: None
        board = measure(model, in_memory, MANY)
    assert not server.asked_again()
    assert cost(board).lost_requests == 4


@pytest.mark.parametrize("moment", [1, 2, 5])
def test_ctrl_c_while_an_answer_is_read_loses_none(moment: int, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check, checked = vectors.check, 0

    def interrupted(*words: Any) -> Any:
        nonlocal checked
        checked += 1
        if checked == moment:
            raise KeyboardInterrupt
        return check(*words)

    with FaultServer() as server:
        model = remote(server, "openai")
        monkeypatch.setattr(vectors, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure(model, in_memory, MANY)
        server.wait(lambda: server.active == 0)
        assert stored(model, in_memory) == answered(server)
        measure(model, in_memory, MANY)
        assert not server.asked_again()


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_ctrl_c_while_answers_are_stored_loses_none(done: bool, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, added = VectorStore.add, 0

    def interrupted(self: VectorStore, *words: Any) -> None:
        nonlocal added
        added += 1
        if added != 3 or done:
            add(self, *words)
        if added == 3:
            raise KeyboardInterrupt

    with FaultServer() as server:
        model = remote(server, "gemini")
        monkeypatch.setattr(VectorStore, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure(model, in_memory, MANY)
        server.wait(lambda: server.active == 0)
        assert stored(model, in_memory) == answered(server)
        board = measure(model, in_memory, MANY)
        assert not server.asked_again()
        assert cost(board).lost_requests == 0
