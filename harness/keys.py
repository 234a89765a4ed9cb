"""API keys: from the environment or a ``.env`` file, and never in anything that is written or printed."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from harness.errors import ModelError

_SHORTEST = 6  # characters: what is shorter is no key, and would be cut out of ordinary words
_found: dict[str, str] = {}  # value -> the name it was found under


def find(*names: str, secret: bool = True) -> str | None:
    """The value of the first of these variables that is set, in the environment or else in ``.env`` in the current folder.

    Raises ModelError for a ``secret`` that no header can carry: clients would show it in their errors, written so that
    :func:`redact` does not know it again.
    """
    for source in (os.environ, _dotenv(Path.cwd() / ".env")):
        for name in names:
            if value := (source.get(name) or "").strip():
                if secret:
                    _check(name, value)
                    _found[value] = name
                return value
    return None


def source(name: str) -> str:
    """Where a variable is set, "the environment" or ".env"; an empty string for nowhere. Its value stays where it is."""
    places = (("the environment", os.environ), (".env", _dotenv(Path.cwd() / ".env")))
    return next((place for place, variables in places if (variables.get(name) or "").strip()), "")


def _check(name: str, value: str) -> None:
    if wrong := [at for at, character in enumerate(value, start=1) if not "!" <= character <= "~"]:
        raise ModelError(f"what {name} holds cannot be a key: character {wrong[0]} of {len(value)} is a blank, a line break or no ASCII")


@cache
def _dotenv(path: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values

    return dict(dotenv_values(path)) if path.is_file() else {}


def redact(text: str) -> str:
    """The text with each key that was ever found replaced by its name in brackets."""
    for value, name in sorted(_found.items(), key=lambda found: -len(found[0])):  # one key may be the beginning of another
        if len(value) >= _SHORTEST:
            text = text.replace(value, f"[{name}]")
    return text
