"""``gguf/<file>``: a quantized text encoder or decoder in one .gguf file, by llama.cpp.

Through xllamacpp, which carries a llama.cpp of this year in prebuilt wheels; llama-cpp-python has to be compiled, and gpt4all's
llama.cpp is of 2024, knows few architectures and takes no prompts but its own. Prompts are the user's: the file names none. A text is
cut here, at what the file says that the model reads, or at 2,048 tokens, since llama.cpp sets memory aside for the longest text that
may come; ``?max_tokens=`` raises that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from harness.embedder import Embedded, Item, Model, Role, Settings, texts
from harness.errors import ModelError, OptionError
from providers import _gguf
from providers._files import content_hash, given

SETTINGS = ("query_prompt", "document_prompt", "max_tokens", "pooling", "dim", "device")
PACKAGE = "xllamacpp"
MOST_TOKENS = 2048
POOLINGS = {"mean": 1, "cls": 2, "last": 3}
"""Names -> llama.cpp's numbers (enum llama_pooling_type in llama.h)."""


def load(name: str, settings: Settings) -> GgufEmbedder:
    """``name`` is a file. Raises OptionError for a pooling or a length that the model cannot have, ModelError for a damaged file."""
    path = given("gguf", name, "file")
    said = _gguf.read(path)
    family = said.get("general.architecture", "")
    pooling = settings.pooling or {number: word for word, number in POOLINGS.items()}.get(said.get(f"{family}.pooling_type", 0))
    if pooling not in POOLINGS:
        found = f"pooling {pooling!r} is not one of" if pooling else f"{path} names no pooling: add ?pooling= and one of"
        raise OptionError(f"{found} {', '.join(POOLINGS)}")
    positions, dim = said.get(f"{family}.context_length"), settings.dim or said.get(f"{family}.embedding_length")
    if not positions or not dim:
        raise ModelError(f"{path} does not say how many tokens its {family or 'unknown'} model reads, or how many dimensions it has")
    if settings.max_tokens and settings.max_tokens > positions:
        raise OptionError(f"max_tokens {settings.max_tokens} is more than the {positions} positions that the model has")
    model = Model(
        provider="gguf",
        name=name,
        revision=content_hash(path),
        dim=dim,
        query_prompt=settings.query_prompt or "",
        document_prompt=settings.document_prompt or "",
        pooling=pooling,
        max_tokens=settings.max_tokens or min(positions, MOST_TOKENS),
        **settings.facts() | {"licence": settings.licence or str(said.get("general.license", ""))},
    )
    return GgufEmbedder(path, model, settings.device)


class GgufEmbedder:
    """One file behind llama.cpp's own server, in this process; it is loaded by ``prepare``."""

    batch = 8

    def __init__(self, path: Path, model: Model, device: str | None) -> None:
        self.model = model
        self._path, self._device = path, device
        self._server: Any = None
        self._client: httpx.Client | None = None
        self._around: list[int] = []

    def prepare(self) -> None:
        """Load the file; raises ModelError where llama.cpp cannot, or where it gives another dimension than the file says."""
        if self._server is None:
            self._load()
        dim = self.embed([Item("warms up, so that the first batch is timed like the others")], "query").vectors.shape[1]
        if dim != self.model.dim:
            raise ModelError(f"{self._path} gives {dim} dimensions, not {self.model.dim}; add ?dim={dim}")

    def _load(self) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type(POOLINGS[self.model.pooling])
        # one text at a time, whole: what is pooled over all tokens cannot be read in parts
        params.n_parallel = 1
        params.n_ctx = params.n_batch = params.n_ubatch = self.model.max_tokens
        params.verbosity, params.warmup, params.ui = -1, False, False
        if self._device == "cpu":
            params.n_gpu_layers = 0
        elif self._device:
            raise OptionError(f"device {self._device!r} has no effect: llama.cpp takes what it was built for, or ?device=cpu")
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ModelError(f"llama.cpp cannot load {self._path}: {error}") from error
        self._client = httpx.Client(base_url=self._server.listening_address, trust_env=False, timeout=60)
        self._around = self._tokens("")

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts behind the prompt of their role; ``tokens`` counts what llama.cpp's tokenizer makes of them."""
        ids = [self._tokens(text) for text in texts(items, self.model.prompt(role))]
        answer = self._server.handle_embeddings({"input": [self._cut(row) for row in ids]})
        if "data" not in answer:
            raise ModelError(f"llama.cpp refused: {answer.get('error', {}).get('message', answer)}")
        rows = {row["index"]: row["embedding"] for row in answer["data"]}
        vectors = np.array([rows[at] for at in range(len(ids))], dtype=np.float32)
        return Embedded(vectors, np.array([len(row) for row in ids], dtype=np.int64))

    def _tokens(self, text: str) -> list[int]:
        """A text's tokens with those that the model has around it: the package offers that on the server's own address only."""
        assert self._client is not None
        said = {"content": text.encode("utf-8", "replace").decode(), "add_special": True}
        answer = self._client.post("/tokenize", json=said)
        answer.raise_for_status()
        return [int(token) for token in answer.json()["tokens"]]

    def _cut(self, ids: list[int]) -> list[int]:
        """The first of too many tokens; a last one that ends every text stays."""
        most = self.model.max_tokens or len(ids)
        if len(ids) <= most:
            return ids
        end = ids[-1:] if ids[-1] in self._around else []
        return ids[: most - len(end)] + end
