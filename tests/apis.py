"""What each API says over the wire, from the server's side, and the spec that makes bakeoff ask it: for tests/fault_server.py.

Vectors are sums of hashed words, so that texts that share words are near each other, plus a trace of the role, so that a role that
arrives wrongly changes the numbers. A smaller dimension is a prefix of the largest, scaled to length 1.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 3072
_TRACE = 0.05
Rows = list[tuple[int, NDArray[np.float32]]]
"""The place of each row in the request, and its vector."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for; ``role`` is in the API's own word, empty where it has none."""

    texts: list[str]
    images: list[bytes | None]
    role: str
    dim: int | None


@dataclass(frozen=True, slots=True)
class Api:
    """One protocol: how a request is read, how rows and errors are written, and what a spec for it looks like."""

    spec: str
    keys: tuple[str, ...]
    base: str  # what a base URL has behind the server's own
    path: str  # what is posted to, behind that and with the model's name in it
    read: Callable[[dict[str, Any]], Asked]
    write: Callable[[Rows, int, dict[str, Any]], Any]
    error: Callable[[int, str], Any]
    header: tuple[str, str] = ("authorization", "Bearer ")  # where the key goes
    indexed: bool = True  # whether rows say their place
    image: str = ""  # the spec of a model that reads images


@cache
def _signs(text: str) -> NDArray[np.float64]:
    noise = hashlib.shake_256(text.encode()).digest(LARGEST // 8)
    return np.unpackbits(np.frombuffer(noise, dtype=np.uint8)).astype(np.float64) * 2 - 1


def vector(text: str, role: str, dim: int, image: bytes | None = None) -> NDArray[np.float32]:
    """The unit vector ``(dim,)`` of a text in a role."""
    words = [*re.findall(r"\w+", text.lower()), *([hashlib.sha256(image).hexdigest()] if image else [])]
    total = np.sum([_signs(word)[:dim] for word in words] + [_TRACE * _signs(f"{role}\0{text}")[:dim]], axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def _written(row: NDArray[np.float32], body: dict[str, Any]) -> Any:
    if body.get("encoding_format") == "base64":
        with np.errstate(over="ignore"):
            return base64.b64encode(np.array(row, dtype="<f4").tobytes()).decode()
    return [value if value is None else float(value) for value in row]


def _parts(parts: Sequence[dict[str, Any]]) -> tuple[str, bytes | None]:
    """The text and the image of one item that is made of parts, in the words of Jina, Cohere, Voyage or Gemini."""
    text, image = "", None
    for part in parts:
        text += part.get("text", "")
        found = part.get("image") or part.get("image_base64") or part.get("image_url") or part.get("inlineData")
        if found:
            data = found if isinstance(found, str) else found.get("url") or found["data"]
            image = base64.b64decode(data.rpartition(",")[2])
    return text, image


def _asked(items: Sequence[tuple[str, bytes | None]], role: str | None, dim: int | None) -> Asked:
    return Asked([text for text, _ in items], [image for _, image in items], role or "", dim)


def _read_openai(body: dict[str, Any]) -> Asked:
    items = [(one, None) if isinstance(one, str) else _parts([one]) for one in body["input"]]
    return _asked(items, body.get("task"), body.get("dimensions"))


def _read_mistral(body: dict[str, Any]) -> Asked:
    return _asked([(one, None) for one in body["input"]], None, body.get("output_dimension"))


def _read_nomic(body: dict[str, Any]) -> Asked:
    return _asked([(one, None) for one in body["texts"]], body["task_type"], body.get("dimensionality"))


def _read_gemini(body: dict[str, Any]) -> Asked:
    first = body["requests"][0]
    return _asked([_parts(one["content"]["parts"]) for one in body["requests"]], first.get("taskType"), first.get("outputDimensionality"))


def _read_cohere(body: dict[str, Any]) -> Asked:
    items = [_parts(one["content"]) for one in body["inputs"]] if "inputs" in body else [(one, None) for one in body["texts"]]
    return _asked(items, body["input_type"], body.get("output_dimension"))


def _read_voyage(body: dict[str, Any]) -> Asked:
    given = body.get("input") or body["inputs"]
    items = [(one, None) if isinstance(one, str) else _parts(one["content"]) if isinstance(one, dict) else (one[0], None) for one in given]
    return _asked(items, body["input_type"], body.get("output_dimension"))


def _write_openai(rows: Rows, tokens: int, body: dict[str, Any]) -> Any:
    data = [{"object": "embedding", "index": at, "embedding": _written(row, body)} for at, row in rows]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _write_nomic(rows: Rows, tokens: int, body: dict[str, Any]) -> Any:
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"embeddings": [_written(row, body) for _, row in rows], "usage": usage, "model": body["model"]}


def _write_gemini(rows: Rows, tokens: int, body: dict[str, Any]) -> Any:
    return {"embeddings": [{"values": _written(row, body)} for _, row in rows], "usageMetadata": {"promptTokenCount": tokens}}


def _write_cohere(rows: Rows, tokens: int, body: dict[str, Any]) -> Any:
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
    return {"id": "one", "embeddings": {"float": [_written(row, body) for _, row in rows]}, "meta": meta}


def _write_context(rows: Rows, tokens: int, body: dict[str, Any]) -> Any:
    data = [{"object": "list", "index": at, "data": [{"index": 0, "embedding": _written(row, body)}]} for at, row in rows]
    return {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": tokens}}


def _openai_error(status: int, message: str) -> Any:
    return {"error": {"message": message, "type": "made", "param": None, "code": f"code_{status}"}}


def _gemini_error(status: int, message: str) -> Any:
    return {"error": {"code": status, "message": message, "status": "MADE"}}


def _detail(status: int, message: str) -> Any:
    return {"detail": message}


def _message(status: int, message: str) -> Any:
    return {"message": message}


_VOYAGE: dict[str, Any] = {"keys": ("VOYAGE_API_KEY",), "base": "/v1", "read": _read_voyage, "error": _detail}
_WIRE: dict[str, Any] = {"base": "/v1", "path": "/embeddings", "read": _read_openai, "write": _write_openai}
APIS = {
    "openai": Api("openai/text-embedding-3-small", ("OPENAI_API_KEY",), error=_openai_error, **_WIRE),
    "azure": Api(
        "azure/text-embedding-3-small",
        ("AZURE_OPENAI_API_KEY",),
        error=_openai_error,
        header=("api-key", ""),
        **_WIRE | {"base": "", "path": "/openai/deployments/{model}/embeddings"},
    ),
    "openai-compatible": Api(
        "openai-compatible/some/model?dim=256&usd_per_million_tokens=0.1", ("OPENAI_COMPATIBLE_API_KEY",), error=_openai_error, **_WIRE
    ),
    "mistral": Api("mistral/codestral-embed", ("MISTRAL_API_KEY",), error=_message, **_WIRE | {"read": _read_mistral}),
    "jina": Api("jina/jina-embeddings-v3", ("JINA_API_KEY",), error=_detail, image="jina/jina-embeddings-v4", **_WIRE),
    "nomic": Api(
        "nomic/nomic-embed-text-v1.5",
        *(("NOMIC_API_KEY",), "/v1", "/embedding/text", _read_nomic, _write_nomic, _detail),
        indexed=False,
    ),
    "gemini": Api(
        "gemini/gemini-embedding-001",
        *(("GEMINI_API_KEY", "GOOGLE_API_KEY"), "/v1beta", "/models/{model}:batchEmbedContents"),
        *(_read_gemini, _write_gemini, _gemini_error),
        header=("x-goog-api-key", ""),
        indexed=False,
        image="gemini/gemini-embedding-2",
    ),
    "cohere": Api(
        "cohere/embed-v4.0",
        *(("CO_API_KEY", "COHERE_API_KEY"), "", "/v2/embed", _read_cohere, _write_cohere, _message),
        indexed=False,
        image="cohere/embed-v4.0",
    ),
    "voyage": Api("voyage/voyage-4", path="/embeddings", write=_write_openai, **_VOYAGE),
    "voyage-multimodal": Api(
        "voyage/voyage-multimodal-3.5", path="/multimodalembeddings", write=_write_openai, image="voyage/voyage-multimodal-3.5", **_VOYAGE
    ),
    "voyage-context": Api("voyage/voyage-context-4", path="/contextualizedembeddings", write=_write_context, **_VOYAGE),
}
