"""Texts made to fit: how many go together, whose tokens are whose, and where one that is too long is cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from harness import dispatch, tokens
from harness.batches import fitted, fitting, less, room, share
from harness.dispatch import Patience, Remote
from harness.embedder import Item, Model, Role
from harness.errors import ModelError
from harness.pace import Pace
from harness.remote import Answer, Failure, Limits

INF = float("inf")

# ---- room: how large a request should be


@pytest.mark.parametrize(
    ("limits", "a_minute", "items", "most_tokens"),
    [
        (Limits(items=96), (INF, INF, INF), 96, INF),
        (Limits(items=2048, tokens=300_000), (3000, 1_000_000, INF), 2048, 20_000),  # a fiftieth of a minute's tokens
        (Limits(items=2048, tokens=10_000), (3000, 1_000_000, INF), 2048, 10_000),
        (Limits(items=2048, tokens=300_000), (10, 1_000_000, INF), 2048, 100_000),  # ten a minute must take them all
        (Limits(items=2048), (0.5, 1_000, INF), 2048, 1_000),  # never more than a minute's
        (Limits(items=96), (INF, INF, 2000), 40, INF),
        (Limits(items=96), (20, INF, 2000), 96, INF),
        (Limits(items=96), (100, INF, 30), 1, INF),
        (Limits(items=96), (0.5, INF, 30), 30, INF),
    ],
)
def test_how_large_a_request_is(limits: Limits, a_minute: tuple[float, float, float], items: int, most_tokens: float) -> None:
    assert room(limits, *a_minute) == (items, most_tokens)


def test_a_first_request_is_a_fiftieth_of_what_a_minute_or_a_request_may_hold() -> None:
    assert room(Limits(items=2048), 1, 50_000, INF, first=True) == (2048, 1_000)
    assert room(Limits(items=2048, tokens=300_000), INF, INF, INF, first=True) == (2048, 6_000)
    assert room(Limits(items=96), INF, INF, INF, first=True) == (96, INF)


@given(
    st.floats(0.1, 10_000) | st.just(INF),
    st.floats(1, 1e7) | st.just(INF),
    st.floats(1, 1e5) | st.just(INF),
    st.integers(1, 3000),
    st.none() | st.integers(1, 10**6),
    st.booleans(),
)
def test_a_request_never_asks_for_more_than_a_minute_or_a_request_allows(
    requests: float, all_tokens: float, all_items: float, items: int, most: int | None, first: bool
) -> None:
    found_items, found_tokens = room(Limits(items=items, tokens=most), requests, all_tokens, all_items, first=first)
    assert 1 <= found_items <= min(items, max(1, all_items))
    assert 0 < found_tokens <= min(all_tokens, most or INF)
    if not first and math.isfinite(all_tokens) and not most:  # so few requests a minute can still carry all the tokens of it
        assert found_tokens * max(1, min(requests, 50)) == pytest.approx(all_tokens)


# ---- fitting


def test_as_many_go_together_as_there_is_room_for_and_at_least_one() -> None:
    weights = np.array([3, 3, 3, 1])
    assert [fitting(weights, most) for most in (0, 2, 3, 5, 6, 9, 10, INF)] == [1, 1, 1, 1, 2, 3, 4, 4]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 200))
def test_one_more_would_not_fit(weights: list[int], most: int) -> None:
    count = fitting(np.array(weights), most)
    assert 1 <= count <= len(weights)
    assert count == 1 or sum(weights[:count]) <= most
    assert count == len(weights) or sum(weights[: count + 1]) > most


# ---- share


@pytest.mark.parametrize(
    ("total", "counts", "shares"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (7, [2, 1], [5, 2]),
        (0, [5, 5], [0, 0]),
        (3, [0, 4], [0, 3]),
        (10, [0, 0, 0], [4, 3, 3]),  # an empty text's tokens are somebody's too
        (5, [9], [5]),
        (12, [1, 2, 3], [2, 4, 6]),
    ],
)
def test_tokens_are_shared_by_hand(total: int, counts: list[int], shares: list[int]) -> None:
    assert share(total, np.array(counts)).tolist() == shares


@given(st.integers(0, 10**7), st.lists(st.integers(0, 10_000), min_size=1, max_size=50))
def test_shares_add_up_and_are_within_one_of_proportional(total: int, counts: list[int]) -> None:
    shares = share(total, np.array(counts))
    assert int(shares.sum()) == total
    assert (shares >= 0).all()
    weights = np.array(counts) if any(counts) else np.ones(len(counts))
    assert (np.abs(shares - total * weights / weights.sum()) < 1 + 1e-6).all()


# ---- fitted: the same cut with the model's tokenizer and without


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    tokens._tokenizer.cache_clear()
    yield
    tokens._tokenizer.cache_clear()


@pytest.fixture
def words(tmp_path: Path) -> str:
    """One token a word."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "words.json"))
    return f"bare:{tmp_path / 'words.json'}"


