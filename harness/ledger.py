"""What requests to APIs cost: written down before each leaves, settled together with its vectors, kept beside them.

A request that a killed process had in flight stays written down at what it could cost at most: it may have been paid for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from harness.embedder import Model
from harness.errors import BudgetError
from harness.purse import State
from harness.store import VectorStore

_SENT = "sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All requests that were ever made for one dataset to one model.

    ``requests`` counts them. ``lost`` are those whose reply never came whole, or was unusable, and that were made again;
    they may have been paid for. ``lost_usd`` is their price by the tokens they were expected to have.
    """

    requests: int = 0
    lost: int = 0
    lost_usd: float = 0.0


class Ledger:
    """The requests of one dataset, whatever the model; ``budget`` in USD is for all of them together, earlier runs included."""

    def __init__(self, store: VectorStore, dataset: str, budget: float | None = None) -> None:
        self.store, self.dataset, self.budget = store, dataset, budget

    def spent(self) -> float:
        """USD that were, or may have been, paid for this dataset so far."""
        return float(self.store.execute("SELECT total(usd) FROM requests WHERE dataset = ?", (self.dataset,))[0][0])

    def purse(self, model: Model, *, images: bool = False) -> LedgerPurse:
        """Where the requests to one model are paid from; raises BudgetError where there is a budget but no price, as for images."""
        if self.budget is not None and model.usd_per_million_tokens is None:
            fix = "say it, as in ?usd_per_million_tokens=0.02, or leave --budget out"
            raise BudgetError(f"a budget cannot be kept: the price of {model} is not in the catalog; {fix}")
        if self.budget is not None and images and model.usd_per_million_tokens:
            raise BudgetError(f"a budget cannot be kept: the catalog has no price of images for {model}; leave --budget out")
        return LedgerPurse(self, model)

    def account(self, model: Model) -> Account:
        """What the requests to one model came to."""
        rows = self.store.execute(
            "SELECT state, count(*), total(usd) FROM requests WHERE dataset = ? AND model = ? GROUP BY state",
            (self.dataset, model.digest()),
        )
        found = {state: (number, usd) for state, number, usd in rows}
        lost = [found.get(state, (0, 0.0)) for state in ("lost", "wrong", _SENT)]
        return Account(
            requests=sum(number for number, _ in found.values()), lost=sum(n for n, _ in lost), lost_usd=sum(usd for _, usd in lost)
        )


class LedgerPurse:
    """Pays for the requests to one model; a harness.dispatch.Purse."""

    def __init__(self, ledger: Ledger, model: Model) -> None:
        self._ledger, self._digest = ledger, model.digest()
        self._price = (model.usd_per_million_tokens or 0.0) / 1e6

    def reserve(self, most_tokens: int, items: int) -> int | None:
        """Write a request down at what it can cost at most, in one transaction with the look at what is left."""
        ledger, most = self._ledger, most_tokens * self._price
        with ledger.store.transaction(durable=False):
            if ledger.budget is not None and ledger.spent() + most > ledger.budget:
                return None
            row = (ledger.dataset, self._digest, items, most_tokens, most, _SENT, time.time())
            statement = "INSERT INTO requests (dataset, model, items, tokens, usd, state, at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id"
            return int(ledger.store.execute(statement, row)[0][0])

    def settle(self, ticket: int, state: State, tokens: int) -> None:
        """Replace what it could cost by what it did."""
        statement = "UPDATE requests SET state = ?, tokens = ?, usd = ? WHERE id = ?"
        self._ledger.store.execute(statement, (state, tokens, tokens * self._price, ticket))

    def account(self) -> str:
        """Spent and allowed, in USD."""
        return f"{self._ledger.spent():.6f} of {self._ledger.budget} USD are spent on {self._ledger.dataset}"

    def recent(self, seconds: float) -> list[tuple[float, int, int]]:
        """Requests to the model within so many seconds, for whatever dataset, oldest first: how long ago, tokens, items."""
        now = time.time()
        statement = "SELECT at, tokens, items FROM requests WHERE model = ? AND at > ? ORDER BY at"
        rows = self._ledger.store.execute(statement, (self._digest, now - seconds))
        return [(now - at, tokens, items) for at, tokens, items in rows]
