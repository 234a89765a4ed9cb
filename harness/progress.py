"""How long work says where it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, int], None]
"""Called with (items done, weight done) since the last call."""


class Progress(Protocol):
    """Listens to stages of work; the command line draws bars or prints lines, a library call hears nothing."""

    def stage(self, label: str, items: int, weight: int) -> AbstractContextManager[Advance]:
        """Begin a stage of ``items`` things whose effort is in proportion to ``weight`` (characters, for texts)."""

    def note(self, text: str) -> None:
        """Say one line."""


class Silent:
    """Listens to nothing."""

    @contextmanager
    def stage(self, label: str, items: int, weight: int) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's names
        """Take every report and drop it."""
        yield lambda _items, _weight: None

    def note(self, text: str) -> None:
        """Say nothing."""
