"""No minute holds more than is allowed, and little less: Pace by itself, and the dispatch loop in virtual time.

What is guaranteed: requests and items exactly; tokens as far as no text has more of them, against our estimate, than five percent above
the worst that a reply has shown so far. What is reached: 95 % of the limit that binds, where no single text is more than 2 % of a minute.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import dispatch, pace, tokens
from harness.embedder import Item, Model, Role
from harness.pace import WINDOW, Pace, duration
from harness.remote import Answer, Failure, Limits

START = 1000.0


@dataclass
class Clock:
    now: float = START

    def monotonic(self) -> float:
        return self.now


class Sent(NamedTuple):
    at: float
    requests: float
    tokens: float
    items: float


def worst(sent: Sequence[Sent], what: str, seconds: float = 60.0) -> float:
    """The most units that left within so many seconds."""
    times, units = np.array([one.at for one in sent]), np.array([getattr(one, what) for one in sent])
    summed = np.concatenate([[0.0], np.cumsum(units)])
    first = np.searchsorted(times, times - seconds + 1e-6, side="left")
    return float((summed[1:] - summed[first]).max())


def a_minute(sent: Sequence[Sent], what: str, minutes: float) -> float:
    """Units a minute, from the first that left."""
    return sum(getattr(one, what) for one in sent if one.at < sent[0].at + 60 * minutes) / minutes


# ---- Pace by itself


@settings(max_examples=60, deadline=None)
@given(
    limits=st.tuples(st.integers(1, 200), st.integers(10, 50_000), st.integers(5, 2_000)),
    sizes=st.lists(st.tuples(st.floats(0.001, 1.0), st.floats(0.001, 1.0), st.floats(0.2, 1.0)), min_size=1, max_size=20),
    stalls=st.lists(st.floats(0.0, 90.0), min_size=1, max_size=5),
    latency=st.floats(0.0, 30.0),
)
def test_no_window_of_a_minute_holds_more_than_is_allowed(
    limits: tuple[int, int, int], sizes: list[tuple[float, float, float]], stalls: list[float], latency: float
) -> None:
    clock = Clock()
    paced = Pace(*limits, clock=clock.monotonic)
    sent: list[Sent] = []
    corrections: list[tuple[float, pace.Load, float]] = []
    for turn, (of_tokens, of_items, true) in enumerate(itertools.islice(itertools.cycle(sizes), 150)):
        weight, items = max(1.0, of_tokens * limits[1]), max(1, int(of_items * limits[2]))
        if turn % 25 == 24:
            clock.now += stalls[turn % len(stalls)]
        while wait := paced.wait(weight, items):
            clock.now += max(wait, 1e-9)
            while corrections and corrections[0][0] <= clock.now:
                _, load, counted = corrections.pop(0)
                paced.correct(load, counted)
        load = paced.leave(weight, items)
        corrections.append((clock.now + latency, load, weight * true))
        sent.append(Sent(clock.now, 1, weight * true, items))
    for what, limit in zip(("requests", "tokens", "items"), limits, strict=True):
        assert worst(sent, what, seconds=60.0) <= limit * (1 + 1e-9)


@pytest.mark.parametrize("limit", [0.5, 1, 3, 59, 60, 500, 3000])
def test_requests_that_wait_reach_all_but_a_percent_of_their_limit(limit: float) -> None:
    clock = Clock()
    paced, sent = Pace(limit, clock=clock.monotonic), []
    while clock.now < START + 610:
        clock.now += paced.wait(1, 1)
        paced.leave(1, 1)
        sent.append(Sent(clock.now, 1, 1, 1))
    assert a_minute(sent, "requests", 10) >= 0.99 * limit
    assert worst(sent, "requests") <= max(1, limit)


def test_a_stall_gives_no_burst() -> None:
    clock = Clock()
    paced, left = Pace(600, clock=clock.monotonic), []
    for _ in range(100):
        clock.now += paced.wait(1, 1)
        paced.leave(1, 1)
    clock.now += 600.0  # nothing was sent for ten minutes
    while not paced.wait(1, 1):
        paced.leave(1, 1)
        left.append(clock.now)
    assert len(left) == 10  # one second's worth, not a minute's


def test_without_limits_nothing_waits() -> None:
    paced = Pace(clock=Clock().monotonic)
    for _ in range(1000):
        assert paced.wait(1e9, 10_000) == 0
        paced.leave(1e9, 10_000)


def test_what_is_larger_than_a_minute_allows_goes_alone() -> None:
    clock = Clock()
    paced = Pace(tokens=1000, clock=clock.monotonic)
    assert paced.wait(2500, 1) == 0
    paced.leave(2500, 1)
    assert paced.wait(1, 1) == pytest.approx(2.5 * WINDOW, abs=1.0)  # as long as its tokens would have taken
    clock.now += 2.5 * WINDOW
    assert paced.wait(2500, 1) == 0


def test_an_overestimate_is_given_back_and_an_underestimate_is_paid() -> None:
    clock = Clock()
    paced = Pace(tokens=600, clock=clock.monotonic)
    load = paced.leave(300, 1)
    assert paced.wait(300, 1) == pytest.approx(WINDOW / 2 - 1)  # half a minute's tokens, less a second's credit
    paced.correct(load, 60)
    assert paced.wait(300, 1) == pytest.approx(WINDOW / 10 - 1)
    paced.correct(load, 600)
    assert paced.wait(300, 1) == pytest.approx(WINDOW)  # the window is full until the load leaves it
    clock.now += WINDOW
    paced.wait(300, 1)
    paced.correct(load, 0)  # late: it has left the window and changes no sum
    assert paced.meters["tokens"]._sum == 0


def test_a_server_that_asks_for_a_pause_gets_it_and_a_shorter_one_does_not_end_it() -> None:
    clock = Clock()
    paced = Pace(clock=clock.monotonic)
    paced.hold(12.0)
    paced.hold(3.0)
    assert paced.wait(1, 1) == 12.0
    clock.now += 12.0
    assert paced.wait(1, 1) == 0


def test_what_an_earlier_process_sent_counts_for_this_minute_too() -> None:
    clock = Clock()
    paced = Pace(requests=10, clock=clock.monotonic)
    for ago in range(50, 40, -1):
        paced.remember(float(ago), 5, 1)
    assert not paced.used
    assert paced.wait(1, 1) == pytest.approx(WINDOW - 50)  # until the oldest is a minute old


# ---- rate headers


def test_limits_come_from_headers_where_none_were_given() -> None:
    clock = Clock()
    paced = Pace(requests=5, clock=clock.monotonic)
    paced.read({"x-ratelimit-limit-requests": "3000", "x-ratelimit-limit-tokens": "600", "x-ratelimit-remaining-tokens": "599"})
    assert (paced.meters["requests"].limit, paced.meters["tokens"].limit) == (5, 600)  # the user's word stands
    paced.leave(600, 1)
    assert paced.wait(1, 1) > WINDOW - 2
    paced.read({"x-ratelimit-limit-tokens": "1200"})  # and may change
    assert paced.meters["tokens"].limit == 1200


def test_tokens_that_left_before_the_limit_was_known_count() -> None:
    clock = Clock()
    paced = Pace(clock=clock.monotonic)
    paced.leave(500, 1)
    paced.read({"x-ratelimit-limit-tokens": "600"})
    assert paced.wait(100, 1) == 0
    assert paced.wait(101, 1) == pytest.approx(WINDOW)


@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_nothing_remaining_holds_everything_until_the_reset(what: str) -> None:
    paced = Pace(clock=Clock().monotonic)
    paced.read({f"x-ratelimit-remaining-{what}": "0", f"x-ratelimit-reset-{what}": "17s"})
    assert paced.wait(1, 1) == 17.0
    paced.read({f"x-ratelimit-remaining-{what}": "0", f"x-ratelimit-reset-{what}": "6h0m0s"})
    assert paced.wait(1, 1) == 60.0  # a header alone holds no longer
    paced.read({f"x-ratelimit-remaining-{what}": "0"})
    assert paced.wait(1, 1) == 60.0


@pytest.mark.parametrize("value", ["", "many", "-3", "0", "nan", "inf", "1e999", "12²"])
def test_a_limit_that_is_no_number_changes_nothing(value: str) -> None:
    paced = Pace(clock=Clock().monotonic)
    paced.read({"x-ratelimit-limit-requests": value, "x-ratelimit-remaining-tokens": value, "x-ratelimit-reset-tokens": value})
    paced.leave(1, 1)
    assert paced.wait(1e6, 1) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1.5s", 1.5), ("1h2m3s", 3723), ("1m0.25s", 60.25), ("59.999999s", 59.999999),
        ("17", 17), ("0.5", 0.5), ("", 0), ("soon", 0), ("-1s", 0), ("1d", 0), ("s", 0), ("1s later", 0), ("in 1s", 0), ("1 s", 0),
    ],
)  # fmt: skip
def test_durations_as_openai_writes_them(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_from_0_up(text: str) -> None:
    assert 0 <= duration(text) < float("inf")


# ---- the dispatch loop, its threads replaced by a heap and its clock by a number


@dataclass
class Counted:
    """An endpoint whose texts are pairs of numbers: the tokens that we estimate, and those that it counts."""

    limits: Limits
    busy: Callable[[float], bool] = lambda _now: False
    sent: list[Sent] = field(default_factory=list)
    model: Model = field(default_factory=lambda: Model(provider="counted", name="model", revision="", dim=2, local=False))

    def connect(self) -> None: ...

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        return Answer(np.ones((len(items), 2)), None, sum(int(item.text.split()[1]) for item in items))

    def explain(self, error: Exception) -> Failure:
        raise error


class VirtualCrew:
    def __init__(self, endpoint: Counted, role: Role, clock: Clock, latency: Callable[[], float]) -> None:
        self._endpoint, self._role, self._clock, self._latency = endpoint, role, clock, latency
        self._replies: list[tuple[float, int, int, Answer | Exception]] = []
        self._number = itertools.count()

    def send(self, number: int, items: list[Item]) -> None:
        answer, now = self._endpoint.ask(items, self._role), self._clock.now
        self._endpoint.sent.append(Sent(now, 1, answer.tokens or 0, len(items)))
        outcome = Failure("busy", "later", retry_after=15.0) if self._endpoint.busy(now) else answer
        heapq.heappush(self._replies, (now + self._latency(), next(self._number), number, outcome))

    def receive(self, seconds: float) -> list[tuple[int, Answer | Exception, float]]:
        if self._replies and self._replies[0][0] <= self._clock.now + seconds:
            at, _, number, outcome = heapq.heappop(self._replies)
            self._clock.now = max(self._clock.now, at)
            return [(number, outcome, 0.2)]
        self._clock.now += max(seconds, 1e-9)
        return []

    def dismiss(self) -> None: ...


@contextmanager
def virtual_time(latency: Callable[[], float]) -> Iterator[Clock]:
    def counted(_model: Model, items: Sequence[Item], _role: Role) -> tokens.Counts:
        return np.array([int(item.text.split()[0]) for item in items], dtype=np.int64)

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "count", counted)
        patch.setattr(dispatch, "time", clock)
        patch.setattr(dispatch, "Crew", lambda endpoint, role: VirtualCrew(endpoint, role, clock, latency))
        yield clock


def replayed(
    endpoint: Counted, texts: Sequence[tuple[int, int]], minutes: float, latency: Callable[[], float] = lambda: 0.2
) -> tuple[list[Sent], bool]:
    """What left, and whether all texts did so before the time was up. Texts are (estimate, truth) in tokens."""
    limits = endpoint.limits
    with virtual_time(latency) as clock:
        paced = Pace(limits.requests_per_minute, limits.tokens_per_minute, limits.items_per_minute, clock=clock.monotonic)
        flight = dispatch.Remote(endpoint, pace=paced).dispatch([Item(f"{estimate} {truth}") for estimate, truth in texts], "document")
        for _ in flight:
            if clock.now > START + 60 * minutes:
                return endpoint.sent, False
    return endpoint.sent, True


def some_texts(count: int, mean: int, bias: float, rng: random.Random, spread: float = 1.05) -> list[tuple[int, int]]:
    """Up to twice the mean; the truth is the estimate times the bias, and less than ``spread`` more."""
    sizes = [rng.randint(1, 2 * mean) for _ in range(count)]
    return [(size, max(1, int(size * bias * rng.uniform(1.0, spread)))) for size in sizes]


@settings(max_examples=20, deadline=None)
@given(
    requests=st.none() | st.integers(1, 3000),
    all_tokens=st.none() | st.integers(5_000, 500_000),
    all_items=st.none() | st.integers(1, 3000),
    items=st.sampled_from([1, 8, 96, 2048]),
    bias=st.sampled_from([0.4, 0.7, 1.0, 2.0]),
    seed=st.integers(0, 1000),
)
def test_the_loop_never_passes_a_limit_and_reaches_95_percent_of_one(
    requests: int | None, all_tokens: int | None, all_items: int | None, items: int, bias: float, seed: int
) -> None:
    limits = Limits(items=items, tokens=300_000, requests_per_minute=requests, tokens_per_minute=all_tokens, items_per_minute=all_items)
    rng, minutes = random.Random(seed), 3
    mean = max(1, min(200, (all_tokens or 20_000) // 200))  # the largest text is 1 % of a minute, by our estimate
    sent, done = replayed(Counted(limits), some_texts(4000, mean, bias, rng), minutes + 0.5)
    allowed = {"requests": requests, "tokens": all_tokens, "items": all_items}
    for what, limit in allowed.items():
        assert limit is None or worst(sent, what) <= limit * (1 + 1e-9), what
    if not done:
        assert max(a_minute(sent, what, minutes) / limit for what, limit in allowed.items() if limit) >= 0.95


@pytest.mark.parametrize("latency", [0.2, 2.0, 5.0])
@pytest.mark.parametrize(("requests", "all_tokens"), [(None, 100_000), (20, 100_000), (3000, 1_000_000), (1, 50_000), (0.5, 20_000)])
def test_ten_minutes_are_used_whether_requests_or_tokens_bind(requests: float | None, all_tokens: int, latency: float) -> None:
    rng = random.Random(7)
    limits = Limits(items=2048, tokens=300_000, requests_per_minute=requests, tokens_per_minute=all_tokens)
    texts = some_texts(all_tokens * 11 // 300, 300, 1.0, rng)
    sent, done = replayed(Counted(limits), texts, 10.2, lambda: latency * rng.uniform(0.5, 1.5))
    assert not done
    used = max(a_minute(sent, "tokens", 10) / all_tokens, a_minute(sent, "requests", 10) / (requests or float("inf")))
    assert used >= 0.95
    assert worst(sent, "tokens") <= all_tokens
    assert requests is None or worst(sent, "requests") <= max(1, requests)


def test_estimates_that_are_far_off_pass_a_limit_by_less_than_a_percent() -> None:
    rng = random.Random(1)
    texts = some_texts(6000, 100, 1.0, rng, spread=2.0)
    texts[3000:] = [(size, 2 * truth) for size, truth in texts[3000:]]  # another language begins here
    sent, _ = replayed(Counted(Limits(items=2048, tokens_per_minute=100_000)), texts, 10)
    assert worst(sent, "tokens") + 3_000 > 100_000
    assert worst(sent, "tokens") <= 101_000


def test_a_busy_server_gets_the_pause_it_asks_for_and_then_as_much_as_before() -> None:
    rng = random.Random(2)
    endpoint = Counted(Limits(items=8, requests_per_minute=300, in_flight=32), busy=lambda now: START + 60 < now < START + 65)
    sent, _ = replayed(endpoint, some_texts(20_000, 50, 1.0, rng), 5)
    assert worst(sent, "requests") <= 300
    assert sum(START + 60 < one.at < START + 75 for one in sent) < 5
    assert sum(START + 180 < one.at <= START + 240 for one in sent) >= 0.95 * 300
