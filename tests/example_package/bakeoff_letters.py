"""``letters/<dim>``: counts letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.embedder import Embedded, Item, Model, Role, Settings, texts
from harness.errors import OptionError

SETTINGS = ("query_prompt", "document_prompt")  # options it takes behind the name, of harness.embedder.Settings
KEYS = ()  # environment variables of which one must hold a key, as ("LETTERS_API_KEY",)
PACKAGE = ""  # what must be importable before a model can run, as "letters_sdk"


def load(name: str, settings: Settings) -> Letters:
    """``name`` is the dimension; raises OptionError for another word."""
    if not name.isdecimal() or not 1 <= int(name) <= 26:
        raise OptionError(f"dim {name!r} of letters/<dim> is not a whole number between 1 and 26, as in letters/26")
    return Letters(int(name), settings)


class Letters:
    """Letter counts, one letter a dimension."""

    batch = 64  # items handed over first; the runner grows it until a batch takes about two seconds

    def __init__(self, dim: int, settings: Settings) -> None:
        # everything that changes a vector belongs into Model, as it is the key under which vectors are stored:
        # raise `revision` when a new version of this package gives other vectors
        self.model = Model(
            provider="letters",  # the entry point's name
            name=str(dim),
            revision="1",
            dim=dim,
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
            **settings.facts(),
        )

    def prepare(self) -> None:
        """Load weights here: it is not called when every vector is in the store already."""

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed items in their order; ``role`` is "document" or "query"."""
        found = [text.lower() for text in texts(items, self.model.prompt(role))]
        counts = [[1.0 + text.count(chr(97 + at)) for at in range(self.model.dim)] for text in found]
        return Embedded(np.array(counts, dtype=np.float32), np.array([len(text.split()) for text in found], dtype=np.int64))
