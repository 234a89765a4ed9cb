"""What an evaluation will take, worked out before anything is sent: tokens, money, time, truncation, disk. No request is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import store, tokens
from harness.batches import fitted, fitting, room
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.embedder import Embedder, Item, Model, Role
from harness.filling import alone, items
from harness.ledger import Ledger
from harness.pair import of
from harness.remote import Limits
from harness.store import VectorStore
from harness.tokens import Counts

ROLES: tuple[Role, ...] = ("document", "query")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is left to embed of one dataset with one model.

    ``texts`` and ``tokens`` are those that are not in the store yet, ``cached`` the texts that are. ``exact`` says whether the model's own
    tokenizer counted, else ``why`` not. ``usd`` is their price, None where it is unknown; ``requests`` how many there will be if all goes
    well, and ``minutes`` what those take at the limits a minute, None without limits. ``cut_documents`` and ``cut_tokens`` are the shares
    of all documents and of their tokens that the model will not read; None where it is not known how much it reads.
    ``bytes`` is what the new vectors take on disk.
    """

    spec: str
    documents: int
    queries: int
    texts: int
    cached: int
    tokens: int
    exact: bool
    why: str
    local: bool
    usd: float | None
    requests: int
    minutes: float | None
    cut_documents: float | None
    cut_tokens: float | None
    bytes: int

    def sentence(self) -> str:
        """All of it that matters before a run, in one line."""
        about = "" if self.exact else "about "
        cost = "price unknown" if self.usd is None else f"{about}{self.usd:.4f} USD" if self.usd else "free of charge"
        time = "" if self.minutes is None else f", at least {self.minutes:.1f} min at its limits a minute"
        return (
            f"{self.spec}: {self.texts:,} texts to embed, {self.cached:,} cached; {about}{self.tokens:,} tokens, "
            f"{self.requests:,} requests, {cost}{time}"
        )


def forecast(vector_store: VectorStore, spec: str, embedder: Embedder, dataset: Dataset) -> Forecast:
    """Work out what one model will take; of a pair, both."""
    parts = [_part(vector_store, of(embedder, role), dataset, role) for role in ROLES]
    lengths, model = tokens.count(of(embedder, "document").model, items(dataset, "document"), "document"), embedder.model
    most = model.max_tokens
    over = np.maximum(lengths - (most or 0), 0)
    prices = [part.usd for part in parts]
    times = [part.minutes for part in parts]
    counters = [tokens.of(of(embedder, role).model) for role in ROLES]
    return Forecast(
        spec=spec,
        documents=len(dataset.documents),
        queries=len(dataset.queries),
        texts=sum(part.texts for part in parts),
        cached=sum(part.cached for part in parts),
        tokens=sum(part.tokens for part in parts),
        exact=all(counter.exact for counter in counters),
        why=next((counter.why for counter in counters if not counter.exact), ""),
        local=model.local,
        usd=None if None in prices else float(sum(price or 0.0 for price in prices)),
        requests=sum(part.requests for part in parts),
        minutes=None if None in times else float(sum(time or 0.0 for time in times)),
        cut_documents=float((over > 0).mean()) if most else None,
        cut_tokens=float(over.sum() / max(int(lengths.sum()), 1)) if most else None,
        bytes=sum(part.texts for part in parts) * model.dim * 4,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The same for one role."""

    texts: int
    cached: int
    tokens: int
    requests: int
    usd: float | None
    minutes: float | None


def _part(vector_store: VectorStore, embedder: Embedder, dataset: Dataset, role: Role) -> _Part:
    model, wanted = embedder.model, items(dataset, role)
    keys = store.keys(model, role, wanted)
    missing = vector_store.missing(keys)
    missing.sort(key=lambda position: len(wanted[position].full), reverse=True)  # as they will be sent
    counts = billable(embedder, [wanted[position] for position in missing], role)
    total = int(counts.sum())
    limits = embedder.endpoint.limits if isinstance(embedder, Remote) else None
    requests = _requests(embedder, counts, role) if isinstance(embedder, Remote) else 0
    price = model.usd_per_million_tokens
    return _Part(
        texts=len(missing),
        cached=len(set(keys)) - len(missing),
        tokens=total,
        requests=requests,
        usd=0.0 if not missing else None if price is None or _unpriced(model, [wanted[at] for at in missing]) else total * price / 1e6,
        minutes=_minutes(limits, requests, total, len(missing)) if limits else None,
    )


def _unpriced(model: Model, wanted: Sequence[Item]) -> bool:
    """Whether there are images among what a model that costs money is to embed: the catalog's prices are those of text."""
    return model.usd_per_million_tokens != 0 and any(item.image is not None for item in wanted)


def billable(embedder: Embedder, wanted: list[Item], role: Role) -> Counts:
    """Tokens of each item that the model reads, and that are paid for."""
    most = embedder.endpoint.limits.item_tokens if isinstance(embedder, Remote) else None
    return fitted(embedder.model, wanted, role, most)[1]


def _requests(remote: Remote, counts: Counts, role: Role) -> int:
    """How many requests items of so many tokens ``(n,)`` will be, in this order: a sample of the queries goes one by one."""
    limits = remote.endpoint.limits
    a_minute = [bound or np.inf for bound in (limits.requests_per_minute, limits.tokens_per_minute, limits.items_per_minute)]
    single = alone(list(range(len(counts)))) if role == "query" else []
    weights = np.delete(counts, single) * remote.ratio
    requests, start = len(single), 0
    while start < len(weights):
        most_items, most_tokens = room(limits, *a_minute, first=not remote.answered and not requests)
        start += fitting(weights[start : start + most_items], most_tokens)
        requests += 1
    return requests


def _minutes(limits: Limits, requests: int, total: int, texts: int) -> float | None:
    bounds = ((requests, limits.requests_per_minute), (total, limits.tokens_per_minute), (texts, limits.items_per_minute))
    known = [amount / bound for amount, bound in bounds if bound]
    return max(known) if known else None


def list_price(model: Model, document_tokens: int | None, query_tokens: int | None) -> float | None:
    """USD for so many tokens; 0 where they cost nothing, None where tokens or price are not known."""
    of_queries = model.query_usd_per_million_tokens
    prices = (model.usd_per_million_tokens, model.usd_per_million_tokens if of_queries is None else of_queries)
    if all(price == 0 for price in prices):
        return 0.0 if document_tokens is not None and query_tokens is not None else None
    if None in prices or document_tokens is None or query_tokens is None:
        return None
    return (document_tokens * (prices[0] or 0.0) + query_tokens * (prices[1] or 0.0)) / 1e6


def expected(ledger: Ledger, embedder: Embedder, dataset: Dataset) -> dict[str, Any]:
    """The fields of harness.result.Cost that only models behind an API have: what was expected, and what requests it took."""
    remotes = {role: one for role in ROLES if isinstance(one := of(embedder, role), Remote)}
    if not remotes:
        return {}
    totals = {role: int(billable(one, items(dataset, role), role).sum()) for role, one in remotes.items()}
    images = any(_unpriced(one.model, items(dataset, role)) for role, one in remotes.items())
    accounts = [ledger.account(model) for model in {one.model.digest(): one.model for one in remotes.values()}.values()]
    return {
        "estimated_tokens": sum(totals.values()),
        "estimated_usd": None if images else list_price(embedder.model, totals.get("document", 0), totals.get("query", 0)),
        **({"usd": None} if images else {}),
        "requests": sum(account.requests for account in accounts),
        "lost_requests": sum(account.lost for account in accounts),
        "lost_usd": sum(account.lost_usd for account in accounts),
    }
