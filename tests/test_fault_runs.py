"""Runs against a server with a will of its own: limits, texts it will not have, how many requests wait at once, and money."""

from __future__ import annotations

import email.utils
import random
import time
from pathlib import Path

import pytest
from apis import APIS
from asking import DATA, Script, always, at, cost, measure, numbers, reason, remote, spec
from click.testing import CliRunner
from conftest import make_dataset, write_beir
from fault_server import BUSY, LOST, WRONG, Fault, FaultServer, Seen

from harness import filling, store
from harness.cli import main
from harness.dataset import Dataset, Document, Query
from harness.dispatch import Remote
from harness.ledger import Ledger
from harness.store import VectorStore

pytest_plugins = ("api_fixtures",)
pytestmark = pytest.mark.usefixtures("with_keys")
REFUSED = Fault(status=400, message="this request will not do")
A_DOLLAR_A_TOKEN = "usd_per_million_tokens=1000000"


def missing(model: Remote, folder: Path, data: Dataset = DATA) -> set[str]:
    """The ids of documents and queries that have no vector in the store."""
    vectors = VectorStore(folder)
    found: set[str] = set()
    for role, entries in (("document", data.documents), ("query", data.queries)):
        lacking = vectors.missing(store.keys(model.model, role, filling.items(data, role)))  # type: ignore[arg-type]
        found |= {entries[place].id for place in lacking}
    vectors.close()
    return found


def spent(folder: Path, data: Dataset = DATA) -> float:
    vectors = VectorStore(folder)
    found = Ledger(vectors, data.about.name).spent()
    vectors.close()
    return found


# ---- limits, and texts that are refused


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("name", ["openai", "gemini", "cohere", "voyage"])
def test_what_is_too_large_is_split_until_it_fits(name: str, status: int, in_memory: Path) -> None:
    with FaultServer() as server:
        expected = numbers(measure(remote(server, name), in_memory / "plain"))
    most = 60  # tokens, about four documents
    with FaultServer(lambda seen: Fault(status=status, message="too large") if seen.tokens > most else None) as server:
        board = measure(remote(server, name, "request_items=100"), in_memory / "small")
    assert numbers(board) == expected
    assert not server.asked_again()
    assert max(len(seen.texts) for seen in server.seen) > max(len(seen.texts) for seen in server.seen if seen.whole) >= 2
    assert cost(board).lost_requests == 0


@pytest.mark.parametrize("place", [0, 5, 11])
@pytest.mark.parametrize("name", APIS)
def test_a_poisoned_text_is_named_and_all_others_are_embedded(name: str, place: int, in_memory: Path) -> None:
    poison = DATA.documents[place]
    with FaultServer(lambda seen: REFUSED if any(poison.text in text for text in seen.texts) else None) as server:
        model = remote(server, name, "request_items=12")
        found = reason(measure(model, in_memory))
    assert found.startswith(f"refuses document {poison.id!r}: 400: ")
    assert found.endswith("this request will not do; change or remove it; all that arrived is kept")
    assert missing(model, in_memory) == {poison.id, *(query.id for query in DATA.queries)}
    assert not server.asked_again()


def test_several_poisoned_texts_are_named_together_but_not_a_whole_corpus(in_memory: Path) -> None:
    data, few = make_dataset(documents=60, queries=2), {"d3", "d17", "d40"}
    poison = {d.text: d.id for d in data.documents}
    with FaultServer(lambda seen: REFUSED if few & {poison[text.partition(" ")[2][2:].strip()] for text in seen.texts} else None) as server:
        found = reason(measure(remote(server, "openai"), in_memory / "few", data))
    assert {name for name in poison.values() if repr(name) in found} == few
    assert "change or remove them" in found
    with FaultServer(lambda seen: REFUSED if seen.number > 1 else None) as server:
        found = reason(measure(remote(server, "openai"), in_memory / "all", data))
    assert found.count("'d") == 10
    assert len(server.seen) < 30


def test_a_poisoned_query_is_named(in_memory: Path) -> None:
    poison = DATA.queries[2]
    with FaultServer(lambda seen: REFUSED if poison.text in seen.texts else None) as server:
        found = reason(measure(remote(server, "cohere"), in_memory))
    assert found.startswith(f"refuses query {poison.id!r}: 400: this request will not do")


