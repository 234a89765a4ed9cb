"""``static/<file>``: word vectors in GloVe's, word2vec's or fastText's formats; a text is the mean of its words' vectors.

GloVe's text has no first line of its own; word2vec's text and fastText's .vec begin with the number of words and dimensions;
word2vec's .bin has the same line, then float32. Each may be gzipped. Words are looked up as they are written, else in lower case,
else in their parts at hyphens and apostrophes; Chinese, Japanese and Korean are cut into the longest words that the file has. What
it doesn't have is left out. A text without any known word gets a direction drawn from its own hash: of it nothing is known, so it is
near to no other. ``?weighting=sif`` weighs a word with a / (a + p), p its frequency (Arora, Liang and Ma 2017), for which its rank in
the file stands (Zipf); the paper's second step, removing the corpus' common direction, would make vectors depend on their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import regex
from numpy.typing import NDArray

from harness.embedder import Embedded, Item, Model, Role, Settings, TokenVectors, texts
from harness.errors import OptionError
from providers import _words
from providers._files import content_hash, given
from providers.hash import signs

SETTINGS = ("query_prompt", "document_prompt", "weighting")
SIF_A = 1e-3
"""The paper's a; results hold from 1e-4 to 1e-2 (its section 4.1.1)."""
_CJK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_LONGEST = 8  # characters of a word of those
_WORD = regex.compile(r"[\p{L}\p{N}\p{M}_]+(?:['’&./-][\p{L}\p{N}\p{M}_]+)*")
_JOINT = regex.compile(r"['’&./-]")


def load(name: str, settings: Settings) -> StaticEmbedder:
    """``name`` is a file. Raises OptionError for another weighting than sif, ModelError for a file that is none of the formats."""
    if settings.weighting not in (None, "sif"):
        raise OptionError(f"weighting {settings.weighting!r} is not known; there is sif, and without the option all words count alike")
    return StaticEmbedder(_words.look(given("static", name, "file")), name, settings)


class StaticEmbedder:
    """Means of word vectors; the file is read once, by ``prepare``, and stays in memory as float32."""

    batch = 256

    def __init__(self, layout: _words.Layout, name: str, settings: Settings) -> None:
        self._layout, self._sif = layout, settings.weighting == "sif"
        self.model = Model(
            provider="static",
            name=name,
            revision=content_hash(layout.path),
            dim=layout.dim,
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
            pooling="mean",
            options=(("weighting", f"sif, a {SIF_A:g}"),) if self._sif else (),
            **settings.facts(),
        )
        self._words: dict[str, int] = {}
        self._table: NDArray[np.float32] = np.empty((0, layout.dim), dtype=np.float32)
        self._weights: NDArray[np.float64] = np.empty(0)

    def prepare(self) -> None:
        """Read the whole file; raises ModelError with the line where it is wrong, and with its size where it is more than the memory."""
        if not self._words:
            self._words, self._table = _words.read(self._layout)
            self._weights = sif(len(self._words)) if self._sif else np.ones(len(self._words))

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts of any length; ``tokens`` counts the words that are known."""
        prompted = texts(items, self.model.prompt(role))
        found = [self._known(text) for text in prompted]
        vectors = np.array([self._mean(rows, text) for rows, text in zip(found, prompted, strict=True)])
        return Embedded(vectors.astype(np.float32), np.array([len(rows) for rows in found], dtype=np.int64))

    def _mean(self, rows: list[int], text: str) -> NDArray[np.float64]:
        weights = self._weights[rows]  # (words,)
        mean = weights @ self._table[rows] / max(1, len(rows))  # (words,) @ (words, dim); the paper divides by words, not by weights
        return np.asarray(mean if mean.any() else signs(text, self.model.dim))

    def layers(self) -> tuple[str, ...]:
        """One: a word has the same vector wherever it stands."""
        return ("static",)

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The weighted vectors of the known words that each text is the mean of."""
        found = []
        for text in texts:
            places = list(self._places(text))
            rows = [row for row, _, _ in places]
            vectors = self._table[rows] * self._weights[rows, None]  # (words, dim)
            offsets = np.array([(start, end) for _, start, end in places], dtype=np.int64).reshape(-1, 2)
            found.append(TokenVectors(offsets, vectors.astype(np.float32)[None]))
        return found

    def _known(self, text: str) -> list[int]:
        """Rows of the words of a text, in its order."""
        rows: list[int] = []
        for word in _WORD.findall(text):
            if (row := self._words.get(word)) is not None:  # the short way, which most words take
                rows.append(row)
            else:
                rows += [row for row, _, _ in self._rows(word, 0)]
        return rows

    def _places(self, text: str) -> Iterator[tuple[int, int, int]]:
        """The row of each known word, and the characters that it begins at and ends before."""
        for match in _WORD.finditer(text):
            yield from self._rows(match[0], match.start())

    def _rows(self, word: str, start: int) -> Iterator[tuple[int, int, int]]:
        for form in (word, word.lower(), word.lower().replace("’", "'")):
            if form in self._words:
                yield self._words[form], start, start + len(word)
                return
        parts = _JOINT.split(word)
        if len(parts) > 1:
            for part in parts:
                yield from self._rows(part, start)
                start += len(part) + 1
        elif _CJK.search(word):
            yield from self._longest(word, start)

    def _longest(self, run: str, before: int) -> Iterator[tuple[int, int, int]]:
        """Cut a run without blanks from its left into the longest words there are."""
        start = 0
        while start < len(run):
            pieces = (run[start:end] for end in range(min(len(run), start + _LONGEST), start, -1))
            piece = next((piece for piece in pieces if piece in self._words), None)
            if piece is not None:
                yield self._words[piece], before + start, before + start + len(piece)
            start += len(piece or "x")


def sif(words: int) -> NDArray[np.float64]:
    """Weights a / (a + p) of words in falling order of frequency, ``(words,)``; p(rank) is (1 / rank) / H, Zipf's law."""
    rarity = 1.0 / np.arange(1, words + 1)
    return np.asarray(SIF_A / (SIF_A + rarity / rarity.sum()))
