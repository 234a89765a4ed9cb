"""What an evaluation will take, worked out before anything is sent, held against what a real server then sees."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import make_dataset, write_beir
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import harness
from harness import catalog
from harness.cli import main
from harness.dataset import Dataset, Document, Query
from harness.embedder import Embedder
from harness.pair import Pair
from harness.plan import Forecast, forecast, list_price
from harness.store import VectorStore


class Handler(BaseHTTPRequestHandler):
    """OpenAI's protocol; a word is a token, and what is longer than ``most`` is cut off."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        counts = [min(len(text.split()), self.server.most) for text in body["input"]]  # type: ignore[attr-defined]
        self.server.seen.append(counts)  # type: ignore[attr-defined]
        rows = [{"index": at, "embedding": [1.0, *(len(text) % n + 1.0 for n in (3, 5, 7))]} for at, text in enumerate(body["input"])]
        reply = json.dumps({"object": "list", "data": rows, "model": body["model"], "usage": {"total_tokens": sum(counts)}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: list[list[int]]
    most = 1 << 30


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    found.seen = []
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def words(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "words.json"))
    return tmp_path / "words.json"


@pytest.fixture
def vectors(tmp_path: Path) -> Iterator[VectorStore]:
    store = VectorStore(tmp_path / "store")
    yield store
    store.close()


def spec(server: Server, words: Path, more: str = "") -> str:
    return f"openai-compatible/m?base_url=http://127.0.0.1:{server.server_port}/v1&dim=4&tokenizer=bare:{words}{more}"


def planned(store: VectorStore, spec: str, dataset: Dataset) -> Forecast:
    embedder = catalog.load(spec)
    assert isinstance(embedder, Embedder)
    return forecast(store, spec, embedder, dataset)


def evaluated(tmp_path: Path, spec: str, dataset: Dataset) -> harness.Leaderboard:
    board = harness.evaluate(dataset, [spec], dims=["native"], store_folder=tmp_path / "store", floors=False)
    assert not board.absences
    return board


SMALL = Dataset.build(
    "small",
    [
        Document("a", "one two three four", title="zero"),
        Document("b", "one two three four", title="zero"),  # the same again: embedded and paid for once
        Document("c", "six words in all of these"),
        Document("d", "ten words of which the model reads eight at most"),
    ],
    [Query("q", "two words"), Query("r", "now three words"), Query("s", "now three words"), Query("t", "one")],
    {"q": {"a": 1}, "r": {"c": 1}, "s": {"d": 1}, "t": {"b": 1}},
)


def test_a_forecast_by_hand(server: Server, words: Path, vectors: VectorStore) -> None:
    more = "&max_tokens=8&usd_per_million_tokens=1000&requests_per_minute=2&tokens_per_minute=100"
    found = planned(vectors, spec(server, words, more), SMALL)
    assert found == Forecast(
        spec=spec(server, words, more),
        documents=4,
        queries=4,
        texts=3 + 3,
        cached=0,
        tokens=5 + 6 + 8 + 2 + 3 + 1,
        exact=True,
        why="",
        local=True,
        usd=pytest.approx(25 * 0.001),
        requests=2 + 2,  # the longest document first, since nobody knows yet how the server counts; of three queries the middle one
        minutes=pytest.approx(4 / 2),
        cut_documents=pytest.approx(1 / 4),
        cut_tokens=pytest.approx(2 / (5 + 5 + 6 + 10)),
        bytes=6 * 4 * 4,
    )
    assert (
        found.sentence()
        == f"{found.spec}: 6 texts to embed, 0 cached; 25 tokens, 4 requests, 0.0250 USD, at least 2.0 min at its limits a minute"
    )
    assert server.seen == []


def test_what_was_planned_is_what_the_server_sees_and_the_account_says(
    server: Server, words: Path, vectors: VectorStore, tmp_path: Path
) -> None:
    server.most = 8
    asked = spec(server, words, "&max_tokens=8&usd_per_million_tokens=1000")
    before = planned(vectors, asked, SMALL)
    (result,) = evaluated(tmp_path, asked, SMALL).results
    assert (len(server.seen), sum(map(sum, server.seen)), sum(map(len, server.seen))) == (before.requests, before.tokens, before.texts)
    assert result.cost.requests == before.requests
    assert result.cost.lost_requests == 0
    assert result.cost.truncated_documents == 1
    after = planned(vectors, asked, SMALL)
    assert after == replace(before, texts=0, cached=6, tokens=0, usd=0.0, requests=0, minutes=None, bytes=0)
    assert "0 texts to embed, 6 cached; 0 tokens, 0 requests, free of charge" in after.sentence()


@pytest.mark.parametrize(
    "more",
    [
        "",
        "&request_items=7",
        "&request_tokens=30",
        "&request_items=5&request_tokens=41",
        "&max_tokens=6&request_tokens=25",
        "&tokens_per_minute=60000&request_items=1000",
        "&requests_per_minute=6000&items_per_minute=500000",
    ],
)
def test_as_many_requests_as_planned(server: Server, words: Path, vectors: VectorStore, tmp_path: Path, more: str) -> None:
    server.most = 6 if "max_tokens" in more else server.most
    dataset = make_dataset(documents=300, queries=40)
    before = planned(vectors, spec(server, words, more), dataset)
    evaluated(tmp_path, spec(server, words, more), dataset)
    assert len(server.seen) == before.requests
    assert sum(map(sum, server.seen)) == before.tokens


def test_what_is_half_done_is_planned_from_there(server: Server, words: Path, vectors: VectorStore, tmp_path: Path) -> None:
    asked = spec(server, words, "&request_items=10")
    full = make_dataset(documents=60, queries=12)
    evaluated(tmp_path, asked, Dataset.build("half", full.documents[:35], full.queries[:1], {full.queries[0].id: {"d0": 1}}))
    found, before = planned(vectors, asked, full), len(server.seen)
    assert (found.texts, found.cached) == (25 + 11, 35 + 1)
    assert found.requests == 3 + 5 + 1  # documents in tens; of eleven queries every second alone, the others together
    evaluated(tmp_path, asked, full)
    assert len(server.seen) - before == found.requests


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(0, 30), st.integers(1, 50), st.integers(1, 60))
def test_any_plan_adds_up(tmp_path_factory: pytest.TempPathFactory, documents: int, queries: int, items: int, most: int) -> None:
    dataset = make_dataset(documents, min(queries, documents) or 1)
    store = VectorStore(tmp_path_factory.mktemp("store"))
    found = planned(store, f"openai-compatible/m?base_url=http://127.0.0.1:9/v1&dim=4&request_items={items}&request_tokens={most}", dataset)
    store.close()
    assert found.texts == len({d.title + d.text for d in dataset.documents}) + len({q.text for q in dataset.queries})
    assert found.texts / items <= found.requests <= found.texts
    assert found.requests >= found.tokens / max(most, 40)  # no text has more than 40
    assert not found.exact


