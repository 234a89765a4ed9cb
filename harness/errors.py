"""The errors that a user sees, each one sentence with the value, what is allowed, and the fix.

HarnessError            anything a user can mend; the command line prints it without a traceback
├── OptionError         an option, a flag or a key of a settings file
├── DatasetError        a corpus, queries or judgements
├── ModelError          a model that cannot be loaded, or vectors that cannot be used
│   └── BudgetError     the money that was allowed is used up
├── StoreError          the vector store on disk
└── ResultError         a result or a leaderboard on disk
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HarnessError(Exception):
    """Something a user can mend."""


class OptionError(HarnessError):
    """An option has a value that cannot be used."""


class DatasetError(HarnessError):
    """A corpus, its queries or its judgements cannot be used."""


class ModelError(HarnessError):
    """A model cannot be loaded, or what it gave cannot be used."""


class BudgetError(ModelError):
    """The next request could cost more than the budget has left."""


class StoreError(HarnessError):
    """The vector store cannot be opened, read or written."""


class ResultError(HarnessError):
    """A stored result cannot be read, or does not belong here."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` - did you mean 'x'?`` for the closest known word, or an empty string."""
    close = get_close_matches(word, list(known), n=1)
    return f" - did you mean {close[0]!r}?" if close else ""
