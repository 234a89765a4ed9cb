"""``gemini/<model>``: Google's embeddings, as ``gemini/gemini-embedding-001``; key in GEMINI_API_KEY or GOOGLE_API_KEY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.embedder import Item, Role, Settings
from harness.http import Http
from harness.remote import API_SETTINGS, Answer, Failure, address, data_url, describe, failure, key, limits

SETTINGS = API_SETTINGS
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
PACKAGE = "httpx"
BASE_URL = "https://generativelanguage.googleapis.com/v1beta"
_TASKS: dict[Role, str] = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}


def load(name: str, settings: Settings) -> GeminiEndpoint:
    """``name`` is Google's own name of the model."""
    return GeminiEndpoint(name, settings)


class GeminiEndpoint:
    """POST /models/<name>:batchEmbedContents. The first generation has a switch for roles, the second reads them in the text."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._switch = name == "gemini-embedding-001"
        prompts = {} if self._switch else {"query_prompt": "task: search result | query: ", "document_prompt": "title: none | text: "}
        self.model = describe("gemini", name, settings, **prompts)
        self.limits = limits(settings, items=100)
        self._base_url = address(settings, BASE_URL)

    def connect(self) -> None:
        """Find the key and make the client; the key goes in a header, since addresses end up in logs."""
        self._http = Http(self._base_url, {"x-goog-api-key": key(*KEYS)}, self.limits.timeout)

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """One request."""
        requests = [self._request(item, role) for item in items]
        reply, headers = self._http.post(f"models/{self.model.name}:batchEmbedContents", {"requests": requests})
        usage = reply.get("usageMetadata") or {}
        return Answer([row["values"] for row in reply["embeddings"]], None, usage.get("promptTokenCount"), headers)

    def _request(self, item: Item, role: Role) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": self._text(item, role)}] if item.full else []
        if item.image is not None:
            kind, _, data = data_url(item.image).removeprefix("data:").partition(";base64,")
            parts.append({"inlineData": {"mimeType": kind, "data": data}})
        body: dict[str, Any] = {"model": f"models/{self.model.name}", "content": {"parts": parts}, "outputDimensionality": self.model.dim}
        return body | ({"taskType": _TASKS[role]} if self._switch else {})

    def _text(self, item: Item, role: Role) -> str:
        """The second generation has a place for the title; beside an image it wants no prompt."""
        if self._switch or item.image is not None:
            return item.full
        if role == "document" and item.title:
            return f"title: {item.title} | text: {item.text}"
        return self.model.prompt(role) + item.full

    def explain(self, error: Exception) -> Failure:
        """Our own client has already said it; a reply without embeddings cannot be read."""
        return error if isinstance(error, Failure) else failure(error, 200, f"{type(error).__name__}: {error}")