def test_an_unknown_price_is_unknown_and_an_estimate_says_why(server: Server, vectors: VectorStore) -> None:
    url = f"base_url=http://127.0.0.1:{server.server_port}/v1"
    found = planned(vectors, f"openai-compatible/m?{url}&dim=4", SMALL)
    assert (found.usd, found.exact, found.why) == (None, False, "the model's tokenizer is not public")
    assert (found.cut_documents, found.cut_tokens, found.minutes) == (None, None, None)
    assert "; about " in found.sentence()
    assert "price unknown" in found.sentence()


def test_what_runs_here_makes_no_request_and_costs_nothing(vectors: VectorStore) -> None:
    found = planned(vectors, "wordllama/256", SMALL)
    assert (found.requests, found.usd, found.minutes, found.local, found.exact) == (0, 0.0, None, True, True)
    assert "free of charge" in found.sentence()


def test_a_pair_is_planned_as_its_two_halves(server: Server, words: Path, vectors: VectorStore) -> None:
    one = spec(server, words, "&usd_per_million_tokens=1000&max_tokens=8")
    other = spec(server, words, "&usd_per_million_tokens=2000&dim=4").replace("/m?", "/light?")
    documents, queries = catalog.load(one), catalog.load(other)
    assert isinstance(documents, Embedder)
    assert isinstance(queries, Embedder)
    found = forecast(vectors, "pair", Pair(documents, queries), SMALL)
    assert (found.tokens, found.texts, found.requests) == (19 + 6, 6, 3)
    assert found.usd == pytest.approx(19 * 0.001 + 6 * 0.002)
    assert found.cut_documents == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("price", "of_queries", "tokens", "usd"),
    [
        (1.0, None, (10, 5), 15e-6),
        (1.0, 2.0, (10, 5), 20e-6),
        (0.0, None, (10, 5), 0.0),
        (0.0, None, (None, 5), None),
        (None, None, (10, 5), None),
        (1.0, None, (10, None), None),
        (0.0, 2.0, (10, 5), 10e-6),
    ],
)
def test_list_prices_by_hand(price: float | None, of_queries: float | None, tokens: tuple[Any, Any], usd: float | None) -> None:
    model = replace(catalog.load("hash/8").model, usd_per_million_tokens=price, query_usd_per_million_tokens=of_queries)
    assert list_price(model, *tokens) == (None if usd is None else pytest.approx(usd))


