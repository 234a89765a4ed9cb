"""``elmo/<folder>``: ELMo (Peters et al. 2018) from the official options.json and weights.hdf5; the vectors of a text's tokens, averaged.

A character CNN with highway layers gives each token a vector that knows nothing of its neighbours (layer 0); two LSTMs with
projection read the sentence forwards and backwards (layers 1 and up). ``?layer=0`` and so on takes one of them; without it they are
averaged, which is ELMo's mix before anything is trained on top. A text is read sentence by sentence, each from a state of zeros: the
official code carries the state over from one batch to the next, so that a vector depends on what was read before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded, Item, Model, Role, Settings, TokenVectors, texts
from harness.errors import ModelError, OptionError
from providers import _bilm
from providers._files import content_hash, given

SETTINGS = ("query_prompt", "document_prompt", "layer", "device")
PACKAGE = "h5py"
TOKENS_A_BATCH = 1024  # of padded sentences: a direction's gates are 4 x 4,096 floats a token in the official model
_TOKEN = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")


def load(name: str, settings: Settings) -> ElmoEmbedder:
    """``name`` is a folder. Raises OptionError for a layer that the model doesn't have, ModelError for files that are missing or wrong."""
    folder = given("elmo", name, "folder")
    options_file, weights = _one(folder, "options.json"), _one(folder, "weights.hdf5")
    try:
        options = msgspec.json.decode(options_file.read_bytes(), type=_bilm.Options)
    except msgspec.DecodeError as error:
        raise ModelError(f"{options_file}: {error}") from error
    if settings.layer is not None and not 0 <= settings.layer <= options.lstm.n_layers:
        raise OptionError(f"layer {settings.layer} is not one of 0 (the characters) to {options.lstm.n_layers} (the last LSTM)")
    return ElmoEmbedder(options, (options_file, weights), name, settings)


def _one(folder: Path, ending: str) -> Path:
    """The one file that ends so: the official ones have the model's size in front."""
    found = sorted(folder.glob(f"*{ending}"))
    if len(found) != 1:
        raise ModelError(f"{folder} has {len(found)} files *{ending}; an ELMo folder has one options.json and one weights.hdf5")
    return found[0]


class ElmoEmbedder:
    """A bidirectional language model over characters; the weights are loaded by ``prepare``."""

    batch = 32

    def __init__(self, options: _bilm.Options, files: tuple[Path, Path], name: str, settings: Settings) -> None:
        self._options, self._weights, self._layer, self._device = options, files[1], settings.layer, settings.device
        self._bilm: Any = None
        self.model = Model(
            provider="elmo",
            name=name,
            revision=content_hash(*files),
            dim=2 * options.lstm.projection_dim,
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
            pooling="mean",
            options=(("layer", "mean of all" if settings.layer is None else str(settings.layer)),),
            **settings.facts(),
        )

    def prepare(self) -> None:
        """Read the weights; raises ModelError where they are not what options.json says."""
        if self._bilm is None:
            self._bilm = _bilm.BiLM(self._options, _bilm.read(self._weights, self._options), self._device)
        self.embed([Item("warms up, so that the first batch is timed like the others")], "query")

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts of any length; ``tokens`` counts words and marks."""
        sentences = [self._sentences(text) for text in texts(items, self.model.prompt(role))]
        means = self._means([sentence for text in sentences for sentence in text])
        vectors, tokens, start = np.empty((len(items), self.model.dim)), np.empty(len(items), dtype=np.int64), 0
        for row, text in enumerate(sentences):
            lengths = np.array([len(sentence) for sentence in text])
            vectors[row] = np.average(means[start : start + len(text)], axis=0, weights=lengths)  # so that every token counts alike
            tokens[row], start = lengths.sum(), start + len(text)
        return Embedded(vectors.astype(np.float32), tokens)

    def layers(self) -> tuple[str, ...]:
        """The characters' layer, which knows no neighbours, and the LSTMs."""
        return ("input", *(str(at) for at in range(1, self._options.lstm.n_layers + 1)))

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Every layer's states of the words and marks of each text, whichever layer the text's own vector is made of."""
        spans = [_spans(text) for text in texts]
        sentences = [[text[start:end] for start, end in one] for text, found in zip(texts, spans, strict=True) for one in found]
        states: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(sentences)
        for batch in _batches(sentences):
            for at, one in zip(batch, self._bilm.states([sentences[at] for at in batch]), strict=True):
                states[at] = one
        following, found = iter(states), []
        for one in spans:
            offsets = np.array([span for sentence in one for span in sentence], dtype=np.int64).reshape(-1, 2)
            layers = [next(following) for _ in one] or [np.empty((len(self.layers()), 0, self.model.dim), dtype=np.float32)]
            found.append(TokenVectors(offsets, np.concatenate(layers, axis=1)))
        return found

    @staticmethod
    def _sentences(text: str) -> list[list[str]]:
        return [[text[start:end] for start, end in sentence] for sentence in _spans(text)]

    def _means(self, sentences: list[list[str]]) -> NDArray[np.float64]:
        """The mean vector of each sentence's tokens, ``(sentences, dim)``."""
        means = np.empty((len(sentences), self.model.dim))
        for batch in _batches(sentences):
            means[batch] = self._bilm.means([sentences[at] for at in batch], self._layer)
        return means


def _spans(text: str) -> list[list[tuple[int, int]]]:
    """Each sentence's tokens, by the characters that they begin at and end before."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [tokens for start, end in pairwise(ends) if (tokens := [match.span() for match in _TOKEN.finditer(text, start, end)])]


def _batches(sentences: list[list[str]]) -> Iterator[list[int]]:
    """Sentences of like length together, as many as have TOKENS_A_BATCH tokens with their padding."""
    order = sorted(range(len(sentences)), key=lambda at: len(sentences[at]))
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(sentences[order[end]]) <= TOKENS_A_BATCH:
            end += 1
        yield order[start:end]
        start = end
