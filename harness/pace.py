"""When the next request may leave, so that no minute holds more requests or tokens than are allowed."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.remote import number

WINDOW = 60.5
"""Seconds that we take for a minute: what leaves within them arrives within 60 only if the way there varies by half a second."""
_CREDIT = 1.0  # seconds of unused time that may be made up for at once: a stall costs nothing, and gives no burst either
_LONGEST = 60.0  # seconds that a header alone holds us: of a day's limit it may say hours, and then the server must refuse first
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(slots=True)
class Load:
    """So many units that left at a moment."""

    at: float
    units: float
    counted: bool = True


class Meter:
    """At most ``limit`` units in any window, spread evenly over it (a sliding log, behind a leaky bucket)."""

    def __init__(self, limit: float | None) -> None:
        self.given = limit is not None
        self.limit = limit or math.inf
        self._log: deque[Load] = deque()
        self._sum = 0.0
        self._next = -math.inf

    def wait(self, units: float, now: float) -> float:
        """Seconds until ``units`` more may leave; more than the limit count as the limit."""
        while self._log and self._log[0].at <= now - WINDOW:
            old = self._log.popleft()
            self._sum -= old.units
            old.counted = False
        too_many = self._sum + min(units, self.limit) - self.limit
        until = self._next
        for load in self._log if too_many > 0 else ():
            too_many -= load.units
            until = max(until, load.at + WINDOW)
            if too_many <= 0:
                break
        return max(0.0, until - now)

    def leave(self, units: float, now: float) -> Load:
        """Note that ``units`` leave now."""
        load = Load(now, 0.0)
        self._log.append(load)
        self._next = max(self._next, now - _CREDIT)
        self.correct(load, units)
        return load

    def correct(self, load: Load, units: float) -> None:
        """Note that a load weighs ``units``."""
        self._next += (units - load.units) * WINDOW / self.limit
        if load.counted:
            self._sum += units - load.units
        load.units = units


class Pace:
    """Requests, tokens and items a minute that leave for one model of one account; None: no limit is known yet."""

    def __init__(
        self,
        requests: float | None = None,
        tokens: float | None = None,
        items: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.meters = {"requests": Meter(requests), "tokens": Meter(tokens), "items": Meter(items)}
        self._held = -math.inf
        self.used = False

    def wait(self, tokens: float, items: int) -> float:
        """Seconds until a request of so many tokens and items may leave; 0 for now."""
        now = self._clock()
        units = {"requests": 1, "tokens": tokens, "items": items}
        return max(0.0, self._held - now, *(self.meters[what].wait(weight, now) for what, weight in units.items()))

    def leave(self, tokens: float, items: int) -> Load:
        """Note that a request of so many tokens and items leaves now; the load is for :meth:`correct`."""
        self.used = True
        now = self._clock()
        self.meters["requests"].leave(1, now)
        self.meters["items"].leave(items, now)
        return self.meters["tokens"].leave(tokens, now)

    def correct(self, load: Load, tokens: float) -> None:
        """Note that the reply says it was so many tokens."""
        self.meters["tokens"].correct(load, tokens)

    def remember(self, ago: float, tokens: float, items: int) -> None:
        """Note a request that left so many seconds ago, in an earlier process; oldest first, before any that leaves now."""
        then = self._clock() - ago
        for what, units in (("requests", 1), ("tokens", tokens), ("items", items)):
            self.meters[what].leave(units, then)

    def hold(self, seconds: float) -> None:
        """Let nothing leave for so long: the server said so."""
        self._held = max(self._held, self._clock() + seconds)

    def read(self, headers: Mapping[str, str]) -> None:
        """Take limits from a reply's rate headers (``x-ratelimit-limit-requests`` and its like), where none were given.

        ``-remaining-`` of 0 holds everything until ``-reset-``. Names and formats are OpenAI's, which many servers share.
        """
        for what, meter in self.meters.items():
            if not meter.given and (limit := number(headers.get(f"x-ratelimit-limit-{what}"))):
                meter.limit = limit
            if headers.get(f"x-ratelimit-remaining-{what}") == "0":
                self.hold(min(_LONGEST, duration(headers.get(f"x-ratelimit-reset-{what}", ""))))


def duration(text: str) -> float:
    """Seconds from ``1s``, ``6m0s``, ``20ms`` or a plain number; 0 for anything else."""
    parts = _PARTS.findall(text)
    if parts and "".join(value + unit for value, unit in parts) == text:
        return sum(float(value) * _SECONDS[unit] for value, unit in parts)
    return number(text) or 0.0
