"""What turns items into vectors: the extension point that every adapter in providers/ implements."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError, OptionError

Role = Literal["document", "query"]
Modality = Literal["text", "image"]
Task = Literal["english", "multilingual", "code", "long", "image"]
Compute = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["auto", "torch", "openvino"]
Pooling = Literal["mean", "text-mean", "weighted-mean", "cls", "last", "max", "own"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
PositiveAmount = Annotated[float, msgspec.Meta(gt=0)]
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
    sent to a provider. A price of None is unknown; ``query_usd_per_million_tokens`` is that of queries where another model embeds them.
    ``tokenizer`` is where harness/tokens.py finds what counts this model's tokens.
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
    usd_per_million_tokens: float | None = field(default=0.0, metadata=_FACT)
    query_usd_per_million_tokens: float | None = field(default=None, metadata=_FACT)
    local: bool = field(default=True, metadata=_FACT)
    tokenizer: str = field(default="", metadata=_FACT)

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}" if self.name else self.provider

    def prompt(self, role: Role) -> str:
        """The prompt for texts of a role."""
        return self.query_prompt if role == "query" else self.document_prompt

    def of_role(self, role: Role) -> Model:
        """The model without the prompt of the other role: all that changes the vectors of this one."""
        return replace(self, document_prompt="") if role == "query" else replace(self, query_prompt="")

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

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed items in their order; raises ModelError for what a user can mend."""


def front(template: str, instruction: str | None) -> str:
    """What stands in front of a text: a template with its ``{instruction}`` filled in, and a ``{text}`` at its end left out.

    Raises OptionError where the instruction is missing, and where something follows ``{text}``.
    """
    before, _, behind = template.partition("{text}")
    if behind:
        raise OptionError(f"prompt {template!r} goes on behind {{text}}; a prompt stands in front of the text")
    if "{instruction}" in before and instruction is None:
        raise OptionError(f"prompt {template!r} has no instruction to fill in; give one with instruction=...")
    return before.replace("{instruction}", instruction or "")


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """What a model makes of the tokens of one text: ``offsets`` ``(tokens, 2)``, the characters each begins at and ends before, and
    ``vectors`` ``(layers, tokens, dim)`` float32. A token that stands for no characters, as a special one, ends where it begins.
    """

    offsets: NDArray[np.int64]
    vectors: NDArray[np.float32]


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also shows the vectors of single tokens, before they become one: what ``bakeoff senses`` looks at."""

    model: Model

    def prepare(self) -> None:
        """Load what embedding needs."""

    def layers(self) -> tuple[str, ...]:
        """The names of the layers, from what goes in to what comes out; one for static vectors. Called after ``prepare``."""

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The token vectors of each text as it stands, without a prompt. Raises ModelError where the model has none to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the catalog and the user say of one model; None leaves what the model says of itself.

    The user writes them behind the model's name: ``st/org/name?revision=abc&max_tokens=512``. Which of them a provider
    takes from a user stands in its ``SETTINGS``.
    """

    revision: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    instruction: str | None = None  # what stands for {instruction} in the query's prompt
    document_instruction: str | None = None  # the same in the document's
    max_tokens: Positive | None = None
    device: str | None = None
    compute: Compute | None = None  # the precision of matrix products; auto, the default, is the fastest of the device's own
    engine: Engine | None = None  # what computes them; auto, the default, is the fastest installed
    trust_remote_code: bool = False
    code_revision: str | None = None  # the commit of the code, where that lives in another repository than the weights
    mrl_dims: tuple[Positive, ...] = ()
    licence: str = ""
    usd_per_million_tokens: Amount | None = None

    # of models whose token vectors are pooled here
    pooling: Pooling | None = None
    layer: int | None = None  # of the hidden states: 0 what goes into the first layer, -1 what comes out of the last
    bidirectional: bool = False  # a decoder reads the whole text at every token
    text_tower: str | None = None  # the text model that an image model shares a space with: a folder, or org/name@commit
    weighting: str | None = None  # of the words in their mean
    file: str | None = None  # which of a folder's weights

    # of models behind an API
    base_url: str | None = None
    dim: Positive | None = None  # the native one
    dimensions: Positive | None = None  # to ask the API for, instead of the native ones
    task: str | None = None  # the API's own switch, where it has others than document and query; st's, where a model's code has one
    late_chunking: bool = False
    request_items: Positive | None = None  # the most items of one request
    request_tokens: Positive | None = None  # the most tokens of one request, all items together
    requests_per_minute: PositiveAmount | None = None
    tokens_per_minute: PositiveAmount | None = None
    items_per_minute: PositiveAmount | None = None
    in_flight: Positive | None = None  # the most requests that wait for an answer at once
    timeout: PositiveAmount | None = None  # seconds until a request counts as lost
    tokenizer: str = ""  # see harness/tokens.py

    # of the catalog, for whoever chooses
    modality: tuple[Modality, ...] = ("text",)
    tasks: tuple[Task, ...] = ()
    parameters: Positive | None = None
    space: str = ""  # models of one provider that name the same space may be paired
    usd_source: str = ""
    usd_date: datetime.date | None = None

    def prompts(self, query: str = "", document: str = "") -> dict[str, Any]:
        """The prompts of both roles by the names Model gives them: these settings', else the model's own.

        Raises OptionError for an instruction that no prompt has a place for.
        """
        templates = {
            "query_prompt": query if self.query_prompt is None else self.query_prompt,
            "document_prompt": document if self.document_prompt is None else self.document_prompt,
        }
        told = {"query_prompt": self.instruction, "document_prompt": self.document_instruction}
        for name, instruction in told.items():
            if instruction is not None and "{instruction}" not in templates[name]:
                fix = "as in query_prompt=Instruct: {instruction}%0AQuery: "
                raise OptionError(f"instruction has no effect: {name} has no place for it; write {{instruction}} into it, {fix}")
        return {name: front(template, told[name]) for name, template in templates.items()}

    def facts(self) -> dict[str, Any]:
        """The settings that describe a model and change no vector, by the names Model gives them."""
        return {
            "mrl_dims": self.mrl_dims,
            "licence": self.licence,
            "usd_per_million_tokens": self.usd_per_million_tokens or 0.0,  # what runs here costs nothing a token
            "tokenizer": self.tokenizer,
        }
