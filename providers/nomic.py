"""``nomic/<model>``: Nomic's own API, as ``nomic/nomic-embed-text-v1.5``; key in NOMIC_API_KEY."""

from __future__ import annotations

from collections.abc import Sequence

from harness.embedder import Item, Role, Settings
from harness.http import Http
from harness.remote import API_SETTINGS, Answer, Failure, address, describe, failure, key, limits, plain_text, sized

SETTINGS = API_SETTINGS
KEYS = ("NOMIC_API_KEY",)
PACKAGE = "httpx"
BASE_URL = "https://api-atlas.nomic.ai/v1"


def load(name: str, settings: Settings) -> NomicEndpoint:
    """``name`` is Nomic's own name of the model."""
    return NomicEndpoint(name, settings)


class NomicEndpoint:
    """POST /embedding/text; the server puts the prefix of the role in front."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.model = describe("nomic", name, settings)
        self.limits = limits(settings, items=10, in_flight=10)
        self._size = {"dimensionality": self.model.dim} if sized(settings) else {}
        self._base_url = address(settings, BASE_URL)

    def connect(self) -> None:
        """Find the key and make the client."""
        self._http = Http(self._base_url, {"Authorization": f"Bearer {key(*KEYS)}"}, self.limits.timeout)

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """One request."""
        body = {"model": self.model.name, "texts": plain_text(items), "task_type": f"search_{role}", "long_text_mode": "truncate"}
        reply, headers = self._http.post("embedding/text", body | self._size)
        usage = reply.get("usage") or {}
        return Answer(reply["embeddings"], None, usage.get("total_tokens"), headers)

    def explain(self, error: Exception) -> Failure:
        """Our own client has already said it; a reply without embeddings cannot be read."""
        return error if isinstance(error, Failure) else failure(error, 200, f"{type(error).__name__}: {error}")
