"""Where requests are paid from: what harness/dispatch.py asks, and harness/ledger.py implements."""

from __future__ import annotations

from typing import Literal, Protocol

State = Literal["answered", "lost", "wrong", "unpaid"]
"""What became of a request. answered: its vectors came. lost: they never came, but may have been paid for. wrong: they were unusable."""


class Purse(Protocol):
    """Allows requests, and hears what became of them."""

    def reserve(self, most_tokens: int, items: int) -> int | None:
        """Put money for so many tokens aside before a request leaves; None where the budget has no room for it."""

    def settle(self, ticket: int, state: State, tokens: int) -> None:
        """Say what became of the request, and how many tokens it was."""

    def account(self) -> str:
        """How much was spent of how much, in words."""

    def recent(self, seconds: float) -> list[tuple[float, int, int]]:
        """Requests to the model within so many seconds, oldest first: how long ago, tokens, items."""


class Free:
    """No budget, nothing written down."""

    def reserve(self, most_tokens: int, items: int) -> int | None:  # noqa: ARG002
        """There is always room."""
        return 0

    def settle(self, ticket: int, state: State, tokens: int) -> None:
        """Nothing to settle."""

    def account(self) -> str:
        """Nothing to tell."""
        return ""

    def recent(self, seconds: float) -> list[tuple[float, int, int]]:  # noqa: ARG002
        """Nothing is known."""
        return []
