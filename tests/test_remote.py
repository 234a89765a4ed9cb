"""What a failed attempt means: by HTTP status, by the words of a server, or by what broke the connection, as real clients report it."""

from __future__ import annotations

import base64
import email.utils
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from harness import remote
from harness.embedder import Item, Settings
from harness.errors import ModelError, OptionError
from harness.remote import Failure, address, data_url, decoded, describe, failure, is_here, limits, plain_text, retry_after
from providers.openai_compatible import load

# ---- by status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, "busy"), (409, "busy"), (425, "busy"), (429, "busy"), (500, "busy"), (502, "busy"), (503, "busy"), (504, "busy"), (529, "busy"), (599, "busy"),
        (400, "refused"), (413, "refused"), (422, "refused"),
        (401, "fatal"), (402, "fatal"), (403, "fatal"), (404, "fatal"), (405, "fatal"), (410, "fatal"), (451, "fatal"),
        (301, "fatal"), (302, "fatal"), (307, "fatal"), (308, "fatal"),
        (200, "lost"), (204, "lost"),
    ],
)  # fmt: skip
def test_each_status_has_its_meaning(status: int, kind: str) -> None:
    found = failure(RuntimeError("said"), status, "said")
    assert (found.kind, found.status, found.retry_after) == (kind, status, None)


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (401, "no", "401: no (the key was not accepted"),
        (402, "no", "402: no (the account has no credit"),
        (403, "no", "403: no (the key may not use this model"),
        (404, "no", "404: no (there is no such model or address"),
        (405, "no", "405: no"),
        (
            429,
            "insufficient_quota You exceeded your current quota",
            "429: insufficient_quota You exceeded your current quota (the account has no credit",
        ),
        (
            400,
            "API key not valid. Please pass a valid API key.",
            "400: API key not valid. Please pass a valid API key. (the key was not accepted",
        ),
        (200, "not JSON", "the reply cannot be read: not JSON"),
    ],
)
def test_what_a_user_reads(status: int, message: str, said: str) -> None:
    assert failure(RuntimeError(), status, message).message.startswith(said)


def test_no_credit_and_a_wrong_key_are_final_though_their_status_is_not() -> None:
    assert failure(RuntimeError(), 429, "insufficient_quota").kind == "fatal"
    assert failure(RuntimeError(), 400, "API_KEY_INVALID").kind == "fatal"


def test_googles_limit_a_minute_is_no_lack_of_credit() -> None:
    said = "You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: "
    said += "https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: https://ai.dev/rate-limit. "
    said += "\n* Quota exceeded for metric: generativelanguage.googleapis.com/embed_content_free_tier_requests, limit: 100" * 2
    found = failure(RuntimeError(), 429, f"{said}\nPlease retry in 7.967587226s.")
    assert (found.kind, found.retry_after) == ("busy", pytest.approx(7.967587226))


def test_a_redirect_is_refused_and_says_where_it_leads() -> None:
    found = failure(RuntimeError(), 307, "moved", {"Location": "https://elsewhere.example/v1"})
    assert found.kind == "fatal"
    assert "307: sends us on to https://elsewhere.example/v1, which is refused: keys and texts go to the named host only" in found.message
    assert "sends us on to nowhere" in failure(RuntimeError(), 301).message


def test_a_message_is_one_line_of_at_most_300_characters() -> None:
    found = failure(RuntimeError(), 500, "<html>\n\n" + "very long " * 100)
    assert found.message.startswith("500: <html> very long very")
    assert len(found.message) <= 310
    assert failure(RuntimeError("its own words"), 500).message == "500: its own words"
    assert failure(RuntimeError(), 500).message == "500: RuntimeError"


# ---- Retry-After


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 3 "}, 3),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_as_far_away_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote.time, "time", lambda: 1_000_000.0)
    assert retry_after({"retry-after": email.utils.formatdate(1_000_030, usegmt=True)}) == 30.0
    assert failure(RuntimeError(), 503, "busy", {"Retry-After": email.utils.formatdate(1_000_012, usegmt=True)}).retry_after == 12.0


