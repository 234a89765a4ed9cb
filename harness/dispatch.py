"""The one layer between a corpus and any API: batches, many requests in flight, rates, retries, order, checks, budget.

One loop decides everything; worker threads do nothing but wait for one reply each. What arrives is handed over at once, so
that it is stored before the next is counted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from harness import tokens, vectors
from harness.batches import fitted, fitting, less, room, share
from harness.crew import Crew
from harness.embedder import Embedded, Item, Model, Role
from harness.errors import BudgetError, ModelError
from harness.keys import redact
from harness.pace import WINDOW, Load, Pace
from harness.purse import Free, Purse, State
from harness.remote import Answer, Endpoint, Failure, Limits, plain_text

LANDING = 0.7  # seconds that Ctrl-C leaves to replies that are on their way
_TIGHT = 1.05  # what an estimate of tokens may be short by before a request leaves; its reply puts it right
_LEAST_RATIO = 0.5
_OVERHEAD = 40  # tokens that a provider's own prompt may add to a text
_POLL = 0.5  # seconds: the longest that the loop sleeps
_REFUSALS, _FIRST_REFUSALS = 10, 3  # so many texts refused, and it is not for the texts; the second before any answer came


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to try: ``attempts`` at one request, ``paid`` of them with whole answers that are unusable, ``unreachable`` of them before
    any answer came. Before each goes a pause of ``first`` seconds, doubled each time up to ``most``, less a random share of up to a half.
    A server that asks for more than ``longest`` seconds is not waited for.
    """

    attempts: int = 10
    paid: int = 3
    unreachable: int = 3
    first: float = 0.5
    most: float = 60.0
    longest: float = 600.0

    def pause(self, tries: int, chance: float) -> float:
        """Seconds to wait after so many tries; ``chance`` is from 0 to 1."""
        return min(self.most, self.first * 2.0 ** (tries - 1)) * (1 - chance / 2)


@dataclass(frozen=True, slots=True)
class Arrived:
    """The vectors of one request: which ``positions`` of the items they are of, what it took, and the ticket to settle."""

    positions: Sequence[int]
    embedded: Embedded
    seconds: float
    ticket: int
    tokens: int


@dataclass(slots=True)
class _Request:
    """Items that go together, and what has become of them so far. ``at_most`` tokens may be billed; ``lost`` are the tickets of replies
    that may have been billed, too.
    """

    positions: list[int]
    tries: int = 0
    paid: int = 0
    ready: float = 0.0
    ticket: int = 0
    at_most: int = 0
    lost: list[int] = field(default_factory=list)
    load: Load = field(default_factory=lambda: Load(0.0, 0.0))


