"""``cohere/<model>``: Cohere's embeddings, as ``cohere/embed-v4.0``; key in CO_API_KEY or COHERE_API_KEY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.embedder import Item, Role, Settings
from harness.remote import API_SETTINGS, Answer, Failure, address, closing, data_url, describe, failure, key, limits, sized

SETTINGS = API_SETTINGS
KEYS = ("CO_API_KEY", "COHERE_API_KEY")
PACKAGE = "cohere"
BASE_URL = "https://api.cohere.com"


def load(name: str, settings: Settings) -> CohereEndpoint:
    """``name`` is Cohere's own name of the model."""
    return CohereEndpoint(name, settings)


class CohereEndpoint:
    """POST /v2/embed. Models that read text beside images take both as ``inputs``; the third generation gets texts only."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.model = describe("cohere", name, settings)
        self.limits = limits(settings, items=96, images="image" in settings.modality and "-v3" not in name)
        self._base_url = address(settings, BASE_URL)
        self._size = {"output_dimension": self.model.dim} if sized(settings) else {}

    def connect(self) -> None:
        """Find the key and make the client, without retries or redirects of its own."""
        import cohere
        import httpx

        pool = httpx.Limits(max_keepalive_connections=100)
        http = closing(self, httpx.Client(timeout=self.limits.timeout, follow_redirects=False, limits=pool))
        self._client = cohere.ClientV2(key(*KEYS), base_url=self._base_url, timeout=self.limits.timeout, max_retries=0, httpx_client=http)

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """One request; its replies have no index, they come in order."""
        embed: Any = self._client.with_raw_response.embed
        reply = embed(
            model=self.model.name,
            input_type=f"search_{role}",
            embedding_types=["float"],
            truncate="END",
            request_options={"max_retries": 0},
            **self._contents(items),
            **self._size,
        )
        billed = reply.data.meta and reply.data.meta.billed_units
        used = [units for units in (billed.input_tokens, getattr(billed, "image_tokens", None)) if units is not None] if billed else []
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Answer(reply.data.embeddings.float_ or [], None, round(sum(used)) if used else None, headers)

    def _contents(self, items: Sequence[Item]) -> dict[str, Any]:
        if all(item.image is None for item in items):
            return {"texts": [item.full for item in items]}
        return {"inputs": [{"content": _parts(item)} for item in items]}

    def explain(self, error: Exception) -> Failure:
        """By status code, where there is one."""
        from cohere.core.api_error import ApiError
        from cohere.core.parse_error import ParsingError

        if isinstance(error, ApiError | ParsingError):
            said = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
            return failure(error, error.status_code, str(said or "no message"), error.headers)
        return failure(error)


def _parts(item: Item) -> list[dict[str, Any]]:
    text = [{"type": "text", "text": item.full}] if item.full else []
    return [*text, *([{"type": "image_url", "image_url": {"url": data_url(item.image)}}] if item.image else [])]
