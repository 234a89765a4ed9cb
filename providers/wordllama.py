"""``wordllama/256``: WordLlama's static Matryoshka vectors, straight from the wordllama wheel, without torch.

A text is the mean of its tokens' rows, no special tokens. The wheel's own loader asks a hub for its tokenizer even
though it carries one, so the two files are read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded, Item, Model, Role, Settings, TokenVectors, texts
from harness.errors import ModelError, OptionError

SETTINGS = ("query_prompt", "document_prompt")
DIM = 256


def load(name: str, settings: Settings) -> WordLlamaEmbedder:
    """``name`` must be 256, the one size that the wheel carries."""
    if name != str(DIM):
        raise OptionError(f"{name!r} is not in the wheel: write wordllama/{DIM}, the one size it has; smaller dims are measured along")
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("the package wordllama is not installed: pip install wordllama")
    return WordLlamaEmbedder(Path(spec.submodule_search_locations[0]), settings)


class WordLlamaEmbedder:
    """Mean of static token vectors."""

    batch = 256

    def __init__(self, package: Path, settings: Settings) -> None:
        self._weights = package / "weights" / f"l2_supercat_{DIM}.safetensors"
        self._tokenizer_file = package / "tokenizers" / "l2_supercat_tokenizer_config.json"
        for file in (self._weights, self._tokenizer_file):
            if not file.is_file():
                raise ModelError(f"{file} is missing: pip install --force-reinstall wordllama==0.4.0.post1")
        self.model = Model(
            provider="wordllama",
            name=str(DIM),
            revision=hashlib.sha256(self._weights.read_bytes() + self._tokenizer_file.read_bytes()).hexdigest(),
            dim=DIM,
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
            pooling="mean",
            **settings.facts() | {"tokenizer": f"bare:{self._tokenizer_file}"},
        )
        self._table: NDArray[np.float32] = np.empty((0, DIM), dtype=np.float32)
        self._tokenizer: Any = None

    def prepare(self) -> None:
        """Read the token table, ``(vocabulary, 256)``, and the tokenizer."""
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._table = load_file(self._weights)["embedding.weight"].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.embed([Item("starts the tokenizer's threads, so that the first batch is timed like the others")] * 64, "query")

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts of any length."""
        encoded = self._tokenizer.encode_batch_fast(texts(items, self.model.prompt(role)), add_special_tokens=False)
        tokens = np.array([len(one.ids) for one in encoded], dtype=np.int64)
        if not tokens.all():
            raise ModelError(f"text {items[int(np.argmin(tokens))].full!r} has no token in WordLlama's vocabulary")
        ids = np.minimum(np.concatenate([one.ids for one in encoded]), len(self._table) - 1)
        starts = np.concatenate([[0], np.cumsum(tokens)[:-1]])
        means = np.add.reduceat(self._table[ids], starts, axis=0) / tokens[:, None]
        return Embedded(means.astype(np.float32), tokens)

    def layers(self) -> tuple[str, ...]:
        """One: a token has the same vector wherever it stands."""
        return ("static",)

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The rows of the table that each text is the mean of."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ids = [np.minimum(one.ids, len(self._table) - 1) for one in encoded]
        return [
            TokenVectors(np.array(one.offsets, dtype=np.int64).reshape(-1, 2), self._table[None, rows])
            for one, rows in zip(encoded, ids, strict=True)
        ]