@pytest.mark.parametrize("name", APIS)
def test_half_a_character_is_no_reason_to_fail(name: str, in_memory: Path) -> None:
    texts = ["half a pair \ud83d of surrogates", "a whole one \U0001f6a2", "\x00 and \x1f too"]
    data = Dataset.build("odd", [Document(f"d{at}", text) for at, text in enumerate(texts)], [Query("q", "half \udc00")], {"q": {"d0": 1}})
    with FaultServer() as server:
        numbers(measure(remote(server, name), in_memory, data))
    assert {text for seen in server.seen for text in seen.texts} == {"half a pair � of surrogates", *texts[1:], "half �"}


@pytest.mark.parametrize("count", [lambda text: round(len(text.split()) * 1.6), lambda text: len(text.encode())], ids=["more", "bytes"])
@pytest.mark.parametrize("name", ["openai", "azure", "mistral", "openai-compatible"])
def test_a_text_that_is_too_long_is_cut_until_the_server_takes_it(name: str, count: object, in_memory: Path) -> None:
    most, words = 100, " ".join(f"word{at} of many" for at in range(200))
    data = Dataset.build("long", [Document("long", words), Document("short", "one word")], [Query("q", "a word")], {"q": {"short": 1}})
    with FaultServer(count=count) as server:  # type: ignore[arg-type]
        server.script = lambda seen: REFUSED if any(server.count(text) > most for text in seen.texts) else None
        board = measure(remote(server, name, f"max_tokens={most}"), in_memory, data)
    numbers(board)
    assert cost(board).truncated_documents == 1
    taken = next(text for seen in server.seen if seen.whole for text in seen.texts if text.startswith("word0"))
    assert words.startswith(taken)
    assert most / 2 < server.count(taken) <= most
    assert not server.asked_again()


@pytest.mark.parametrize("name", sorted(set(APIS) - {"openai", "azure", "mistral", "openai-compatible"}))
def test_where_the_api_cuts_long_texts_they_arrive_whole(name: str, in_memory: Path) -> None:
    words = " ".join(f"word{at}" for at in range(400))
    data = Dataset.build("long", [Document("long", words), Document("short", "a word")], [Query("q", "a word")], {"q": {"short": 1}})
    with FaultServer() as server:
        numbers(measure(remote(server, name, "max_tokens=100"), in_memory, data))
    assert words in {text for seen in server.seen for text in seen.texts}


# ---- how many at once, and when


def test_the_first_request_goes_alone_and_then_as_many_as_are_allowed(in_memory: Path) -> None:
    at_arrival: list[int] = []
    with FaultServer() as server:
        first = Fault(mends=True, before=lambda: server.linger(lambda: server.active > 1))
        together = Fault(mends=True, before=lambda: server.wait(lambda: server.most_active >= 8))

        def script(seen: Seen) -> Fault | None:
            at_arrival.append(server.active)
            return first if seen.number == 0 else together if seen.number <= 8 else None

        server.script = script
        numbers(measure(remote(server, "openai", "request_items=1&in_flight=8"), in_memory, make_dataset(documents=40, queries=2)))
    assert at_arrival[:2] == [0, 0]
    assert server.most_active == 8


def test_a_busy_server_gets_fewer_at_once(in_memory: Path) -> None:
    at_arrival: list[int] = []
    with FaultServer() as server:
        busy = Fault(status=429, before=lambda: server.wait(lambda: server.most_active >= 8))
        after = Fault(mends=True, before=lambda: server.linger(lambda: server.active > 2))

        def script(seen: Seen) -> Fault | None:
            at_arrival.append(server.active)
            return busy if 1 <= seen.number <= 8 else after if 9 <= seen.number <= 11 else None

        server.script = script
        numbers(measure(remote(server, "openai", "request_items=1&in_flight=8"), in_memory, make_dataset(documents=40, queries=2)))
    assert at_arrival[9:11] == [0, 0]
    assert at_arrival[11] <= 1