@given(st.text(max_size=30) | st.from_regex(r"\A\w{3}, \d{1,2} \w{3} \d{1,6} \d\d:\d\d:\d\d [-+]?\w{3,5}\Z"))
def test_no_header_breaks_anything(value: str) -> None:
    found = retry_after({"retry-after": value, "retry-after-ms": value})
    assert found is None or 0 <= found < float("inf")


# ---- by what broke the connection, as three real clients report it


Handle = Callable[[socket.socket], None]


def _read(connection: socket.socket) -> None:
    while b"\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
        pass
    connection.recv(65536)


def reset(connection: socket.socket) -> None:
    _read(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket) -> None:
    _read(connection)


def half(connection: socket.socket) -> None:
    _read(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + b'{"data": [')


def half_chunked(connection: socket.socket) -> None:
    _read(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + b'ff\r\n{"data": [')


def no_http(connection: socket.socket) -> None:
    _read(connection)
    connection.sendall(b"220 mail.example ESMTP\r\n")


@contextmanager
def serving(handle: Handle) -> Iterator[str]:
    """The address of a server that does this to every connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                handle(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def closed() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def hanging() -> Iterator[str]:
    """Takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def full() -> Iterator[str]:
    """Takes no connection: its queue is full, so that connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)  # noqa: FBT003
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for one in waiting:
            one.close()


def by_httpx(url: str, seconds: float) -> None:
    httpx.post(url, json={"input": ["a"]}, timeout=seconds, trust_env=False)


def by_requests(url: str, seconds: float) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.post(url, json={"input": ["a"]}, timeout=seconds)


def by_openai(url: str, seconds: float) -> None:
    with openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=seconds) as client:
        client.embeddings.create(input=["a"], model="m")


@pytest.mark.parametrize("client", [by_httpx, by_requests, by_openai])
@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (closed, "unreachable"),
        (full, "unreachable"),
        (hanging, "lost"),
        (lambda: serving(reset), "lost"),
        (lambda: serving(hang_up), "lost"),
        (lambda: serving(half), "lost"),
        (lambda: serving(half_chunked), "lost"),
        (lambda: serving(no_http), "lost"),
    ],
    ids=["closed", "full", "hanging", "reset", "hang up", "half", "half chunked", "no http"],
)
def test_what_broke_is_told_from_the_exception(client: Callable[[str, float], None], server: Any, kind: str) -> None:
    slow = server in (full, hanging)
    with server() as url, pytest.raises(Exception) as caught:
        client(url, 0.15 if slow else 10.0)
    found = failure(caught.value)
    assert found.kind == kind, f"{type(caught.value).__name__}: {caught.value}"
    assert found.message.startswith("no connection: " if kind == "unreachable" else "the reply was lost: ")


@pytest.mark.parametrize("client", [by_httpx, by_requests, by_openai])
def test_a_name_that_nobody_knows_is_unreachable(client: Callable[[str, float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_words: object, **_named: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Exception) as caught:
        client("http://nobody.example", 1.0)
    assert failure(caught.value).kind == "unreachable"


def test_a_chain_of_exceptions_that_bites_its_tail_ends() -> None:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    assert failure(one).kind == "lost"


def test_a_failure_is_told_in_the_words_of_what_broke_first() -> None:
    outer, inner = RuntimeError("Connection error."), ConnectionResetError("gone")
    outer.__cause__ = inner
    assert failure(outer).message == "the reply was lost: ConnectionResetError: gone"
    assert failure(TimeoutError()).message == "the reply was lost: TimeoutError: TimeoutError"
    assert str(Failure("busy", "text")) == "text"


# ---- addresses


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("http://[::1]:9/v1//", "http://[::1]:9/v1"),
        (None, "https://default.example/v1"),
    ],
)
def test_an_address_ends_without_a_slash(url: str | None, found: str) -> None:
    assert address(Settings(base_url=url), "https://default.example/v1/") == found


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080", "ftp://host/v1", "http://", "http:///v1", "/v1", "file:///etc/passwd", "http://[::1", "http://host:port/v1", "http://host:99999",
        "http://user:hunter2pass@host/v1", "http://hunter2pass@host", "http://:hunter2pass@host", "http://host/v1?key=hunter2pass",
        "http://user:hunter2pass@[::1", "http://user:hunter2pass@host:99999", "hunter2pass@host",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(OptionError, match="base_url") as caught:
        address(Settings(base_url=url))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "hunter2pass" not in str(chain), type(chain).__name__
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_without_any_address_there_is_an_error() -> None:
    with pytest.raises(OptionError, match="base_url is not an address, as in"):
        load("m", Settings(dim=4))


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:1/v1", True), ("http://127.0.0.1/v1", True), ("http://127.8.8.8", True), ("http://[::1]:9", True),
        ("http://localhost.example", False), ("http://10.0.0.1", False), ("https://api.openai.com/v1", False),
    ],
)  # fmt: skip
def test_what_is_on_this_machine(url: str, here: bool) -> None:
    assert is_here(url) is here


@pytest.mark.parametrize("host", ["127.evil.example", "127.0.0.1.evil.example"])
def test_a_name_that_begins_like_this_machines_address_is_not_here(host: str) -> None:
    assert not is_here(f"http://{host}/v1")


# ---- models and limits


def test_smaller_dimensions_are_asked_for_and_larger_ones_refused() -> None:
    model = describe("p", "n", Settings(dim=8, dimensions=4, mrl_dims=(6, 4, 2), base_url="http://localhost/v1"))
    assert (model.dim, model.mrl_dims, model.local) == (4, (2,), False)
    assert model.options == (("dimensions", "4"), ("base_url", "http://localhost/v1"))
    with pytest.raises(OptionError, match="dimensions 9 is more than the 8 that the model has"):
        describe("p", "n", Settings(dim=8, dimensions=9))
    with pytest.raises(OptionError, match=r"the catalog does not know p/n: say the dimension of its vectors, as in p/n\?dim=1024"):
        describe("p", "n", Settings())


def test_a_price_that_is_not_known_is_not_nothing() -> None:
    assert describe("p", "n", Settings(dim=8)).usd_per_million_tokens is None
    assert describe("p", "n", Settings(dim=8, usd_per_million_tokens=0.0)).usd_per_million_tokens == 0.0


def test_what_the_user_says_overrules_the_adapters_limits() -> None:
    found = limits(Settings(request_items=5, tokens_per_minute=9.0, timeout=2.0), items=96, tokens=1000, item_tokens=7)
    assert (found.items, found.tokens, found.item_tokens, found.tokens_per_minute, found.timeout) == (5, 1000, 7, 9.0, 2.0)
    assert (found.requests_per_minute, found.in_flight) == (None, 32)


# ---- what is sent and what comes back


def test_images_become_data_urls(tmp_path: Path) -> None:
    for name, kind in (("a.png", "image/png"), ("a.JPG", "image/jpeg"), ("a.webp", "image/webp"), ("a.gif", "image/gif")):
        (tmp_path / name).write_bytes(b"picture")
        assert data_url(tmp_path / name) == f"data:{kind};base64,cGljdHVyZQ=="


def test_what_is_no_image_or_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.png: the image cannot be read \(No such file or directory\)"):
        data_url(tmp_path / "none.png")
    with pytest.raises(ModelError, match=r"notes\.txt: not an image by its name; \.jpg, \.png, \.webp and \.gif are"):
        data_url(tmp_path / "notes.txt")
    with pytest.raises(ModelError, match="picture: not an image by its name"):
        data_url(tmp_path / "picture")


def test_a_text_model_refuses_an_image_by_its_name() -> None:
    assert plain_text([Item("b", title="a"), Item("c")]) == ["a b", "c"]
    with pytest.raises(ModelError, match=r"reads text only, but x\.png is an image"):
        plain_text([Item("a"), Item("b", image=Path("x.png"))])


def test_vectors_come_as_numbers_or_as_bytes() -> None:
    row = np.array([1.5, -2.0, 0.25], dtype="<f4")
    assert decoded(base64.b64encode(row.tobytes()).decode()).tolist() == row.tolist()
    assert decoded([1.5, 2]) == [1.5, 2]
    for damaged in ("abc", "AAAAAAA=", "!!!!"):
        with pytest.raises(ValueError):
            np.asarray(decoded(damaged)).reshape(3)