class Remote:
    """A model behind an API, as an Embedder: what is known of its account stays here from one batch to the next."""

    def __init__(self, endpoint: Endpoint, patience: Patience | None = None, pace: Pace | None = None) -> None:
        self.endpoint, self.model, self.batch = endpoint, endpoint.model, endpoint.limits.items
        self.patience = patience or Patience()
        limits = endpoint.limits
        self.pace = pace or _shared_pace(self.model, limits)
        self.in_flight = 1.0  # the first request goes alone: it shows whether the key works, what is allowed, how tokens are counted
        self.answered = False
        self.ratio = 1.0 if tokens.of(self.model).exact else _TIGHT  # tokens that are counted there for each that is counted here
        self._connected = False

    def prepare(self) -> None:
        """Find the key and make the client; raises ModelError for what is missing. No request is made."""
        if not self._connected:
            self.endpoint.connect()
            self._connected = True

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed items in their order; raises ModelError. Nothing is stored: the runner uses :meth:`dispatch`."""
        self.prepare()
        rows, counts = np.empty((len(items), self.model.dim), dtype=np.float32), np.zeros(len(items), dtype=np.int64)
        for arrived in chain.from_iterable(self.dispatch(items, role)):
            rows[list(arrived.positions)], counts[list(arrived.positions)] = arrived.embedded.vectors, arrived.embedded.tokens
        return Embedded(rows, counts)

    def dispatch(
        self,
        items: Sequence[Item],
        role: Role,
        *,
        names: Sequence[str] = (),
        purse: Purse | None = None,
        wanted: Callable[[list[int]], list[int]] = lambda positions: positions,
    ) -> Dispatch:
        """Send items off. ``names`` are for errors; ``wanted`` says, before a request leaves, which of them still lack a vector.

        Raises ModelError for images where the model reads none.
        """
        if not self.endpoint.limits.images:
            plain_text(items)
        return Dispatch(self, items, role, names or [f"number {at + 1}" for at in range(len(items))], purse or Free(), wanted)

    def learn(self, answer: Answer, counted: int) -> None:
        """Take from a good answer what it tells of rates, and of how tokens are counted there: ``counted`` here, 0 where we cannot tell."""
        self.pace.read(answer.headers)
        self.in_flight = float(self.endpoint.limits.in_flight) if not self.answered else self._grown()
        if answer.tokens is not None and counted:
            found = answer.tokens / counted * (1.0 if tokens.of(self.model).exact else _TIGHT)
            self.ratio = max(self.ratio if self.answered else _LEAST_RATIO, found)
        self.answered = True

    def _grown(self) -> float:
        return min(float(self.endpoint.limits.in_flight), self.in_flight + 1 / self.in_flight)

    def slow_down(self, seconds: float | None) -> None:
        """A server is busy: half as many at once, and none at all for as long as it says."""
        self.in_flight = max(1.0, self.in_flight / 2)
        if seconds:
            self.pace.hold(seconds)


def _shared_pace(model: Model, limits: Limits) -> Pace:
    """The pace of an account, which all that ask the same model there have in common, whatever dimensions they ask for."""
    given = (limits.requests_per_minute, limits.tokens_per_minute, limits.items_per_minute)
    key = (model.provider, model.name, dict(model.options).get("base_url"), given)
    return _paces.setdefault(key, Pace(*given))


_paces: dict[object, Pace] = {}


class Dispatch:
    """Items on their way: an iterator of what arrives. Raises ModelError when they cannot all be had, after all else has landed."""

    def __init__(
        self,
        remote: Remote,
        items: Sequence[Item],
        role: Role,
        names: Sequence[str],
        purse: Purse,
        wanted: Callable[[list[int]], list[int]],
    ) -> None:
        self._remote, self._role, self._names, self._purse, self._wanted = remote, role, names, purse, wanted
        self._model: Model = remote.model
        self._items, self._counts = fitted(self._model, items, role, remote.endpoint.limits.item_tokens)
        self._next = 0  # of the items, the first that was not sent yet
        self._again: list[_Request] = []
        self._flying: dict[int, _Request] = {}
        self._crew = Crew(remote.endpoint, role)
        if not remote.pace.used:  # what an earlier process sent counts for this minute too
            for request in purse.recent(WINDOW):
                remote.pace.remember(*request)
        self._chance = random.Random()  # noqa: S311 - spreads retries of many clients, so it must not repeat
        self._error: ModelError | None = None
        self._refused: list[tuple[int, Failure]] = []
        self._landed: list[tuple[int, Answer | Exception, float]] = []
        self._handed: list[Arrived] = []

    def __iter__(self) -> Iterator[list[Arrived]]:
        """Hand over what arrives, in the order of arrival; together what arrived while the last was stored."""
        try:
            while (self._next < len(self._items) or self._again or self._flying) and not (self._error and not self._flying):
                pause = self._send()
                if self._flying or pause:
                    self._receive(pause or _POLL)
                if self._handed:
                    self._send()  # while these are stored, the next are already on their way
                    yield self._handed
                    self._handed = []
            if self._refused and not self._error:
                self._error = ModelError(self._refusals())
            if self._error:
                raise self._error
        finally:
            self._crew.dismiss()

    def landing(self, seconds: float = LANDING) -> Iterator[list[Arrived]]:
        """What was handed over when the loop was broken off, then what still arrives within so many seconds. Nothing more is sent."""
        self._error = self._error or ModelError("stopped")
        until = time.monotonic() + seconds
        while self._handed or (self._flying and time.monotonic() < until):
            if self._handed:
                yield self._handed
            self._handed = []
            self._receive(max(0.0, until - time.monotonic()))
        for request in self._flying.values():
            self._purse.settle(request.ticket, "lost", request.at_most)
        self._flying.clear()

    def _send(self) -> float:
        """Let leave what may leave now; returns seconds until more may, 0 where that depends on replies."""
        while not self._error and len(self._flying) < int(self._remote.in_flight):
            request = self._due()
            if request is None:
                return max(0.0, min((again.ready - time.monotonic() for again in self._again), default=0.0))
            if not request.positions:
                continue
            weight = self._weight(request.positions)
            if wait := self._remote.pace.wait(weight, len(request.positions)):
                self._put_back(request)
                return wait
            request.at_most = self._at_most(request.positions)
            if (ticket := self._purse.reserve(request.at_most, len(request.positions))) is None:
                unsettled = self._flying or self._handed  # what those leave of their reserves may do
                if not unsettled and len(request.positions) > 1:
                    self._put_back(*self._halves(request))  # half of it may do
                    continue
                self._put_back(request)
                if not unsettled:
                    self._error = BudgetError(self._out_of_money())
                return 0.0
            request.tries += 1
            request.ticket, request.load = ticket, self._remote.pace.leave(weight, len(request.positions))
            self._flying[id(request)] = request
            self._crew.send(id(request), [self._items[at] for at in request.positions])
        return 0.0

    def _due(self) -> _Request | None:
        """What goes next: something that is to be tried again, else as many items as fit into one request."""
        now = time.monotonic()
        if (at := next((at for at, request in enumerate(self._again) if request.ready <= now), None)) is not None:
            request = self._again.pop(at)
            request.positions = self._wanted(request.positions)
            return request
        if self._next == len(self._items) or len(self._flying) + len(self._again) >= int(self._remote.in_flight):
            return None  # what waits to be tried again keeps its place: a server that fails is not shown the whole corpus
        most_items, most_tokens = self._room()
        start, self._next = (
            self._next,
            self._next + fitting(self._counts[self._next : self._next + most_items] * self._remote.ratio, most_tokens),
        )
        return _Request(self._wanted(list(range(start, self._next))))

    def _room(self) -> tuple[int, float]:
        """The most items and tokens that a request should have."""
        a_minute = [self._remote.pace.meters[what].limit for what in ("requests", "tokens", "items")]
        return room(self._remote.endpoint.limits, *a_minute, first=not self._remote.answered)

    def _put_back(self, *requests: _Request) -> None:
        self._again[:0] = requests

    def _halves(self, request: _Request) -> list[_Request]:
        half = len(request.positions) // 2
        parts = [part for part in (request.positions[:half], request.positions[half:]) if part]
        return [replace(request, positions=part, ready=0.0, lost=[]) for part in parts]

    def _weight(self, positions: Sequence[int]) -> float:
        """Tokens that the server is expected to count."""
        return float(self._counts[list(positions)].sum()) * self._remote.ratio

    def _at_most(self, positions: Sequence[int]) -> int:
        """Tokens that the server can count at most: by an exact tokenizer, else one a byte; nowhere more than the model reads."""
        if tokens.of(self._model).exact:
            each = self._counts[list(positions)] * max(1.0, self._remote.ratio)
        else:
            prompt = self._model.prompt(self._role)
            each = np.array([len((prompt + self._items[at].full).encode("utf-8", "surrogatepass")) for at in positions], dtype=np.float64)
            if self._model.max_tokens:
                each = np.minimum(each, self._model.max_tokens)
        return int(np.ceil(each + _OVERHEAD).sum())

    def _receive(self, seconds: float) -> None:
        """Wait for a reply, no longer than ``seconds``, and make of all that are there what they are worth.

        A reply goes only when it was handed over or dealt with, so that a Ctrl-C while it is read leaves it for :meth:`landing`.
        """
        for reply in self._crew.receive(0.0 if self._landed else min(seconds, _POLL)):
            self._landed.append(reply)
        while self._landed:
            number, outcome, took = self._landed[0]
            if (request := self._flying.get(number)) and (arrived := self._open(request, outcome, took)):
                self._handed.append(arrived)
            self._flying.pop(number, None)
            del self._landed[0]

    def _open(self, request: _Request, outcome: Answer | Exception, took: float) -> Arrived | None:
        try:
            if isinstance(outcome, Exception):
                raise outcome if isinstance(outcome, Failure | ModelError) else self._remote.endpoint.explain(outcome)
            return self._opened(request, outcome, took)
        except Failure as failure:
            self._handle(request, failure)
        except ModelError as error:
            self._purse.settle(request.ticket, "unpaid", 0)
            self._error = self._error or error
        return None

    def _opened(self, request: _Request, answer: Answer, took: float) -> Arrived:
        """Check an answer and put it in the order of the items; raises Failure."""
        counts = self._counts[request.positions]
        if answer.tokens is not None:
            self._remote.pace.correct(request.load, answer.tokens)
            request.at_most = answer.tokens
        try:
            places = list(range(len(answer.vectors))) if answer.places is None else [int(place) for place in answer.places]
            with np.errstate(over="ignore"):  # what is too large becomes an infinity, and is refused
                matrix = vectors.check(np.array(answer.vectors, dtype=np.float32), len(request.positions), self._model.dim)
            if sorted(places) != list(range(len(request.positions))):
                raise ModelError(f"its rows are numbered {places[:5]}..., not 0 to {len(request.positions) - 1}")
        except (ModelError, ValueError, TypeError) as error:
            raise Failure("wrong", f"unusable answer: {error}") from error
        pictures = any(self._items[at].image is not None for at in request.positions)
        self._remote.learn(answer, 0 if pictures else int(counts.sum()))
        ordered = np.empty_like(matrix)
        ordered[places] = matrix
        total = int(counts.sum()) if answer.tokens is None else answer.tokens
        for ticket in request.lost:  # now it is known what those were
            self._purse.settle(ticket, "lost", total)
        return Arrived(request.positions, Embedded(ordered, share(total, counts)), took, request.ticket, total)

    def _handle(self, request: _Request, failure: Failure) -> None:
        """Decide what becomes of a request that gave nothing."""
        billed: State = "lost" if failure.kind == "lost" else "wrong" if failure.kind == "wrong" else "unpaid"
        self._purse.settle(request.ticket, billed, 0 if billed == "unpaid" else request.at_most)
        request.lost += [request.ticket] if billed == "lost" else []
        if failure.kind == "busy":
            wait = failure.retry_after or 0.0
            self._remote.slow_down(wait if wait <= self._remote.patience.longest else None)
        request.paid += failure.kind == "wrong"
        if failure.kind == "refused" and len(request.positions) > 1:
            self._put_back(*(_Request(half.positions) for half in self._halves(request)))
        elif failure.kind == "refused" and self._shorten(request.positions[0]):
            self._put_back(_Request(request.positions))
        elif failure.kind == "refused":
            self._refused.append((request.positions[0], failure))
            if len(self._refused) >= (_REFUSALS if self._remote.answered else _FIRST_REFUSALS):
                self._error = self._error or ModelError(self._refusals())
        elif reason := self._hopeless(request, failure):
            self._error = self._error or ModelError(redact(reason))
        else:
            request.ready = time.monotonic() + self._remote.patience.pause(request.tries, self._chance.random())
            self._again.append(request)

    def _shorten(self, position: int) -> bool:
        """Cut a tenth off a text that the server finds too long though it was cut; False for one that is short enough anyway."""
        most = self._remote.endpoint.limits.item_tokens
        if most is None or len(self._items[position].full.encode()) <= most:  # no tokenizer makes more tokens than there are bytes
            return False
        self._items[position] = less(self._items[position])
        self._counts[position] = tokens.count(self._model, [self._items[position]], self._role)[0]
        return True

    def _hopeless(self, request: _Request, failure: Failure) -> str:
        """Why trying again makes no sense, in one sentence with the way out; empty where it does make sense."""
        patience, first = self._remote.patience, f"{self._role} {self._names[request.positions[0]]!r}"
        if failure.kind == "fatal":
            return failure.message
        if failure.retry_after and failure.retry_after > patience.longest:
            return f"asks to wait {failure.retry_after / 60:.0f} minutes: {failure.message}; all that arrived is kept, go on then"
        if failure.kind == "unreachable" and not self._remote.answered and request.tries >= patience.unreachable:
            return f"cannot be reached: {failure.message}; is the address right, and the server up?"
        if request.paid >= patience.paid or request.tries >= patience.attempts:
            others = f" and {len(request.positions) - 1} more" if len(request.positions) > 1 else ""
            return (
                f"gave up on {first}{others} after {request.tries} attempts; the last: {failure.message}; "
                "all that arrived is kept, the same command goes on from there"
            )
        return ""

    def _refusals(self) -> str:
        """Which texts the server refuses, and why."""
        names = ", ".join(repr(self._names[position]) for position, _ in self._refused)
        fix = f"change or remove {'it' if len(self._refused) == 1 else 'them'}; all that arrived is kept"
        if not self._remote.answered:
            fix = "it has accepted nothing yet: are the model's name and options right?"
        return redact(f"refuses {self._role} {names}: {self._refused[0][1].message}; {fix}")

    def _out_of_money(self) -> str:
        left = len(self._items) - self._next + sum(len(request.positions) for request in self._again)
        what = f"{left:,} {'query' if self._role == 'query' else 'document'} texts are not embedded"
        return f"the next request could pass the budget: {self._purse.account()}; {what}; all that arrived is kept"
