"""What a cell would cost at the user's own scale, and whether it meets what the user needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import OptionError, ResultError
from harness.result import Result

DAYS = 365.25 / 12
"""Days in a month."""
GIVE_UP = 0.02
_COMMERCIAL = frozenset(
    (
        "mit",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "unlicense",
        "isc",
        "mpl-2.0",
        "api terms",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The scale that costs are worked out for, and what a cell must keep to be chosen; None asks for nothing.

    ``documents`` is how many will be searched (None: as many as the corpus has), ``queries_per_day`` how often.
    ``max_p95_ms`` bounds the 95th percentile of one query answered alone, ``max_ram_gb`` the index (1e9 bytes),
    ``max_usd_per_month`` queries at list price and memory at ``usd_per_gb_month``; embedding the documents once is no
    part of a month. ``commercial`` asks for a licence known to allow commercial use, ``local`` for a model that runs on
    one's own machine. ``give_up`` is the share of the best mean that a choice for latency, storage or money may lose.
    """

    documents: int | None = None
    queries_per_day: float = 0.0
    max_p95_ms: float | None = None
    max_ram_gb: float | None = None
    max_usd_per_month: float | None = None
    usd_per_gb_month: float = 0.0
    commercial: bool = False
    local: bool = False
    give_up: float = GIVE_UP

    def __post_init__(self) -> None:
        for name in ("documents", "max_p95_ms", "max_ram_gb", "max_usd_per_month", "queries_per_day", "usd_per_gb_month"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise OptionError(f"{name} = {value} is not a number from 0 up")
        if self.documents == 0:
            raise OptionError("documents = 0: there must be at least one")
        if not 0 <= self.give_up < 1:
            raise OptionError(f"give_up = {self.give_up} is not a share from 0 up to 1, as in 0.02")

    @classmethod
    def read(cls, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Needs:
        """The needs that were ``stored``, with what is ``wanted`` in place of theirs; raises OptionError, ResultError."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(stored.keys() - known):
            raise ResultError(
                f"{unknown[0]} is none of the needs that this bakeoff knows ({', '.join(sorted(known))}); show --forget drops all"
            )
        return cls(**{**stored, **wanted})

    def constraints(self) -> dict[str, float | bool]:
        """The constraints that were set, by name."""
        names = ("max_p95_ms", "max_ram_gb", "max_usd_per_month", "commercial", "local")
        return {name: value for name in names if (value := getattr(self, name)) is not None and value is not False}

    def limits(self) -> dict[str, str]:
        """The constraints that were set, by name, as a reader sees them: ``max_p95_ms = 50``."""
        return {name: name if value is True else f"{name} = {value:g}" for name, value in self.constraints().items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A cell's costs at the user's scale; None where something they rest on was not measured.

    Bytes and seconds grow with the number of documents; ``bytes`` are those of the index in memory, ``disk_bytes`` those of the vectors
    that a shortlist is rescored by, wherever they lie. ``p95_ms`` is one query alone: embedding as measured, search as
    measured and, for each byte more, what scanning it takes on this machine. ``embed_usd`` and ``embed_hours`` are for
    embedding all documents once, on the machine that measured; ``month_usd`` is for queries and memory.
    """

    documents: int
    bytes: float | None
    p95_ms: float | None
    embed_usd: float | None
    embed_hours: float | None
    month_usd: float | None
    disk_bytes: float = 0.0

    @property
    def p95_level(self) -> float | None:
        """``p95_ms`` in two significant digits: what differs less is noise."""
        return None if self.p95_ms is None else float(f"{self.p95_ms:.1e}")

    @property
    def all_bytes(self) -> float | None:
        """In memory and to rescore."""
        return None if self.bytes is None else self.bytes + self.disk_bytes

    @property
    def year_usd(self) -> float | None:
        """The first year: embedding once, and twelve months."""
        return None if self.embed_usd is None or self.month_usd is None else self.embed_usd + 12 * self.month_usd


def bill(result: Result, dataset: Mapping[str, Any], needs: Needs) -> Bill:
    """Work out what a cell measured on ``dataset`` (its facts) costs at the scale of ``needs``."""
    cost, measured = result.cost, int(dataset["documents"])
    documents = needs.documents or measured
    times = documents / measured
    size = None if cost.bytes is None else cost.bytes * times
    price = result.model.get("usd_per_million_tokens", 0.0)
    query_price = result.model.get("query_usd_per_million_tokens")
    embed_usd = _price(cost.document_tokens, price, times)
    query_usd = _price(cost.query_tokens, price if query_price is None else query_price, 1 / len(result.query_ids))
    memory_usd = 0.0 if not needs.usd_per_gb_month else None if size is None else size / 1e9 * needs.usd_per_gb_month
    month_usd = None if query_usd is None or memory_usd is None else query_usd * needs.queries_per_day * DAYS + memory_usd
    return Bill(
        documents=documents,
        bytes=size,
        disk_bytes=(cost.rescore_bytes or 0) * times,
        p95_ms=_p95(result, size),
        embed_usd=embed_usd,
        embed_hours=None if cost.document_seconds is None else cost.document_seconds * times / 3600,
        month_usd=month_usd,
    )


def _price(tokens: int | None, usd_per_million: float | None, times: float) -> float | None:
    """Tokens at their price; nothing where a token costs nothing, though their number may be unknown; None for an unknown price."""
    return 0.0 if usd_per_million == 0 else None if tokens is None or usd_per_million is None else tokens * usd_per_million / 1e6 * times


def _p95(result: Result, size: float | None) -> float | None:
    cost = result.cost
    if cost.alone_embed_p95 is None or cost.alone_search_p95 is None or cost.bytes is None or size is None:
        return None
    if size == cost.bytes:
        return 1000 * (cost.alone_embed_p95 + cost.alone_search_p95)
    if cost.scan_seconds_per_gb is None:
        return None
    return 1000 * (cost.alone_embed_p95 + max(0.0, cost.alone_search_p95 + (size - cost.bytes) / 1e9 * cost.scan_seconds_per_gb))


def milliseconds(value: float) -> str:
    """A latency in three digits, from 100 ms up in whole ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def broken(result: Result, at_scale: Bill, needs: Needs) -> dict[str, str]:
    """The constraints that a cell does not keep, or cannot be shown to keep: name -> why. Empty means eligible."""
    found: dict[str, str] = {}
    limits = (
        ("max_p95_ms", at_scale.p95_ms, "p95 {milliseconds} ms", "latency", 1.0),
        ("max_ram_gb", at_scale.bytes, "index {value:.3g} GB", "size", 1e9),
        ("max_usd_per_month", at_scale.month_usd, "{value:.2f} USD a month", "price", 1.0),
    )
    for name, value, text, unknown, unit in limits:
        limit = getattr(needs, name)
        if limit is None:
            continue
        if value is None:
            found[name] = f"{unknown} was not measured"
        elif value / unit > limit:
            found[name] = text.format(value=value / unit, milliseconds=milliseconds(value))
    licence = str(result.model.get("licence", ""))
    if needs.commercial and licence.lower() not in _COMMERCIAL:
        found["commercial"] = f"licence {licence} is not known to allow commercial use" if licence else "licence unknown"
    if needs.local and not result.model.get("local", True):
        found["local"] = "runs at a provider"
    return found


def on_front(means: Sequence[float], bills: Sequence[Bill]) -> list[bool]:
    """Which cells are on the Pareto front of quality, latency, memory and money: no other is as good in all and better in one.

    What was not measured counts as the worst; latencies that agree in two significant digits count as equal.
    """
    return front([[-mean, bill.p95_level, bill.all_bytes, bill.year_usd] for mean, bill in zip(means, bills, strict=True)])


def front(costs: Sequence[Sequence[float | None]]) -> list[bool]:
    """Which of some points, each with its costs, no other beats: is nowhere worse than and somewhere better. None is the worst."""
    points = np.array([[np.inf if cost is None else cost for cost in row] for row in costs])
    as_good = (points[:, None, :] <= points[None, :, :]).all(axis=2)  # (points, points): the first is nowhere worse than the second
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    beaten: NDArray[np.bool_] = np.asarray((as_good & better).any(axis=0))
    return [not bool(is_beaten) for is_beaten in beaten]