@pytest.mark.parametrize("name", APIS)
def test_a_server_is_left_alone_for_as_long_as_it_says(name: str, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    said = [{"Retry-After": "7"}, {"retry-after-ms": "1500"}, {"Retry-After": in_a_minute}, {}]
    held: list[float] = []
    with FaultServer(lambda seen: Fault(status=429, headers=said[seen.number]) if seen.number < len(said) else None) as server:
        model = remote(server, name)
        monkeypatch.setattr(model.pace, "hold", held.append)
        numbers(measure(model, in_memory))
    assert held[:2] == [7, 1.5]
    assert held[2] == pytest.approx(60, abs=30)
    assert len(held) == 3


# ---- money


def _losing(seed: int) -> Script:
    def script(seen: Seen) -> Fault | None:
        dice = random.Random(f"{seed} {seen.texts[0]} {seen.asked_before}")
        kinds = [BUSY, LOST, LOST] if seen.asked_before >= 2 else [BUSY, LOST, LOST, WRONG]
        return dice.choice(list(dice.choice(kinds).values())) if dice.random() < 0.5 else None

    return script


@pytest.mark.parametrize("count", [lambda text: len(text.split()) + 2, lambda text: len(text.encode())], ids=["words", "bytes"])
@pytest.mark.parametrize("seed", range(6))
def test_no_sequence_of_faults_and_runs_passes_the_budget(seed: int, count: object, in_memory: Path) -> None:
    dice = random.Random(seed)
    name, data = dice.choice(list(APIS)), make_dataset(documents=30, queries=4, seed=seed)
    with FaultServer(_losing(seed), count=count) as server:  # type: ignore[arg-type]
        everything = sum(map(server.count, [*(f"{d.title} {d.text}" for d in data.documents), *(q.text for q in data.queries)]))
        for budget in sorted(dice.randrange(everything * 2) for _ in range(4)):
            model = remote(server, name, A_DOLLAR_A_TOKEN, attempts=50)
            board = measure(model, in_memory, data, budget=budget)
            assert server.billed() <= spent(in_memory, data) <= budget
            if board.absences:
                assert "the next request could pass the budget" in reason(board)
                assert missing(model, in_memory, data)
        board = measure(remote(server, name, A_DOLLAR_A_TOKEN, attempts=50), in_memory, data, budget=1e9)
        assert not missing(model, in_memory, data)
        assert not server.asked_again()
        assert server.billed() <= spent(in_memory, data)
        assert cost(board).usd == everything


@pytest.mark.parametrize("name", APIS)
def test_a_budget_is_used_up_but_for_what_one_text_could_cost(name: str, in_memory: Path) -> None:
    with FaultServer() as server:
        board = measure(remote(server, name, A_DOLLAR_A_TOKEN), in_memory, budget=200)
    assert reason(board).startswith("the next request could pass the budget: ")
    assert " of 200 USD are spent on tiny; " in reason(board)
    assert 200 - max(len(f"{d.title} {d.text}") + 45 + 40 for d in DATA.documents) < server.billed() <= 200


def test_lost_replies_count_against_the_budget(in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, "openai", A_DOLLAR_A_TOKEN), in_memory / "plain"))
        enough = server.billed() + 2000
    with FaultServer(always(LOST["reset"])) as server:
        board = measure(remote(server, "openai", A_DOLLAR_A_TOKEN, attempts=100), in_memory / "lost", budget=enough)
    assert "the next request could pass the budget" in reason(board)
    assert len(server.seen) > 1
    assert server.billed() <= spent(in_memory / "lost") <= enough


def test_what_lost_replies_cost_is_known_once_the_same_is_answered(in_memory: Path) -> None:
    with FaultServer(at(0, 2, fault=LOST["reset"])) as server:
        board = measure(remote(server, "openai", A_DOLLAR_A_TOKEN), in_memory)
    assert cost(board).lost_usd == sum(seen.tokens for seen in server.seen if not seen.whole)
    assert spent(in_memory) == server.billed()


def test_the_command_line_stops_at_a_budget_and_goes_on_with_a_larger_one(in_memory: Path, tmp_path: Path) -> None:
    corpus = write_beir(make_dataset(), tmp_path / "corpus")
    with FaultServer() as server:
        words = ["eval", str(corpus), "-m", spec(server, "voyage", A_DOLLAR_A_TOKEN), "--store", str(in_memory), "--dims", "native"]
        stopped = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out"), "--budget", "300"])
        assert stopped.exit_code == 1, stopped.output
        assert "failed" in stopped.output
        assert "the next request could pass the budget" in " ".join(stopped.output.split())
        assert 0 < server.billed() <= 300
        done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out"), "--budget", "3000"])
        assert done.exit_code == 0, done.output
        assert not server.asked_again()
        requests = len(server.seen)
        again = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out2"), "--budget", "1"])  # all is there: nothing to pay
        assert again.exit_code == 0, again.output
        assert len(server.seen) == requests


def test_a_budget_needs_a_price(in_memory: Path) -> None:
    with FaultServer() as server:
        unpriced = "jina/jina-embeddings-v5-text-small"
        assert "a budget cannot be kept: the price of" in reason(measure(remote(server, "jina", model=unpriced), in_memory, budget=1))
        assert not server.seen
        measure(remote(server, "jina", model=unpriced), in_memory)
        asked = len(server.seen)
        assert not measure(remote(server, "jina", model=unpriced), in_memory, budget=1).absences  # all of it is there already
        assert len(server.seen) == asked