def model(tokenizer: str = "", max_tokens: int | None = None, **fields: str) -> Model:
    return Model(provider="x", name="y", revision="", dim=2, tokenizer=tokenizer, max_tokens=max_tokens, **fields)


TEXTS = ["a b c d e f g h i j k l m n o p q r s t u v w x y z", "ferry " * 30, "ok", "internationalisation " * 9, "1234567890" * 3]


def test_without_a_limit_nothing_is_cut(words: str) -> None:
    sent, counts = fitted(model(words), [Item(text) for text in TEXTS], "document", None)
    assert [item.text for item in sent] == TEXTS
    assert counts.tolist() == [26, 30, 1, 9, 1]


def test_what_is_billed_is_what_the_model_reads(words: str) -> None:
    _, counts = fitted(model(words, max_tokens=9), [Item(text) for text in TEXTS], "document", None)
    assert counts.tolist() == [9, 9, 1, 9, 1]


def test_a_text_that_fits_keeps_its_title_apart_and_its_image(words: str) -> None:
    item = Item("text", title="title", image=Path("x.png"))
    assert fitted(model(words), [item], "document", 10)[0] == [item]
    (cut,), _ = fitted(model(words), [Item("text " * 40, title="title", image=Path("x.png"))], "document", 10)
    assert (cut.title, cut.image) == ("", Path("x.png"))
    assert cut.text.startswith("title text text")


def test_a_prompt_takes_its_part_of_the_room(words: str) -> None:
    one = model(words, document_prompt="five words before the text ")
    (cut,), counts = fitted(one, [Item("a " * 40)], "document", 12)
    assert counts.tolist() == [len(cut.text.split()) + 5]
    assert counts[0] <= 12


def test_a_prompt_that_leaves_no_room_ends_in_an_empty_text_not_in_a_loop(words: str) -> None:
    one = model(words, document_prompt="five words before the text ")
    sent, counts = fitted(one, [Item("a b c"), Item("d")], "document", 4)
    assert ([item.full for item in sent], counts.tolist()) == (["", ""], [5, 5])


class Strict:
    """An API that refuses a text of more than ``most`` words instead of cutting it."""

    def __init__(self, most: int, tokenizer: str) -> None:
        self.model, self.limits, self._most = model(tokenizer, max_tokens=most), Limits(items=3, item_tokens=most), most
        self.read: dict[str, None] = {}

    def connect(self) -> None: ...

    def ask(self, items: list[Item], role: Role) -> Answer:
        if any(len(item.full.split()) > self._most for item in items):
            raise Failure("refused", "400: too long", status=400)
        self.read |= dict.fromkeys(item.full for item in items)
        return Answer(np.ones((len(items), 2)), None, sum(len(item.full.split()) for item in items))

    def explain(self, error: Exception) -> Failure:
        raise error


@pytest.mark.parametrize("most", [3, 7, 12, 25])
def test_the_cut_is_the_same_whether_the_tokenizer_or_the_server_tells(words: str, most: int) -> None:
    read = []
    for tokenizer in (words, ""):
        endpoint = Strict(most, tokenizer)
        Remote(endpoint, Patience(first=0.0), Pace()).embed([Item(text) for text in TEXTS], "document")
        read.append(set(endpoint.read))
    assert read[0] == read[1]
    assert all(any(text.startswith(found) for text in TEXTS) for found in read[0])
    assert "ok" in read[0]


def test_a_text_that_is_short_and_still_refused_is_named_not_cut_to_nothing() -> None:
    endpoint = Strict(0, "")
    endpoint.limits = Limits(items=3, item_tokens=100)
    with pytest.raises(ModelError, match="refuses document 'number 1': 400: too long; "):
        dispatch.Remote(endpoint, Patience(first=0.0), Pace()).embed([Item("one two three")], "document")


@given(st.text(min_size=1, max_size=40))
def test_less_is_a_beginning_shorter_by_a_tenth(text: str) -> None:
    shorter = less(Item(text))
    assert Item(text).full.startswith(shorter.text)
    assert len(shorter.text) == math.floor(len(Item(text).full) * 0.9 + 1e-9)
