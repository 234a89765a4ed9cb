"""How texts are made to fit: cut to what an API accepts, and packed into requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import tokens
from harness.embedder import Item, Model, Role
from harness.remote import Limits

_HALVES = re.compile("[\ud800-\udfff]")
_PARTS = 50  # a request has at most so small a part of what a minute allows: what is left over at the minute's end is lost


def room(limits: Limits, requests: float, all_tokens: float, all_items: float, *, first: bool = False) -> tuple[int, float]:
    """The most items and the most tokens of one request, where so many requests, tokens and items may leave in a minute (inf: any number).

    Requests are as large as few of them a minute have to be. The ``first`` to a model has few tokens: nobody knows yet how the server
    counts them, nor what it allows where only its answers say so.
    """
    parts = max(1.0, min(requests, _PARTS))
    items, most = max(1.0, all_items / parts), min(limits.tokens or np.inf, all_tokens / parts)
    return int(min(limits.items, items)), min(limits.tokens or np.inf, all_tokens) / _PARTS if first else most


def fitting(weights: NDArray[Any], most: float) -> int:
    """How many of the first items, ``(n,)`` tokens each, one request of at most so many tokens takes; at least one."""
    return max(1, int(np.searchsorted(np.cumsum(weights), most, side="right")))


def share(total: int, counts: tokens.Counts) -> tokens.Counts:
    """Divide ``total`` tokens among items in proportion to ``counts`` ``(n,)``, in whole tokens that add up (largest remainders)."""
    weights = counts if counts.any() else np.ones(len(counts), dtype=np.int64)
    exact = total * weights / weights.sum()
    whole: tokens.Counts = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]] += 1
    return whole


def fitted(model: Model, items: Sequence[Item], role: Role, most: int | None) -> tuple[list[Item], tokens.Counts]:
    """Items as they are sent, and the tokens of each that the model reads.

    Where the API refuses a text of more than ``most`` tokens, it is cut by the estimate and then by tenths until it fits: the same cut
    whether the model's tokenizer is at hand or the server's refusals have to tell.
    """
    sent = [_sendable(item) if most is None else _cut(_sendable(item), most) for item in items]
    counts = tokens.count(model, sent, role)
    while most is not None and tokens.of(model).exact and (long := [at for at in np.flatnonzero(counts > most) if sent[at].full]):
        for at in long:
            sent[at] = less(sent[at])
        counts[long] = tokens.count(model, [sent[at] for at in long], role)
    return sent, np.minimum(counts, model.max_tokens) if model.max_tokens else counts


def _sendable(item: Item) -> Item:
    """Halves of a character, which no JSON in UTF-8 can hold, become question marks in a diamond."""
    if not _HALVES.search(item.full):
        return item
    return Item(_HALVES.sub("\ufffd", item.text), _HALVES.sub("\ufffd", item.title), item.image)


def _cut(item: Item, most: int) -> Item:
    kept = tokens.cut(item.full, most)
    return item if len(kept) == len(item.full) else Item(kept, image=item.image)


def less(item: Item) -> Item:
    """The item with a text shorter by a tenth."""
    return Item(item.full[: len(item.full) * 9 // 10], image=item.image)
