"""What turns items into vectors: the extension point that every adapter in providers/ implements."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError

Role = Literal["document", "query"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
_FACT = {"identity": False}


@dataclass(frozen=True, slots=True)
class Item:
    """What is embedded as one vector: a text with an optional title, an image, or both."""

    text: str = ""
    title: str = ""
    image: Path | None = None

    @property
    def full(self) -> str:
        """Title and text as one string, joined by a blank, as mteb and BEIR do."""
        return f"{self.title} {self.text}".strip()


def texts(items: Sequence[Item], prompt: str = "") -> list[str]:
    """The full texts behind a prompt, for models that read nothing else; raises ModelError for an image without text."""
    for item in items:
        if not item.full:
            raise ModelError(f"reads text only, but {item.image} is an image without text")
    return [prompt + item.full for item in items]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything that changes a vector, and below that a few facts that don't.

    ``dim`` is the native dimension; 0 for systems without vectors, such as BM25. ``revision`` names the exact
    weights. ``max_tokens`` is where the model cuts a text off; None where it reads any length. Prompts are put in
    front of every text of that role. ``options`` is whatever else an adapter's vectors depend on. ``local`` is False where texts are
    sent to a provider.
    """

    provider: str
    name: str
    revision: str
    dim: int
    query_prompt: str = ""
    document_prompt: str = ""
    pooling: str = ""
    max_tokens: int | None = None
    options: tuple[tuple[str, str], ...] = ()

    mrl_dims: tuple[int, ...] = field(default=(), metadata=_FACT)
    licence: str = field(default="", metadata=_FACT)
    usd_per_million_tokens: float = field(default=0.0, metadata=_FACT)
    local: bool = field(default=True, metadata=_FACT)

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}" if self.name else self.provider

    def prompt(self, role: Role) -> str:
        """The prompt for texts of a role."""
        return self.query_prompt if role == "query" else self.document_prompt

    def digest(self) -> str:
        """SHA-256 in hex of all that changes a vector; two models with the same digest give the same vectors."""
        identity = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("identity", True)}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of a batch, ``(n, dim)`` float32 in the order of the items, and what each item cost.

    ``tokens`` is ``(n,)``: how long each item is for this model before anything is cut off; -1 where the model
    cannot tell.
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int64]


@runtime_checkable
class Embedder(Protocol):
    """Makes vectors of items. Adapters batch as they see fit; ``batch`` is how many items are handed over first."""

    model: Model
    batch: int

    def prepare(self) -> None:
        """Load what embedding needs; called before the first ``embed``, and not at all where nothing is missing."""
        ...

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed items in their order; raises ModelError for what a user can mend."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the catalog and the user say of one model; None leaves what the model says of itself.

    The user writes them behind the model's name: ``st/org/name?revision=abc&max_tokens=512``.
    """

    revision: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    max_tokens: Positive | None = None
    device: str | None = None
    trust_remote_code: bool = False
    mrl_dims: tuple[Positive, ...] = ()
    licence: str = ""
    usd_per_million_tokens: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def facts(self) -> dict[str, Any]:
        """The settings that describe a model and change no vector, by the names Model gives them."""
        return {"mrl_dims": self.mrl_dims, "licence": self.licence, "usd_per_million_tokens": self.usd_per_million_tokens}