# ---- bakeoff plan


@pytest.fixture
def untouched() -> Iterator[int]:
    """A port that listens and that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
        listener.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def command(*words: object) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, words)])


def test_the_command_makes_no_request_and_says_whether_a_budget_will_do(
    untouched: int, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = write_beir(SMALL, tmp_path / "data")
    model = f"openai-compatible/m?base_url=http://127.0.0.1:{untouched}/v1&dim=4&max_tokens=8&tokenizer=bare:{words}&usd_per_million_tokens=1000"
    free = command(folder, "--model", model)
    assert free.exit_code == 0, free.output
    assert "4 documents, 4 queries" in free.output
    assert "0.0250" in free.output
    enough, short = (command(folder, "--model", model, "--budget", usd) for usd in (0.0251, 0.0249))
    assert enough.exit_code == 0
    assert "a budget of 0.0251 USD will do" in enough.output
    assert short.exit_code == 1
    assert "a budget of 0.0249 USD will not do" in short.output


def test_a_budget_needs_prices(untouched: int, words: Path, tmp_path: Path) -> None:
    folder = write_beir(SMALL, tmp_path / "data")
    model = f"openai-compatible/m?base_url=http://127.0.0.1:{untouched}/v1&dim=4&tokenizer=bare:{words}"
    found = command(folder, "--model", model, "--budget", 100)
    assert found.exit_code == 1
    assert "price unknown: openai-compatible/m" in found.output
    assert command(folder, "--model", model).exit_code == 0


def test_what_was_spent_counts_against_the_budget(server: Server, words: Path, tmp_path: Path) -> None:
    folder = write_beir(SMALL, tmp_path / "data")
    asked = spec(server, words, "&max_tokens=8&usd_per_million_tokens=1000")
    server.most = 8
    board = harness.evaluate(folder, [asked], dims=["native"], store_folder=tmp_path / "store", floors=False, budget=10.0)
    assert not board.absences
    seen = len(server.seen)
    again = command(folder, "--store", tmp_path / "store", "--model", asked, "--budget", 0.03)
    assert again.exit_code == 0, again.output
    assert "0.0000 USD to come, 0.0250 USD spent on data so far" in " ".join(again.output.split())
    assert command(folder, "--store", tmp_path / "store", "--model", asked, "--budget", 0.02).exit_code == 1
    assert len(server.seen) == seen


def test_without_a_model_the_usual_ones_are_planned(tmp_path: Path) -> None:
    found = command(write_beir(SMALL, tmp_path / "data"))
    assert found.exit_code == 0, found.output
    assert "wordllama/256" in found.output
    assert "packaged/all-MiniLM-L6-v2" in found.output


def test_a_wrong_model_is_one_sentence(tmp_path: Path) -> None:
    found = command(write_beir(SMALL, tmp_path / "data"), "--model", "opnai/x")
    assert found.exit_code not in (0, 1)
    assert "no provider 'opnai'" in str(found.exception or "") + found.output
