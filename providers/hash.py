"""``hash/<dim>``: a deterministic bag-of-words embedder without weights, for tests and first tries.

Every word becomes a vector of +1 and -1 drawn from its SHAKE-256 hash; a text is the sum over its words, plus a
trace of the whole text so that no two texts coincide by their words alone and no sum is zero.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded, Item, Model, Role, Settings, texts
from harness.errors import OptionError

SETTINGS = ("revision", "query_prompt", "document_prompt")
_TRACE = 0.01


def load(name: str, settings: Settings) -> HashEmbedder:
    """``name`` is the dimension, 8 to 4096."""
    if not (name.isascii() and name.isdigit() and 8 <= int(name) <= 4096):
        raise OptionError(f"dim {name!r} of hash/<dim> is not a whole number between 8 and 4096, as in hash/256")
    return HashEmbedder(int(name), settings)


class HashEmbedder:
    """Sums of hashed word vectors; every prefix of the dimensions works equally well for its length."""

    batch = 256

    def __init__(self, dim: int, settings: Settings) -> None:
        self.model = Model(
            provider="hash",
            name=str(dim),
            revision=settings.revision or "1",
            dim=dim,
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
            **settings.facts(),
        )

    def prepare(self) -> None:
        """Nothing to load."""

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts; raises ModelError for an item that is only an image."""
        prompted = texts(items, self.model.prompt(role))
        words = [re.findall(r"\w+", text.lower()) for text in prompted]
        vectors = np.array([self._text(text, found) for text, found in zip(prompted, words, strict=True)])
        return Embedded(vectors.astype(np.float32), np.array([len(found) for found in words], dtype=np.int64))

    def _text(self, text: str, words: list[str]) -> NDArray[np.float64]:
        drawn = [signs(word, self.model.dim) for word in words] + [_TRACE * signs(text, self.model.dim)]
        return np.asarray(np.sum(drawn, axis=0))


@lru_cache(maxsize=65_536)
def signs(text: str, dim: int) -> NDArray[np.float64]:
    """A direction drawn from the SHAKE-256 hash of a text, ``(dim,)`` of +1 and -1."""
    noise = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest((dim + 7) // 8)
    bits = np.unpackbits(np.frombuffer(noise, dtype=np.uint8))[:dim].astype(np.float64)
    return bits * 2 - 1
