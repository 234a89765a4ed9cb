"""``voyage/<model>``: Voyage's text, multimodal and contextualised embeddings, as ``voyage/voyage-4``; key in VOYAGE_API_KEY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.embedder import Item, Role, Settings
from harness.http import message
from harness.remote import API_SETTINGS, Answer, Failure, address, data_url, decoded, describe, failure, key, limits, plain_text, sized

SETTINGS = API_SETTINGS
KEYS = ("VOYAGE_API_KEY",)
PACKAGE = "voyageai"


def load(name: str, settings: Settings) -> VoyageEndpoint:
    """``name`` is Voyage's own name of the model; it decides which of the three addresses is asked."""
    return VoyageEndpoint(name, settings)


class VoyageEndpoint:
    """POST to /embeddings, /multimodalembeddings or /contextualizedembeddings.

    The SDK's resources are called rather than its client, which drops the index of each row and waits by itself.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.model = describe("voyage", name, settings)
        self.limits = limits(settings, items=1000, tokens=120_000)
        self._size = {"output_dimension": self.model.dim} if sized(settings) else {}
        self._kind = next((kind for kind in ("multimodal", "context") if f"-{kind}-" in name), "text")
        self._base_url, self._key = address(settings) if settings.base_url else "", ""

    def connect(self) -> None:
        """Find the key, and make the SDK's sessions refuse redirects."""
        import requests
        import voyageai

        class Session(requests.Session):
            def request(self, *words: Any, **named: Any) -> requests.Response:
                own = {"allow_redirects": False, "auth": lambda sent: sent}  # without auth, ~/.netrc would overrule the key
                reply = super().request(*words, **{**named, **own})
                if not 200 <= reply.status_code < 300:  # the SDK knows some of them only, and of few what the server says
                    raise failure(RuntimeError(), reply.status_code, message(reply.text, reply.reason), reply.headers)
                return reply

        voyageai.requestssession = Session
        self._key = key(*KEYS)
        self._base_url = self._base_url or voyageai.util.get_default_base_url(self._key)  # keys of MongoDB's have an address of their own

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """One request."""
        import voyageai.api_resources

        sdk: Any = voyageai.api_resources
        common = {"api_key": self._key, "base_url": self._base_url, "request_timeout": self.limits.timeout}
        common |= {"model": self.model.name, "input_type": role, "encoding_format": "base64", **self._size}
        if self._kind == "multimodal":
            inputs = [{"content": _parts(item)} for item in items]
            reply = sdk.MultimodalEmbedding.create(inputs=inputs, truncation=True, **common)
        elif self._kind == "context":
            reply = sdk.ContextualizedEmbedding.create(inputs=[[text] for text in plain_text(items)], **common)
        else:
            reply = sdk.Embedding.create(input=plain_text(items), truncation=True, **common)
        rows = [(row.get("index"), row["data"][0] if self._kind == "context" else row) for row in reply["data"]]
        places = None if all(place is None for place, _ in rows) else [place for place, _ in rows]
        return Answer([decoded(row["embedding"]) for _, row in rows], places, reply.get("usage", {}).get("total_tokens"))

    def explain(self, error: Exception) -> Failure:
        """What is left when errors of the server are out: a broken connection, or a reply that cannot be read."""
        from voyageai.error import APIConnectionError, Timeout

        broken = isinstance(error, APIConnectionError | Timeout)
        return failure(error) if broken else failure(error, 200, f"{type(error).__name__}: {error}")


def _parts(item: Item) -> list[dict[str, str]]:
    text = [{"type": "text", "text": item.full}] if item.full else []
    return [*text, *([{"type": "image_base64", "image_base64": data_url(item.image)}] if item.image else [])]
